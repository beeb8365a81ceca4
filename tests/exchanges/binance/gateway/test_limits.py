"""The gateway between the shared limits and a server that names them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_django.fixtures import Settings

from exchanges import clock
from exchanges.binance.gateway import Gateway
from exchanges.credentials import read_credentials
from exchanges.errors import NotSent, OrderRejected, OutcomeUnknown
from exchanges.limits import budget, redis, sizes
from exchanges.models import ExchangeAccount
from tests.exchanges.binance import binance_answers as binance
from tests.exchanges.binance.gateway.steps import cancel, order_request, place
from tests.exchanges.binance.raw_server import RawServer, answer, close

pytestmark = pytest.mark.usefixtures("redis_server")


@pytest.fixture
def server() -> Iterator[RawServer]:
    server = RawServer()
    yield server
    server.stop()


@pytest.fixture
def gateways(
    server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Gateway, Gateway]]:
    """Two accounts at one address; a minute that does not end within a test."""
    minute = clock.now_ms() // 60_000 * 60_000 + 1000
    monkeypatch.setattr(clock, "now_ms", lambda: minute)
    monkeypatch.setattr(redis, "_away_until", 0.0)
    monkeypatch.setattr(sizes, "budget_of", lambda account: budget.Budget(weight_per_minute=1000))
    made = []
    for name in ("one", "two"):
        monkeypatch.setenv(f"EXCHANGE_{name.upper()}_API_KEY", name)
        monkeypatch.setenv(f"EXCHANGE_{name.upper()}_API_SECRET", "secret")
        monkeypatch.setenv(f"EXCHANGE_{name.upper()}_REST_URL", server.url)
        account = ExchangeAccount(name=name, environment="simulator")
        made.append(Gateway(account, read_credentials(account)))
    yield made[0], made[1]
    for gateway in made:
        gateway.close()


def test_limits__a_429_stops_every_account_of_the_address(
    server: RawServer, gateways: tuple[Gateway, Gateway]
) -> None:
    one, two = gateways
    body = {"code": -1003, "msg": "Too much request weight used."}
    server.then(answer(429, body, headers={"Retry-After": "7"}))
    with pytest.raises(NotSent) as first:
        place(one)
    with pytest.raises(NotSent) as second:
        two.place(order_request())
    assert (first.value.retry_after, len(server.received)) == (7, 1)
    assert second.value.retry_after is not None
    assert 6 < second.value.retry_after <= 7


def test_limits__the_exchanges_own_count_is_believed(
    server: RawServer, gateways: tuple[Gateway, Gateway]
) -> None:
    one, two = gateways
    server.then(
        answer(200, binance.placed(), headers={"X-MBX-USED-WEIGHT-1M": "990"}),
        answer(200, binance.canceled()),
    )
    place(one)
    with pytest.raises(NotSent):
        two.fetch_all_orders(symbol=binance.SYMBOL)
    assert len(server.received) == 1
    assert cancel(two).status == "CANCELED"


def test_limits__an_open_breaker_holds_placements_and_lets_cancels_through(
    server: RawServer, gateways: tuple[Gateway, Gateway], settings: Settings
) -> None:
    one, two = gateways
    settings.BREAKER_FAILURES = 3
    server.then(close)
    for _ in range(3):
        with pytest.raises(OutcomeUnknown):
            place(one)
    with pytest.raises(NotSent):
        place(one)
    assert len(server.received) == 3
    server.then(answer(200, binance.canceled()), answer(200, binance.placed()))
    assert cancel(one).status == "CANCELED"
    assert place(two).status == "FILLED"


def test_limits__a_service_that_shuts_down_opens_the_breaker_and_a_refusal_does_not(
    server: RawServer, gateways: tuple[Gateway, Gateway], settings: Settings
) -> None:
    one, two = gateways
    settings.BREAKER_FAILURES = 3
    server.then(
        answer(
            400, {"code": -2010, "msg": "Account has insufficient balance for requested action."}
        )
    )
    for _ in range(5):
        with pytest.raises(OrderRejected):
            place(one)
    server.then(answer(400, {"code": -1016, "msg": "This service is no longer available."}))
    for _ in range(3):
        with pytest.raises(OutcomeUnknown):
            place(two)
    with pytest.raises(NotSent, match="breaker open"):
        place(two)
    assert len(server.received) == 8


def test_limits__a_page_of_the_firewall_stops_every_account_of_the_address(
    server: RawServer, gateways: tuple[Gateway, Gateway]
) -> None:
    one, two = gateways
    server.then(answer(403, "<html>Request blocked</html>"))
    with pytest.raises(NotSent, match="403"):
        place(one)
    with pytest.raises(NotSent, match="stopped by the exchange"):
        cancel(two)
    assert len(server.received) == 1


def test_limits__too_many_orders_of_one_account_stop_its_placing_alone(
    server: RawServer, gateways: tuple[Gateway, Gateway]
) -> None:
    one, two = gateways
    body = {"code": -1015, "msg": "Too many new orders; current limit is 50 orders per 10 SECOND."}
    server.then(answer(429, body, headers={"Retry-After": "9"}))
    with pytest.raises(NotSent):
        place(one)
    with pytest.raises(NotSent, match="stopped by the exchange"):
        place(one)
    server.then(answer(200, binance.canceled()), answer(200, binance.placed()))
    assert cancel(one).status == "CANCELED"
    assert place(two).status == "FILLED"
    assert len(server.received) == 3
