"""Check positions in the database: the cursor, late fills, prices, and the list of the desk."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from exchanges import clock
from exchanges.models import ExchangeAccount
from orders.models import Position, PositionCursor
from orders.positions import store
from orders.positions.store import advance_positions, positions_of, refresh_prices
from tests.factories import ExchangeOrderFactory, FillFactory, InstrumentFactory, OrderFactory
from tests.fakes import FakeExchange
from tests.harness.simulator import Simulator

pytestmark = pytest.mark.django_db
D = Decimal


@pytest.fixture
def owner() -> ExchangeAccount:
    InstrumentFactory()
    account: ExchangeAccount = OrderFactory(status="NEW").account
    return account


@pytest.fixture
def minute(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that lets a minute pass."""
    now = [clock.now()]
    monkeypatch.setattr(clock, "now", lambda: now[0])

    def passes() -> None:
        now[0] += timedelta(seconds=61)

    return passes


def fill(account: ExchangeAccount, side: str, quantity: str, price: str, **changes: Any) -> None:
    attempt = ExchangeOrderFactory(order=OrderFactory(account=account, status="FILLED", side=side))
    given = {
        "quantity": D(quantity),
        "price": D(price),
        "commission": D(0),
        "side": side,
        **changes,
    }
    FillFactory(exchange_order=attempt, **given)


def the_position(account: ExchangeAccount) -> tuple[Decimal, Decimal, Decimal]:
    [position] = positions_of(account)
    return position.holding.quantity, position.holding.cost, position.holding.realized


def settle(account: ExchangeAccount, minute: Any) -> int:
    advance_positions(account)
    minute()
    return advance_positions(account)["folded"]


def test_positions_of__has_every_fill_at_once(owner: ExchangeAccount) -> None:
    fill(owner, "BUY", "2", "100")
    assert the_position(owner) == (D(2), D(200), D(0))
    fill(owner, "SELL", "1", "130")
    assert the_position(owner) == (D(1), D(100), D(30))
    assert positions_of(owner)[0].holding.base_asset == "BTC"


def test_advance_positions__changes_no_figure(owner: ExchangeAccount, minute: Any) -> None:
    for number in range(7):
        fill(
            owner, "BUY" if number % 3 else "SELL", "0.3", str(100 + number), commission=D("0.0001")
        )
        before = the_position(owner)
        settle(owner, minute)
        assert the_position(owner) == before
    assert Position.objects.get().trades == 6, "the last was seen for the first time just now"


def test_advance_positions__leaves_what_is_younger_than_a_minute(
    owner: ExchangeAccount, minute: Any
) -> None:
    fill(owner, "BUY", "2", "100")
    assert advance_positions(owner)["folded"] == 0
    fill(owner, "BUY", "1", "100")
    minute()
    assert advance_positions(owner)["folded"] == 1
    assert (Position.objects.get().quantity, the_position(owner)[0]) == (D(2), D(3))


def test_advance_positions__folds_in_chunks_as_at_once(
    owner: ExchangeAccount, minute: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        fill(owner, "BUY" if number % 2 else "SELL", "0.7", str(100 + number))
    before = the_position(owner)
    monkeypatch.setattr(store, "CHUNK", 2)
    assert settle(owner, minute) == 9
    assert the_position(owner) == before


def test_advance_positions__puts_fills_of_one_minute_in_the_exchanges_order(
    owner: ExchangeAccount, minute: Any
) -> None:
    now: datetime = clock.now()
    fill(owner, "SELL", "1", "130", traded_at=now, trade_id="12")
    fill(owner, "BUY", "1", "90", traded_at=now, trade_id="11")
    fill(owner, "BUY", "1", "110", traded_at=now - timedelta(seconds=1), trade_id="9")
    expected = (D(1), D(100), D(30))
    assert the_position(owner) == expected
    settle(owner, minute)
    assert the_position(owner) == expected


def test_positions_of__a_fill_that_comes_later_counts_from_its_arrival(
    owner: ExchangeAccount, minute: Any
) -> None:
    fill(owner, "BUY", "1", "100", traded_at=clock.now())
    fill(owner, "SELL", "1", "130", traded_at=clock.now())
    settle(owner, minute)
    fill(owner, "BUY", "1", "90", traded_at=clock.now() - timedelta(hours=1))
    quantity, cost, realized = the_position(owner)
    assert (quantity, cost - realized) == (D(1), D(60)), (
        "quantity and total are what they would be in order"
    )


def test_advance_positions__of_two_processes_one_wins(owner: ExchangeAccount, minute: Any) -> None:
    fill(owner, "BUY", "1", "100")
    advance_positions(owner)
    minute()
    stale = PositionCursor.objects.get()
    advance_positions(owner)
    assert store._advance_chunk(owner, stale) is None
    assert the_position(owner)[0] == D(1)


def test_positions_of__takes_the_same_number_of_queries_for_any_number_of_fills(
    owner: ExchangeAccount, minute: Any
) -> None:
    fill(owner, "BUY", "1", "100")
    settle(owner, minute)
    for _ in range(3):
        fill(owner, "BUY", "1", "100")
    with CaptureQueriesContext(connection) as queries:
        positions_of(owner)
    assert len(queries) == 3


def test_refresh_prices__values_what_is_held_and_commissions(
    account: ExchangeAccount, simulator: Simulator, minute: Any
) -> None:
    InstrumentFactory()
    InstrumentFactory(base_asset="BNB")
    fill(account, "BUY", "2", "50000", commission=D("0.01"), commission_asset="BNB")
    settle(account, minute)
    [unpriced] = positions_of(account)
    assert (unpriced.unrealized, unpriced.realized_net) == (None, None)
    simulator.control.set_price("BTCUSDT", "60000")
    simulator.control.set_price("BNBUSDT", "600")
    assert refresh_prices(account) == 1
    [position] = positions_of(account)
    assert (position.last_price, position.unrealized, position.realized_net) == (
        D(60000),
        D(20000),
        D(-6),
    )


def test_refresh_prices__asks_nothing_while_nothing_was_traded(owner: ExchangeAccount) -> None:
    exchange = FakeExchange()
    with exchange.installed():
        assert refresh_prices(owner) == 0
    assert exchange.calls == []


def test_position_list__shows_every_fill(
    owner: ExchangeAccount, minute: Any, admin_client: Client
) -> None:
    fill(owner, "BUY", "2", "100", commission=D("0.5"), commission_asset="BNB")
    settle(owner, minute)
    fill(owner, "SELL", "0.5", "140")
    Position.objects.update(last_price=D(150))
    page = admin_client.get(reverse("admin:orders_position_changelist")).content.decode()
    for text in ("1.5", "100", "75", "20", "0.5 BNB"):
        assert text in page
