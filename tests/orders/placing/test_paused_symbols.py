"""Test a symbol in HALT or BREAK against the simulator.

Its orders wait, other symbols trade on, and it resumes by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F

from exchanges import clock
from exchanges.mirror import instruments
from exchanges.models import ExchangeAccount, Instrument, Lease
from orders import services
from orders.gate.preview import simulate_gate
from orders.intents import parse_intent
from orders.models import EventType, Order
from tests.harness.simulator import Simulator

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.usefixtures("without_limits"),
]

Submit = Callable[..., Order]
LIMIT = {
    "account": "demo",
    "side": "BUY",
    "order_type": "LIMIT",
    "quantity": "0.01",
    "price": "50000",
}
ETHER = {"symbol": "ETHUSDT", "price": "2000"}


@pytest.fixture
def submit(account: ExchangeAccount) -> Submit:
    """Place an order in a known, open market. With `refresh_seconds` 0 every question goes out."""

    def submit(intent_id: str, **changes: Any) -> Order:
        given = {**LIMIT, "symbol": "BTCUSDT", **changes, "intent_id": intent_id}
        return services.submit_order(parse_intent(given, now=clock.now()))

    assert submit("warm-up").status == "NEW"
    assert submit("warm-up-2", **ETHER).status == "NEW"
    return submit


@pytest.fixture
def ask_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instruments, "REFRESH_SECONDS", 0.0)


def placements(simulator: Simulator) -> int:
    return simulator.control.truth().requests["POST /api/v3/order"]


def questions(simulator: Simulator) -> int:
    return simulator.control.truth().requests["GET /api/v3/exchangeInfo"]


def status_of(symbol: str) -> str:
    return Instrument.objects.get(symbol=symbol).status


def drive(order: Order) -> Order:
    return services.place_order(order.pk, is_due=True)


@pytest.mark.parametrize("status", ["HALT", "BREAK"])
@pytest.mark.usefixtures("ask_always")
def test_submit_order__pauses_a_closed_symbol_alone_and_resumes_by_itself(
    submit: Submit, simulator: Simulator, status: str
) -> None:
    simulator.control.set_symbol_status("BTCUSDT", status)
    refused = submit("i-1")
    assert refused.status == "CREATED", "it waits like the next one"
    assert status_of("BTCUSDT") == status
    before = placements(simulator)

    waiting = submit("i-2")

    assert waiting.status == "CREATED"
    event = waiting.events.get(event_type=EventType.WAITING)
    assert f"BTCUSDT has status {status}" in event.details["reason"]
    assert placements(simulator) == before
    assert submit("i-3", **ETHER).status == "NEW"
    assert drive(waiting).status == "CREATED"

    simulator.control.set_symbol_status("BTCUSDT", "TRADING")

    assert drive(waiting).status == "NEW"
    assert drive(refused).status == "NEW"
    assert submit("i-4").status == "NEW"
    assert status_of("BTCUSDT") == "TRADING"


@pytest.mark.usefixtures("ask_always")
def test_place_order__a_paused_symbols_order_is_not_placed_once_its_deadline_passed(
    submit: Submit, simulator: Simulator, account: ExchangeAccount
) -> None:
    simulator.control.set_symbol_status("BTCUSDT", "HALT")
    instruments.sync_instruments(account)
    waiting = submit("i-1")
    assert waiting.status == "CREATED"
    Order.objects.filter(pk=waiting.pk).update(place_by=clock.now() - timedelta(seconds=1))
    closed = drive(waiting)
    assert (closed.status, closed.reason_code) == ("NOT_PLACED", "PAST_DEADLINE")


@pytest.mark.parametrize("status", ["END_OF_DAY", "CANCEL_ONLY"])
def test_submit_order__what_does_not_resume_by_itself_is_denied(
    submit: Submit, simulator: Simulator, account: ExchangeAccount, status: str
) -> None:
    simulator.control.set_symbol_status("BTCUSDT", status)
    instruments.sync_instruments(account)
    denied = submit("i-1")
    assert (denied.status, denied.reason_code) == ("DENIED", "INSTRUMENT_NOT_TRADING")
    assert status in denied.reason


def test_submit_order__an_order_that_could_never_pass_is_denied_though_its_symbol_is_paused(
    submit: Submit, account: ExchangeAccount
) -> None:
    Instrument.objects.filter(symbol="BTCUSDT").update(status="HALT", updated_at=clock.now())
    assert submit("i-1", quantity="0.00000001").reason_code == "ROUNDS_TO_ZERO"


def test_submit_order__a_symbol_that_trades_again_is_asked_about_before_its_order_waits(
    submit: Submit, account: ExchangeAccount
) -> None:
    Instrument.objects.filter(symbol="BTCUSDT").update(status="BREAK", updated_at=clock.now())
    assert submit("i-1").status == "NEW"


def test_refresh_symbol__all_paused_symbols_together_are_asked_about_once_in_a_while(
    submit: Submit, simulator: Simulator, account: ExchangeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    for symbol in ("BTCUSDT", "ETHUSDT"):
        simulator.control.set_symbol_status(symbol, "HALT")
    Instrument.objects.update(status="HALT", updated_at=clock.now())
    before = questions(simulator)
    waiting = [submit(f"i-{number}", **({} if number % 2 else ETHER)) for number in range(6)]
    assert {order.status for order in waiting} == {"CREATED"}
    assert questions(simulator) == before + 1

    for symbol in ("BTCUSDT", "ETHUSDT"):
        simulator.control.set_symbol_status(symbol, "TRADING")
    pause = timedelta(seconds=instruments.REFRESH_SECONDS)
    later = clock.now() + pause
    monkeypatch.setattr(clock, "now", lambda: later)
    Lease.objects.update(expires_at=F("expires_at") - pause)  # They end by the database's clock.

    assert [drive(order).status for order in waiting] == ["NEW"] * 6
    assert questions(simulator) == before + 2


@pytest.mark.usefixtures("ask_always")
def test_refresh_symbol__one_that_is_listed_no_longer_does_not_keep_the_others_paused(
    submit: Submit, account: ExchangeAccount
) -> None:
    Instrument.objects.create(
        environment=account.environment,
        symbol="OLDUSDT",
        base_asset="OLD",
        quote_asset="USDT",
        status="BREAK",
    )
    Instrument.objects.filter(symbol="BTCUSDT").update(status="HALT", updated_at=clock.now())
    assert submit("i-1", symbol="OLDUSDT").reason_code == "INSTRUMENT_NOT_TRADING"
    assert status_of("OLDUSDT") == "DELISTED"
    assert submit("i-2").status == "NEW"


def test_simulate_gate__says_that_a_paused_symbols_order_waits(
    submit: Submit, account: ExchangeAccount
) -> None:
    Instrument.objects.filter(symbol="BTCUSDT").update(status="HALT", updated_at=clock.now())
    answer = simulate_gate({**LIMIT, "symbol": "BTCUSDT"})
    assert (answer.code, answer.text) == ("WAITS", "BTCUSDT has status HALT")
