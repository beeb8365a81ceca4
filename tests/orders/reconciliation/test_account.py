"""Reconcile one account against the simulator."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from exchanges import clock
from exchanges.errors import GatewayError
from exchanges.models import Balance, ExchangeAccount, SymbolCatchUp, TradingState
from exchanges.trading_state import halt_trading, resume_trading
from orders import book_identity
from orders.models import BreakKind, ExchangeOrder, Fill, Order, OrderEvent, ReconciliationBreak
from orders.reconciliation.account import reconcile_account
from orders.reconciliation.open_orders import sync_open_orders
from orders.recording.breaks import open_account_break
from orders.sweep import resolve_unconfirmed
from tests.harness.simulator import Simulator
from tests.steps import as_a_restore, client_id, submit

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _market(account: ExchangeAccount, simulator: Simulator, settings: Any) -> None:
    settings.EXCHANGE_READ_LAG_MS = 0
    simulator.control.set_price("BTCUSDT", "60000")


def place_by_hand(simulator: Simulator, client_order_id: str, price: str = "51000") -> None:
    import ccxt

    api = {"public": f"{simulator.url}/api/v3", "private": f"{simulator.url}/api/v3"}
    exchange = ccxt.binance(
        {"apiKey": simulator.api_key, "secret": simulator.api_secret, "urls": {"api": api}}
    )
    exchange.private_post_order(
        {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC",
        "quantity": "0.01",
         "price": price, "newClientOrderId": client_order_id}
    )  # fmt: skip


OPEN_ORDERS = {"method": "GET", "path": "/api/v3/openOrders"}
TRADES = {"method": "GET", "path": "/api/v3/myTrades"}


def their_open_orders(simulator: Simulator) -> list[dict[str, Any]]:
    """Return the exchange's own list of open orders."""
    import ccxt

    api = {"public": f"{simulator.url}/api/v3", "private": f"{simulator.url}/api/v3"}
    exchange = ccxt.binance(
        {"apiKey": simulator.api_key, "secret": simulator.api_secret, "urls": {"api": api}}
    )
    rows: list[dict[str, Any]] = exchange.private_get_openorders({"symbol": "BTCUSDT"})
    return rows


def open_breaks() -> list[tuple[str, str]]:
    rows = ReconciliationBreak.objects.filter(resolved_at__isnull=True)
    return sorted((row.kind, row.subject) for row in rows)


def test_reconcile_account__equal_books_need_nothing(account: ExchangeAccount) -> None:
    submit()
    result = reconcile_account(account)
    assert (result["changed"], result["breaks"]) == (0, 0)


def test_reconcile_account__what_happened_meanwhile_is_applied(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    filled, part, gone = submit("i-1"), submit("i-2"), submit("i-3")
    simulator.control.fill("BTCUSDT", client_order_id=client_id(filled))
    simulator.control.fill("BTCUSDT", client_order_id=client_id(part), quantity="0.003")
    simulator.control.cancel("BTCUSDT", client_order_id=client_id(gone))
    reconcile_account(account)
    Order.objects.filter(next_check_at__isnull=False).update(next_check_at=clock.now())
    resolve_unconfirmed()
    states = dict(Order.objects.values_list("intent_id", "status"))
    assert states == {"i-1": "FILLED", "i-2": "PARTIALLY_FILLED", "i-3": "CANCELED"}
    assert sum(fill.quantity for fill in Fill.objects.all()) == Decimal("0.013")
    for asset, (free, locked) in simulator.control.truth().balances("main").items():
        row = Balance.objects.filter(account=account, asset=asset).first()
        assert (row.free, row.locked) == (free, locked) if row else free == 0
    assert open_breaks() == []


def test_reconcile_account__a_strangers_order_is_recorded_and_followed(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    submit()
    place_by_hand(simulator, "by-hand")
    reconcile_account(account)
    order = Order.objects.get(is_external=True)
    assert (order.status, order.intent_id.partition(":")[0]) == ("NEW", "external")
    simulator.control.fill("BTCUSDT", client_order_id="by-hand")
    reconcile_account(account)
    order.refresh_from_db()
    assert order.status == "FILLED"


def test_reconcile_account__ours_without_a_row_is_recovered(account: ExchangeAccount) -> None:
    lost = client_id(submit())
    with as_a_restore():
        OrderEvent.objects.all().delete()
        ExchangeOrder.objects.all().delete()
        Order.objects.all().delete()
    assert reconcile_account(account)["recovered"] == 1
    order = Order.objects.get()
    assert order.intent_id == f"recovered:{lost.split('-')[1]}"
    assert not order.is_external


def test_reconcile_account__a_book_that_went_back_looks_where_its_assets_trade(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    simulator.control.unfreeze()
    lost = submit(order_type="MARKET", price=None)
    assert lost.status == "FILLED"
    with as_a_restore():
        Fill.objects.all().delete()
        OrderEvent.objects.all().delete()
        ExchangeOrder.objects.all().delete()
        Order.objects.all().delete()
        SymbolCatchUp.objects.all().delete()  # The backup is older than the first trade on it.
    assert reconcile_account(account)["recovered"] == 0
    book_identity.doubt("bo-x-1")
    assert reconcile_account(account)["recovered"] == 1
    assert Order.objects.get().status == "FILLED"


def test_reconcile_account__a_missing_order_is_a_break_once_and_closes_by_itself(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    order = submit()
    submit("i-2")
    hidden = simulator.control.faults.add(
        "respond", match={"method": "GET", "path": "/api/v3/order"}, times=None, status=400,
        body={"code": -2013, "msg": "Order does not exist."},
    )  # fmt: skip
    emptied = simulator.control.faults.add(
        "respond",
        match={"method": "GET", "path": "/api/v3/openOrders"},
        times=None,
        status=200,
        body=[],
    )
    ExchangeOrder.objects.exclude(order=order).update(acknowledged_at=clock.now())
    # One open order alone: two would look like a reset.
    Order.objects.filter(intent_id="i-2").update(status="CANCELED")
    reconcile_account(account)
    reconcile_account(account)
    assert open_breaks() == [
        ("BALANCE_MISMATCH", "USDT"),
        ("MISSING_AT_EXCHANGE", client_id(order)),
    ]
    simulator.control.faults.clear(hidden)
    simulator.control.faults.clear(emptied)
    reconcile_account(account)
    assert open_breaks() == []
    order.refresh_from_db()
    assert order.status == "NEW"


def test_reconcile_account__more_filled_than_ordered_is_named(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    order = submit()
    simulator.control.fill("BTCUSDT", client_order_id=client_id(order), quantity="0.004")
    (row,) = their_open_orders(simulator)
    too_much = {
        **row,
        "status": "FILLED",
        "executedQty": "0.01200000",
        "cummulativeQuoteQty": "600.00000000",
    }
    simulator.control.faults.add(
        "respond", match=OPEN_ORDERS, times=None, status=200, body=[too_much]
    )
    reconcile_account(account)
    reconcile_account(account)
    assert ("OVERFILL", client_id(order)) in open_breaks()
    found = ReconciliationBreak.objects.get(kind="OVERFILL")
    assert found.details == {"ordered": "0.01", "filled": "0.012"}


def test_reconcile_account__trades_that_were_lost_are_fetched(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    order = submit()
    simulator.control.fill("BTCUSDT", client_order_id=client_id(order), quantity="0.004")
    reconcile_account(account)
    assert not Fill.objects.exists()
    Order.objects.update(next_check_at=None)  # No sweep will look at it.
    reconcile_account(account)
    assert [fill.quantity for fill in Fill.objects.all()] == [Decimal("0.004")]
    assert open_breaks() == []


def test_reconcile_account__trades_that_the_exchange_does_not_show_are_named_until_they_come(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    order = submit()
    simulator.control.fill("BTCUSDT", client_order_id=client_id(order), quantity="0.004")
    hidden = simulator.control.faults.add("respond", match=TRADES, times=None, status=200, body=[])
    for _ in range(3):
        reconcile_account(account)
    assert open_breaks() == [("FILL_GAP", client_id(order))]
    simulator.control.faults.clear(hidden)
    reconcile_account(account)
    assert open_breaks() == []
    assert Fill.objects.get().quantity == Decimal("0.004")


def test_reconcile_account__an_order_of_which_the_exchange_shows_less_is_named(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    order = submit()
    rows = their_open_orders(simulator)
    simulator.control.fill("BTCUSDT", client_order_id=client_id(order), quantity="0.004")
    reconcile_account(account)
    reconcile_account(account)  # With its trade.
    stale = simulator.control.faults.add(
        "respond", match=OPEN_ORDERS, times=None, status=200, body=rows
    )
    reconcile_account(account)
    assert ("DIFFERENT_ORDER", client_id(order)) in open_breaks()
    found = ReconciliationBreak.objects.get(kind="DIFFERENT_ORDER")
    assert found.details == {
        "filled": "ours 0.004, theirs 0",
        "status": "ours PARTIALLY_FILLED, theirs NEW",
    }
    order.refresh_from_db()
    assert (order.status, order.filled_quantity) == ("PARTIALLY_FILLED", Decimal("0.004"))
    simulator.control.faults.clear(stale)
    reconcile_account(account)
    assert open_breaks() == []


def test_reconcile_account__an_unknown_status_is_over_when_the_order_is(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    order = submit()
    (row,) = their_open_orders(simulator)
    strange = simulator.control.faults.add(
        "respond", match=OPEN_ORDERS, times=None, status=200, body=[{**row, "status": "DREAMING"}]
    )
    reconcile_account(account)
    assert open_breaks() == [("UNKNOWN_STATUS", client_id(order))]
    simulator.control.faults.clear(strange)
    simulator.control.cancel("BTCUSDT", client_order_id=client_id(order))
    reconcile_account(account)
    assert open_breaks() == []


def test_reconcile_account__a_failed_call_judges_nothing(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    order = submit()
    simulator.control.faults.add(
        "respond", match={"method": "GET"}, times=None, status=503, body="busy"
    )
    with pytest.raises(GatewayError):
        reconcile_account(account)
    order.refresh_from_db()
    assert (order.status, open_breaks()) == ("NEW", [])


def test_reconcile_account__a_reset_exchange_stops_the_account(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    submit("i-1"), submit("i-2")
    simulator.control.wipe()
    reconcile_account(account)
    account.refresh_from_db()
    assert account.trading_state == TradingState.HALTED
    assert open_breaks() == [("EXCHANGE_RESET", "demo")]
    assert set(Order.objects.values_list("status", flat=True)) == {"NEW"}


def test_sync_open_orders__a_reset_exchange_halts_the_account_and_is_reported_once(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    submit("i-1"), submit("i-2")
    simulator.control.wipe()
    sync_open_orders(account)
    account.refresh_from_db()
    assert account.trading_state == TradingState.HALTED
    assert "knows none of our 2 open orders" in account.trading_state_reason
    assert open_breaks() == [("EXCHANGE_RESET", "demo")]
    assert set(Order.objects.values_list("status", flat=True)) == {"NEW"}
    resume_trading(account=account, reason="it is another machine, I know", actor="boss")
    sync_open_orders(account), reconcile_account(account)
    account.refresh_from_db()
    assert (account.trading_state, open_breaks()) == (
        TradingState.ACTIVE,
        [("EXCHANGE_RESET", "demo")],
    )


def test_reconcile_account__a_reset_with_many_orders_is_found_by_a_sample(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    for number in range(25):
        submit(f"i-{number}", quantity="0.001")
    simulator.control.wipe()
    reconcile_account(account)
    assert open_breaks() == [("EXCHANGE_RESET", "demo")]
    assert ReconciliationBreak.objects.get().details == {"orders": 25}
    assert simulator.control.truth().requests["GET /api/v3/order"] <= 2 * 20


def test_reconcile_account__a_refused_key_is_over_when_trading_was_resumed(
    account: ExchangeAccount,
) -> None:
    submit()
    open_account_break(
        account.pk, BreakKind.ACCOUNT_REFUSED, subject="demo", details={"code": -2015}
    )
    halt_trading(account=account, reason="-2015", actor="exchange")
    reconcile_account(account)
    assert open_breaks() == [("ACCOUNT_REFUSED", "demo")]
    resume_trading(account=account, reason="a new key", actor="boss")
    reconcile_account(account)
    assert open_breaks() == []


def test_reconcile_account__money_locked_by_nobody_is_named_until_it_is_free(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    submit()
    simulator.control.lock("USDT", "5")
    reconcile_account(account)
    assert open_breaks() == [("BALANCE_MISMATCH", "USDT")]
    found = ReconciliationBreak.objects.get()
    assert found.details == {"by open orders": "500", "by the exchange": "505"}
    simulator.control.lock("USDT", "-5")
    reconcile_account(account)
    assert open_breaks() == []


def test_reconcile_account__wrong_balances_take_the_exchanges_figures(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    submit()
    reconcile_account(account)
    Balance.objects.filter(asset="USDT").update(free=Decimal(7), locked=Decimal(3))
    Balance.objects.create(
        account=account, asset="DOGE", free=Decimal(1), updated_at=clock.now() - timedelta(days=1)
    )
    reconcile_account(account)
    figures = {row.asset: (row.free, row.locked) for row in Balance.objects.filter(account=account)}
    assert figures == {
        "USDT": (Decimal(99500), Decimal(500)),
        "BTC": (Decimal(1), Decimal(0)),
        "DOGE": (Decimal(0), Decimal(0)),
    }


def test_reconcile_account__a_mismatch_stays_while_it_cannot_be_judged(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    submit()
    simulator.control.lock("USDT", "5")
    reconcile_account(account)
    (row,) = their_open_orders(simulator)
    of_a_list = [{**row, "orderListId": 3}]
    simulator.control.faults.add(
        "respond", match=OPEN_ORDERS, times=None, status=200, body=of_a_list
    )
    reconcile_account(account)
    assert open_breaks() == [("BALANCE_MISMATCH", "USDT")]
