"""Let one answer be odd: unreadable, or with a figure that can't be true. The others count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from exchanges import clock
from exchanges.binance.error_table import Transport
from exchanges.binance.http import HttpResult
from exchanges.binance.registry import get_gateway
from exchanges.binance.stream_messages import BalancesEvent, read_event
from exchanges.errors import GatewayError
from exchanges.mirror.balances import release_covered, sync_balances
from exchanges.mirror.instruments import sync_instruments
from exchanges.models import Balance, ExchangeAccount, Instrument, Lease, Reservation, SymbolCatchUp
from orders.ids import client_order_id, hash_for
from orders.models import Order, ReconciliationBreak
from orders.positions.today import results_today
from orders.reconciliation.account import reconcile_account
from orders.reconciliation.history import catch_up_symbol
from orders.reconciliation.open_orders import sync_open_orders
from orders.stream.apply import StreamApplier
from orders.sweep import resolve_unconfirmed
from tests import steps
from tests.factories import ExchangeAccountFactory
from tests.fakes import METHODS, FakeExchange
from tests.orders.reconciliation.test_compare import (
    alter,
    client_id,
    intercept,
    place_by_hand,
    refused,
)
from tests.orders.stream.test_apply import report_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("without_limits")]

NOTHING = HttpResult(Transport.ANSWERED, "", 200, body=[], is_json=True)
Sync = Callable[[ExchangeAccount], object]


@pytest.fixture
def exchange() -> Iterator[FakeExchange]:
    with FakeExchange({"USDT": "900000", "BTC": "1"}).installed() as exchange:
        yield exchange


@pytest.fixture
def owner(exchange: FakeExchange, settings: Settings) -> ExchangeAccount:
    settings.EXCHANGE_READ_LAG_MS = 0
    return ExchangeAccountFactory(name="demo")


def submit(intent_id: str = "i-1", **changes: Any) -> Order:
    return steps.submit(intent_id, **{"place_within_seconds": 600, **changes})


def market(intent_id: str, side: str = "BUY") -> Order:
    return submit(intent_id, side=side, order_type="MARKET", price=None)


def sweep() -> None:
    Order.objects.filter(next_check_at__isnull=False).update(next_check_at=clock.now())
    Lease.objects.all().delete()
    resolve_unconfirmed()


def change(exchange: FakeExchange, call: str, how: Callable[[Any], None]) -> Callable[[], None]:
    """Let `how` change each answer to this call. Return the way back."""
    request = exchange.request

    def changed(account_name: str, method: str, parameters: dict[str, str]) -> HttpResult:
        result = request(account_name, method, parameters)
        if METHODS[method][2] == call and result.body:
            how(result.body)
        return result

    def stop() -> None:
        exchange.request = request  # type: ignore[method-assign]

    exchange.request = changed  # type: ignore[method-assign]
    return stop


def in_ms(**ahead: int) -> int:
    return clock.now_ms() + timedelta(**ahead) // timedelta(milliseconds=1)


# -- Some orders among others --------------------------------------------------------------------


def bad_answers(exchange: FakeExchange, bad: set[str], how: str) -> None:
    """Let queries about these orders fail: with an unreadable answer, or with HTTP 500."""

    def spoil(row: dict[str, Any]) -> None:
        if str(row.get("orderId")) in bad:
            row["side"] = "HOLD"

    if how == "unreadable":
        change(exchange, "fetch_order", spoil)
        return
    intercept(
        exchange,
        "fetch_order",
        lambda given: refused(-1000, "busy", 500) if given.get("orderId") in bad else None,
    )


@pytest.mark.parametrize("how", ["unreadable", "busy"])
@pytest.mark.parametrize("sync", [sync_open_orders, reconcile_account])
def test_sync__three_bad_orders_in_a_row_hold_up_no_other(
    owner: ExchangeAccount, exchange: FakeExchange, sync: Sync, how: str
) -> None:
    orders = [submit(f"i-{number}") for number in range(4)]
    for order in orders:
        exchange.fill(client_id(order))
    intercept(exchange, "fetch_all_orders", lambda given: NOTHING)
    bad_answers(exchange, {row.exchange_orders.get().exchange_order_id for row in orders[:3]}, how)
    for _ in range(3):
        try:
            sync(owner)
        except GatewayError:
            assert how == "busy"  # Three failures in a row may be the exchange.
    orders[3].refresh_from_db()
    assert orders[3].status == "FILLED"
    assert ReconciliationBreak.objects.filter(kind="UNREADABLE_REPORT").count() >= 3


def test_sync__an_exchange_that_answers_nothing_opens_no_break(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    for number in range(5):
        exchange.fill(client_id(submit(f"i-{number}")))
    intercept(exchange, "fetch_all_orders", lambda given: NOTHING)
    intercept(exchange, "fetch_order", lambda given: refused(-1000, "busy", 500))
    with pytest.raises(GatewayError):
        sync_open_orders(owner)
    assert not ReconciliationBreak.objects.exists()


def test_sweep__three_unreadable_answers_in_a_row_hold_up_no_other(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    orders = []
    for number in range(5):
        exchange.lose_answer("place", executed=True)
        orders.append(submit(f"i-{number}"))
    bad = {row.exchange_orders.get().client_order_id for row in orders[:3]}

    def spoil(row: dict[str, Any]) -> None:
        if row.get("clientOrderId") in bad:
            row["side"] = "HOLD"

    change(exchange, "fetch_order", spoil)
    for number, order in enumerate(orders):
        due_at = clock.now() - timedelta(seconds=60 - number)
        Order.objects.filter(pk=order.pk).update(next_check_at=due_at)
    Lease.objects.all().delete()
    resolve_unconfirmed()
    assert [Order.objects.get(pk=order.pk).status for order in orders[3:]] == ["NEW", "NEW"]


# -- Times that can't be true --------------------------------------------------------------------


def test_catch_up__an_order_of_next_month_holds_up_no_later_reading(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    number = int(place_by_hand(owner, "ahead").exchange_order_id)
    ahead = in_ms(days=30)
    alter(
        exchange,
        "fetch_all_orders",
        lambda row: row.update(time=ahead, updateTime=ahead) if row["orderId"] == number else None,
    )
    for name in ("one", "two", "three"):
        place_by_hand(owner, name)
    catch_up_symbol(owner, "BTCUSDT", include_external=True)
    catch_up_symbol(owner, "BTCUSDT", include_external=True)
    assert (SymbolCatchUp.objects.get().read_until or 0) >= number


def test_release_covered__frees_the_money_of_an_order_of_the_next_hour(
    owner: ExchangeAccount, exchange: FakeExchange, settings: Settings
) -> None:
    settings.EXCHANGE_RECV_WINDOW_MS = settings.EXCHANGE_ENGINE_TIMEOUT_MS = 1
    change(exchange, "place", lambda row: row.update(transactTime=in_ms(hours=1)))
    submit()
    sync_balances(owner)
    release_covered()
    assert not Reservation.objects.exists()


def test_results_today__count_a_fill_of_another_decade(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    change(exchange, "place", lambda row: row.update(transactTime=in_ms(days=4_000)))
    assert market("i-1").status == "FILLED"
    assert market("i-2", "SELL").status == "FILLED"
    assert results_today(owner.pk, "USDT", clock.now())


def test_balances__stamped_ahead_hide_no_later_ones(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    live = StreamApplier(owner)
    for updated_at, free in ((in_ms(hours=1), "7"), (clock.now_ms(), "5")):
        row = {"a": "USDT", "f": free, "l": "0"}
        message = {"e": "outboundAccountPosition", "E": clock.now_ms(), "u": updated_at, "B": [row]}
        event = read_event(message)
        assert isinstance(event, BalancesEvent)
        live.apply(event)
    assert Balance.objects.get(asset="USDT").free == 5


# -- Other fields --------------------------------------------------------------------------------


@pytest.mark.parametrize("execution_id", ["abc", 10**30, {}])
def test_apply__an_odd_execution_id_costs_no_event(
    owner: ExchangeAccount, exchange: FakeExchange, execution_id: Any
) -> None:
    order = submit()
    report = report_of(order, I=execution_id)
    assert report.execution_id == ""
    StreamApplier(owner).apply(report)


@pytest.mark.parametrize("theirs", [{"quantity": "0.05"}, {"side": "SELL"}])
def test_place__our_id_on_a_strangers_order_is_not_taken_for_ours(
    owner: ExchangeAccount, exchange: FakeExchange, theirs: dict[str, str]
) -> None:
    hashed = hash_for(environment=owner.environment, account="demo", intent_id="i-1")
    submit("i-0")
    given = {"quantity": "0.01", "price": "60000"} | theirs
    exchange.place_by_hand(owner, client_order_id(hashed, 1), **given)
    change(exchange, "fetch_order", lambda row: row.update(time=row["time"] - 3_600_000))
    order = submit(quantity="0.01", price="60000")
    assert order.filled_quantity == 0
    assert order.status == "PENDING_NEW"
    assert order.exchange_orders.get().exchange_order_id == ""
    assert ReconciliationBreak.objects.filter(kind="CLIENT_ID_REUSED").exists()


def test_sync__more_decimals_than_we_store_change_no_row_twice(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    order = submit()
    exchange.fill(client_id(order), "0.004")
    alter(
        exchange,
        "fetch_open_orders",
        lambda row: row.update(executedQty="0.0040000000000000000004"),
    )
    sync_open_orders(owner)
    order.refresh_from_db()
    version = order.version
    for _ in range(3):
        sync_open_orders(owner)
    order.refresh_from_db()
    assert order.version == version
    assert order.filled_quantity in (0, Decimal("0.004"))


def test_sync_instruments__odd_rate_limits_cost_no_rules(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    change(exchange, "fetch_instruments", lambda row: row.update(rateLimits={"a": 1}))
    sync_instruments(owner)
    assert Instrument.objects.filter(symbol="BTCUSDT").exists()


def test_candles__leave_out_the_row_that_cannot_be_read(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    def ask() -> list[Any]:
        end = clock.now_ms()
        gateway = get_gateway(owner)
        return gateway.fetch_candles("BTCUSDT", interval="1m", start_ms=end - 600_000, end_ms=end)

    whole = len(ask())
    change(exchange, "fetch_candles", lambda rows: rows.append([rows[0][0], None, *rows[0][2:]]))
    assert len(ask()) == whole > 0
