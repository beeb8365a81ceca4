"""Set one bad row, order or symbol aside with a break, and compare all others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from exchanges import clock
from exchanges.binance.error_table import Transport
from exchanges.binance.http import HttpResult
from exchanges.binance.registry import get_gateway
from exchanges.errors import GatewayError, NotSent, OutcomeUnknown
from exchanges.models import ExchangeAccount, StreamState, SymbolCatchUp, TradingState
from exchanges.types import OrderReport, OrderRequest, OrderType, Side, TimeInForce
from orders import services
from orders.intents import parse_intent
from orders.models import ExchangeOrder, Fill, Order, ReconciliationBreak
from orders.reconciliation import histories, unreadable
from orders.reconciliation.account import reconcile_account
from orders.reconciliation.histories import overdue_accounts, read_history
from orders.reconciliation.history import catch_up_symbol, read_on
from orders.reconciliation.open_orders import sync_open_orders
from orders.recording.apply import apply_report
from orders.stream.apply import StreamApplier
from orders.sweep import resolve_unconfirmed
from tests.factories import ExchangeAccountFactory
from tests.fakes import METHODS, FakeExchange

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("without_limits")]

Answer = Callable[[dict[str, str]], HttpResult | None]
Change = Callable[[dict[str, Any]], None]
COMPARERS: dict[str, Callable[[ExchangeAccount], dict[str, int]]] = {
    "sync": sync_open_orders,
    "reconcile": reconcile_account,
}


@pytest.fixture
def exchange() -> Iterator[FakeExchange]:
    balances = {"USDT": "9000000", "BTC": "10"}
    with FakeExchange(balances).installed() as exchange:
        yield exchange


@pytest.fixture
def owner(exchange: FakeExchange, settings: Settings) -> ExchangeAccount:
    settings.EXCHANGE_READ_LAG_MS = 0
    account: ExchangeAccount = ExchangeAccountFactory(name="demo")
    return account


@pytest.fixture(params=[*COMPARERS])
def compare(request: pytest.FixtureRequest) -> Callable[[ExchangeAccount], dict[str, int]]:
    return COMPARERS[request.param]


def submit(intent_id: str = "i-1", symbol: str = "BTCUSDT") -> Order:
    price = {"BTCUSDT": "40000", "ETHUSDT": "2000", "BNBUSDT": "400"}[symbol]
    given = {"intent_id": intent_id, "account": "demo", "symbol": symbol, "side": "BUY",
             "order_type": "LIMIT", "quantity": "0.01", "price": price}  # fmt: skip
    return services.submit_order(parse_intent(given, now=clock.now()))


def client_id(order: Order) -> str:
    return order.exchange_orders.get().client_order_id


def place_by_hand(account: ExchangeAccount, client_order_id: str) -> OrderReport:
    return get_gateway(account).place(
        OrderRequest(
            symbol="BTCUSDT",
            side=Side.BUY,
            order_type=OrderType.LIMIT,
            client_order_id=client_order_id,
            timestamp_ms=clock.now_ms(),
            recv_window_ms=5000,
            quantity=Decimal("0.001"),
            price=Decimal(40000),
            time_in_force=TimeInForce.GTC,
        )
    )


def intercept(exchange: FakeExchange, call: str, answer: Answer) -> Callable[[], None]:
    """Answer this call, unless `answer` returns None. Return a function that ends it."""
    request = exchange.request

    def answered(account_name: str, method: str, parameters: dict[str, str]) -> HttpResult:
        own = answer(parameters) if METHODS[method][2] == call else None
        if own is not None:
            exchange.calls.append((call, dict(parameters)))
        return own or request(account_name, method, parameters)

    exchange.request = answered  # type: ignore[method-assign]

    def stop() -> None:
        exchange.request = request  # type: ignore[method-assign]

    return stop


def alter(exchange: FakeExchange, call: str, change: Change) -> Callable[[], None]:
    """Change each row of this list before it is answered."""
    request = exchange.request

    def altered(account_name: str, method: str, parameters: dict[str, str]) -> HttpResult:
        result = request(account_name, method, parameters)
        if METHODS[method][2] == call and isinstance(result.body, list):
            for row in result.body:
                change(row)
        return result

    exchange.request = altered  # type: ignore[method-assign]

    def stop() -> None:
        exchange.request = request  # type: ignore[method-assign]

    return stop


def refused(code: int, text: str, status: int = 400) -> HttpResult:
    body = {"code": code, "msg": text}
    return HttpResult(Transport.ANSWERED, text, status, body=body, is_json=True, code=code)


def refuse_symbol(exchange: FakeExchange, symbol: str, code: int, text: str) -> None:
    for call in ("fetch_order", "fetch_open_orders", "fetch_all_orders", "fetch_trades"):
        intercept(
            exchange,
            call,
            lambda given: refused(code, text) if given.get("symbol") == symbol else None,
        )
    # The list of all symbols lacks it.
    request = exchange.request

    def without(account_name: str, method: str, parameters: dict[str, str]) -> HttpResult:
        result = request(account_name, method, parameters)
        if METHODS[method][2] == "fetch_open_orders" and isinstance(result.body, list):
            result.body[:] = [row for row in result.body if row["symbol"] != symbol]
        return result

    exchange.request = without  # type: ignore[method-assign]


def open_breaks() -> list[tuple[str, str]]:
    rows = ReconciliationBreak.objects.filter(resolved_at__isnull=True)
    return sorted((row.kind, row.subject) for row in rows)


def assert_compared(account: ExchangeAccount, since: Any) -> None:
    account.refresh_from_db()
    assert account.last_synced_at is not None
    assert account.last_synced_at >= since
    assert account.trading_state == TradingState.ACTIVE


BAD_ROWS: dict[str, dict[str, Any]] = {
    "an empty client id": {"clientOrderId": ""},
    "a quantity of zero": {"origQty": "0.00000000"},
    "a figure that no column holds": {"price": "1" * 25},
    "a side of its own": {"side": "HOLD"},
    "a symbol that no column holds": {"symbol": "B" * 40},
}


@pytest.mark.parametrize("changes", BAD_ROWS.values(), ids=BAD_ROWS)
def test_compare__a_bad_row_stops_only_itself(
    owner: ExchangeAccount,
    exchange: FakeExchange,
    compare: Callable[[ExchangeAccount], dict[str, int]],
    changes: dict[str, Any],
) -> None:
    filled, part = submit("i-1"), submit("i-2")
    number = int(place_by_hand(owner, "by-hand").exchange_order_id)
    exchange.fill(client_id(filled))
    exchange.fill(client_id(part), "0.004")

    def spoil(row: dict[str, Any]) -> None:
        if row["orderId"] == number:
            row.update(changes)

    stop = [alter(exchange, call, spoil) for call in ("fetch_open_orders", "fetch_all_orders")]
    began_at = clock.now()
    compare(owner)
    compare(owner)
    assert_compared(owner, began_at)
    symbol = changes.get("symbol", "BTCUSDT")
    assert open_breaks() == [("UNREADABLE_REPORT", f"{symbol}#{number}")]
    assert dict(Order.objects.values_list("intent_id", "status")) == {
        "i-1": "FILLED",
        "i-2": "PARTIALLY_FILLED",
    }
    stop[0]()
    for row in ReconciliationBreak.objects.all():
        row.details["next_look_at"] = ""
        row.save()
    compare(owner)
    assert open_breaks() == []
    if "symbol" not in changes:
        assert Order.objects.get(is_external=True).status == "NEW"


def test_compare__a_text_longer_than_our_column_is_cut(
    owner: ExchangeAccount,
    exchange: FakeExchange,
    compare: Callable[[ExchangeAccount], dict[str, int]],
) -> None:
    place_by_hand(owner, "by-hand")
    long = {"clientOrderId": "x" * 200, "type": "T" * 200, "timeInForce": "F" * 20}
    alter(exchange, "fetch_open_orders", lambda row: row.update(long))
    compare(owner)
    order = Order.objects.get()
    assert (order.status, order.order_type) == ("NEW", "T" * 32)
    assert open_breaks() == []


def test_compare__a_report_that_cannot_be_stored_stops_only_itself(
    owner: ExchangeAccount,
    exchange: FakeExchange,
    monkeypatch: pytest.MonkeyPatch,
    compare: Callable[[ExchangeAccount], dict[str, int]],
) -> None:
    bad, good = submit("i-1"), submit("i-2")
    exchange.fill(client_id(bad), "0.004")
    exchange.fill(client_id(good), "0.004")

    def fail(attempt: ExchangeOrder, report: OrderReport, **options: Any) -> Order:
        if attempt.order_id == bad.pk:
            raise RuntimeError("a fault of ours")
        return apply_report(attempt, report, **options)

    monkeypatch.setattr("orders.reconciliation.adopt.apply_report", fail)
    began_at = clock.now()
    compare(owner)
    assert_compared(owner, began_at)
    number = bad.exchange_orders.get().exchange_order_id
    assert open_breaks() == [("UNREADABLE_REPORT", f"BTCUSDT#{number}")]
    good.refresh_from_db()
    assert good.filled_quantity == Decimal("0.004")
    monkeypatch.setattr("orders.reconciliation.adopt.apply_report", apply_report)
    compare(owner)
    assert open_breaks() == []
    bad.refresh_from_db()
    assert bad.filled_quantity == Decimal("0.004")


@pytest.mark.parametrize("seconds", [-8, -3, 3, 8])
def test_compare__an_order_with_another_time_in_a_list_is_ours(
    owner: ExchangeAccount,
    exchange: FakeExchange,
    compare: Callable[[ExchangeAccount], dict[str, int]],
    seconds: int,
) -> None:
    """A placement's answer has the engine's time, a list may have that of the arrival."""
    order, filled = submit("i-1"), submit("i-2")
    exchange.fill(client_id(order), "0.004")
    exchange.fill(client_id(filled))

    def shift(row: dict[str, Any]) -> None:
        row["time"] += seconds * 1000

    for call in ("fetch_open_orders", "fetch_all_orders"):
        alter(exchange, call, shift)
    one_order(exchange, shift)
    began_at = clock.now()
    for _ in range(2):
        compare(owner)
    assert_compared(owner, began_at)
    assert open_breaks() == []
    assert dict(Order.objects.values_list("intent_id", "status")) == {
        "i-1": "PARTIALLY_FILLED",
        "i-2": "FILLED",
    }


@pytest.mark.parametrize("symbol", ["币安人生USDT", "BTC USDT", "0", "btcusdt"])
def test_compare__a_symbol_that_the_exchange_lists_and_refuses_stops_only_itself(
    owner: ExchangeAccount,
    exchange: FakeExchange,
    compare: Callable[[ExchangeAccount], dict[str, int]],
    symbol: str,
) -> None:
    order = submit()
    number = int(place_by_hand(owner, "by-hand").exchange_order_id)

    def rename(row: dict[str, Any]) -> None:
        if row["orderId"] == number:
            row["symbol"] = symbol

    stop = alter(exchange, "fetch_open_orders", rename)
    compare(owner)
    assert Order.objects.filter(is_external=True, symbol=symbol).exists()
    stop()
    exchange.cancel("by-hand")
    exchange.fill(client_id(order))
    Order.objects.filter(is_external=True).update(acknowledged_at=clock.now())
    began_at = clock.now()
    for _ in range(2):
        compare(owner)
    assert_compared(owner, began_at)
    assert ("SYMBOL_GONE", symbol) in open_breaks()
    order.refresh_from_db()
    assert order.status == "FILLED"


def one_order(exchange: FakeExchange, change: Change) -> None:
    """Change the answer to each query for one order."""
    request = exchange.request

    def altered(account_name: str, method: str, parameters: dict[str, str]) -> HttpResult:
        result = request(account_name, method, parameters)
        if METHODS[method][2] == "fetch_order" and isinstance(result.body, dict):
            change(result.body)
        return result

    exchange.request = altered  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (-1121, "Invalid symbol.", "SYMBOL_GONE"),
        (
            -1100,
            "Illegal characters found in parameter 'symbol'; legal range is ''.",
            "SYMBOL_GONE",
        ),
        (-1130, "Data sent for parameter 'symbol' is not valid.", "SYMBOL_GONE"),
        (-2010, "This symbol is not permitted for this account.", "SYMBOL_NOT_PERMITTED"),
    ],
)
def test_compare__a_refused_symbol_stops_only_itself(
    owner: ExchangeAccount,
    exchange: FakeExchange,
    compare: Callable[[ExchangeAccount], dict[str, int]],
    code: int,
    text: str,
    kind: str,
) -> None:
    gone, other = submit("i-1", "ETHUSDT"), submit("i-2")
    exchange.fill(client_id(other))
    request = exchange.request
    refuse_symbol(exchange, "ETHUSDT", code, text)
    began_at = clock.now()
    for _ in range(2):
        compare(owner)
    assert_compared(owner, began_at)
    assert (kind, "ETHUSDT") in open_breaks()
    assert [row for row in open_breaks() if row[0].startswith("SYMBOL")] == [(kind, "ETHUSDT")]
    gone.refresh_from_db()
    other.refresh_from_db()
    assert (gone.status, other.status) == ("NEW", "FILLED")
    exchange.request = request  # type: ignore[method-assign]
    SymbolCatchUp.objects.update(looked_at=clock.now() - timedelta(hours=7))
    reconcile_account(owner)
    assert ("SYMBOL_GONE", "ETHUSDT") not in open_breaks()


def test_compare__an_order_that_cannot_be_asked_for_rests_and_stops_only_itself(
    owner: ExchangeAccount,
    exchange: FakeExchange,
    compare: Callable[[ExchangeAccount], dict[str, int]],
) -> None:
    bad, good = submit("i-1"), submit("i-2")
    number = bad.exchange_orders.get().exchange_order_id
    exchange.fill(client_id(bad))
    exchange.fill(client_id(good))
    stop = intercept(
        exchange,
        "fetch_order",
        lambda given: refused(-1000, "busy", 500) if given.get("orderId") == number else None,
    )
    intercept(exchange, "fetch_all_orders", lambda given: _empty())
    began_at = clock.now()
    for _ in range(3):
        compare(owner)
    assert_compared(owner, began_at)
    assert open_breaks() == [("UNREADABLE_REPORT", f"BTCUSDT#{number}")]
    asked = [row.get("orderId") for row in exchange.calls_of("fetch_order")]
    assert asked.count(number) == 1
    good.refresh_from_db()
    assert good.status == "FILLED"
    stop()
    for row in ReconciliationBreak.objects.all():
        row.details["next_look_at"] = ""
        row.save()
    compare(owner)
    bad.refresh_from_db()
    assert (bad.status, open_breaks()) == ("FILLED", [])


def busy(**which: str) -> Answer:
    """Refuse questions with these parameters like an exchange that is busy."""

    def answer(given: dict[str, str]) -> HttpResult | None:
        asked = all(given.get(name) == value for name, value in which.items())
        return refused(-1000, "busy", 500) if asked else None

    return answer


def test_sync__a_symbol_whose_list_fails_stops_only_itself(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    now = clock.now()
    StreamState.objects.create(account=owner, alive_at=now, in_sync_since=now)
    submit("i-1", "ETHUSDT")
    other = submit("i-2")
    exchange.fill(client_id(other))
    intercept(exchange, "fetch_open_orders", busy(symbol="ETHUSDT"))
    sync_open_orders(owner)
    assert_compared(owner, now)
    other.refresh_from_db()
    assert (other.status, open_breaks()) == ("FILLED", [])


def test_compare__trades_that_cannot_be_asked_for_stop_only_their_order(
    owner: ExchangeAccount,
    exchange: FakeExchange,
    compare: Callable[[ExchangeAccount], dict[str, int]],
) -> None:
    bad, good = submit("i-1"), submit("i-2")
    number = bad.exchange_orders.get().exchange_order_id
    for order in (bad, good):
        exchange.fill(client_id(order), "0.004")
    stop = intercept(exchange, "fetch_trades", busy(orderId=number))
    began_at = clock.now()
    for _ in range(2):
        compare(owner)
    StreamApplier(owner).connected(clock.now())
    assert_compared(owner, began_at)
    assert StreamState.objects.get().in_sync_since is not None
    assert set(Fill.objects.values_list("order__intent_id", flat=True)) == {"i-2"}
    stop()
    StreamApplier(owner).connected(clock.now())
    assert Fill.objects.count() == 2
    assert open_breaks() == []


def test_sync__a_symbol_whose_trades_cannot_be_read_in_bulk_stops_only_itself(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    many_open_orders(owner, 10, filled_by=exchange)
    stop = intercept(exchange, "fetch_trades", busy(symbol="BTCUSDT"))
    began_at = clock.now()
    sync_open_orders(owner)
    assert_compared(owner, began_at)
    assert (Order.objects.filter(status="FILLED").count(), Fill.objects.count()) == (10, 0)
    assert Order.objects.filter(next_check_at__isnull=False).count() == 10
    stop()
    Order.objects.update(next_check_at=clock.now())
    resolve_unconfirmed()
    assert Fill.objects.count() == 10


@pytest.mark.parametrize(
    "answer", [refused(-1000, "busy", 500), refused(-1121, "Invalid symbol.")], ids=["busy", "gone"]
)
def test_read_on__a_history_that_cannot_be_read_holds_up_no_other(
    owner: ExchangeAccount, exchange: FakeExchange, answer: HttpResult
) -> None:
    for symbol in ("ETHUSDT", "BTCUSDT"):  # the first one was read longest ago
        SymbolCatchUp.objects.create(account=owner, symbol=symbol, read_until=0)
    place_by_hand(owner, "by-hand")
    intercept(
        exchange,
        "fetch_all_orders",
        lambda given: answer if given.get("symbol") == "ETHUSDT" else None,
    )
    read_on(owner)
    assert Order.objects.get().status == "NEW"
    del exchange.calls[:]
    read_on(owner)
    asked = [given["symbol"] for given in exchange.calls_of("fetch_all_orders")]
    assert asked == ["BTCUSDT"], "the other rests"


def test_compare__an_exchange_that_answers_nothing_is_no_verdict_about_orders(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    for number in range(4):
        exchange.fill(client_id(submit(f"i-{number}")))
    intercept(exchange, "fetch_order", lambda given: refused(-1000, "busy", 500))
    with pytest.raises(OutcomeUnknown):
        sync_open_orders(owner)
    assert open_breaks() == []


def test_look_again__rests_for_longer_each_time(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    number = int(place_by_hand(owner, "by-hand").exchange_order_id)
    alter(exchange, "fetch_open_orders", lambda row: row.update(side="HOLD"))
    intercept(exchange, "fetch_order", lambda given: refused(-1000, "busy", 500))
    pauses: list[str] = []
    for _ in range(3):
        ReconciliationBreak.objects.filter(subject=f"BTCUSDT#{number}").update(
            details={"reader": "openOrders", "looks": len(pauses)}
        )
        sync_open_orders(owner)
        details = ReconciliationBreak.objects.get().details
        pauses.append(details["next_look_at"])
    assert pauses == sorted(pauses)
    assert len(set(pauses)) == 3
    assert unreadable.resting_subjects(owner) == {f"BTCUSDT#{number}"}


def _empty() -> HttpResult:
    return HttpResult(Transport.ANSWERED, "", 200, body=[], is_json=True)


# -- what it costs -------------------------------------------------------------------------------

WEIGHTS = {"fetch_order": 4, "fetch_all_orders": 20, "fetch_account": 20, "fetch_trades": 20}


def weight_of(exchange: FakeExchange) -> int:
    weight = 0
    for call, parameters in exchange.calls:
        if call == "fetch_open_orders":
            weight += 6 if "symbol" in parameters else 80
        elif call == "fetch_trades" and "orderId" in parameters:
            weight += 5
        else:
            weight += WEIGHTS.get(call, 0)
    return weight


def many_open_orders(
    account: ExchangeAccount, count: int, *, filled_by: FakeExchange | None = None
) -> None:
    """Place orders at the exchange, and record them as placed by us and open."""
    now = clock.now()
    orders, attempts = [], []
    for number in range(count):
        report = place_by_hand(account, f"bo-{number}")
        if filled_by is not None:
            engine = filled_by.simulator.engine
            engine.fill("BTCUSDT", int(report.exchange_order_id), None, None)
        order = Order(account=account, intent_id=f"i-{number}", symbol="BTCUSDT", side="BUY",
                      order_type="LIMIT", time_in_force="GTC", quantity=Decimal("0.001"),
                      price=Decimal(40000), status="NEW", attempt=1, acknowledged_at=now,
                      submitted_at=now, exchange_order_id=report.exchange_order_id,
                      next_check_at=None)  # fmt: skip
        orders.append(order)
        attempts.append(
            ExchangeOrder(
                order=order,
                account=account,
                attempt=1,
                client_order_id=f"bo-{number}",
                exchange_order_id=report.exchange_order_id,
                symbol="BTCUSDT",
                outcome="ACKNOWLEDGED",
                exchange_status="NEW",
                quantity=order.quantity,
                price=order.price,
                sent_at=now,
                acknowledged_at=now,
                exchange_updated_at=report.updated_at,
            )
        )
    Order.objects.bulk_create(orders)
    ExchangeOrder.objects.bulk_create(attempts)


def test_sync_open_orders__many_filled_unseen_are_read_in_bulk_with_their_trades(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    many_open_orders(owner, 60)
    for number in range(0, 60, 2):
        exchange.fill(f"bo-{number}", "0.0004")
        exchange.fill(f"bo-{number}")
    del exchange.calls[:]
    sync_open_orders(owner)
    assert weight_of(exchange) <= 160
    assert Order.objects.filter(status="FILLED").count() == 30
    assert Order.objects.filter(status="NEW").count() == 30
    assert not Order.objects.filter(next_check_at__isnull=False).exists()
    assert Fill.objects.count() == 60
    assert open_breaks() == []


@pytest.mark.long
@pytest.mark.parametrize("count", [5000])
def test_sync_open_orders__thousands_filled_unseen_are_caught_up_within_a_minute(
    owner: ExchangeAccount, exchange: FakeExchange, count: int
) -> None:
    with connection.without_time_limits():  # type: ignore[attr-defined]  # one transaction, here
        many_open_orders(owner, count, filled_by=exchange)
        del exchange.calls[:]
        began = time.monotonic()
        sync_open_orders(owner)
        seconds = time.monotonic() - began
    print(f"{count} orders: {seconds:.1f} s, {weight_of(exchange)} of the weight")
    assert Order.objects.filter(status="FILLED").count() == count
    assert Fill.objects.count() == count
    assert weight_of(exchange) < 1500


@pytest.mark.parametrize(
    "count", [237, *(pytest.param(count, marks=pytest.mark.long) for count in (300, 400))]
)
def test_reconcile_account__all_symbols_have_their_turn_again_and_again(
    owner: ExchangeAccount, exchange: FakeExchange, count: int
) -> None:
    SymbolCatchUp.objects.bulk_create(
        SymbolCatchUp(account=owner, symbol=f"S{number}USDT", read_until=0)
        for number in range(count)
    )
    intercept(exchange, "fetch_all_orders", lambda given: _empty())
    for turn in range(1, 3):
        runs = 1
        while reconcile_account(owner).get("history_unread"):
            runs += 1
        assert runs == -(-count // histories.PAGES_PER_RUN)
        asked = [row["symbol"] for row in exchange.calls_of("fetch_all_orders")]
        counts = {asked.count(f"S{number}USDT") for number in range(count)}
        assert min(counts) == turn  # The last run has room left for the oldest.
        assert max(counts) <= 2 * turn
        assert weight_of(exchange) / (runs * turn) < 1500
        SymbolCatchUp.objects.update(looked_at=clock.now() - timedelta(seconds=901))


def test_reconcile_account__a_run_that_the_limits_end_keeps_what_it_read(
    owner: ExchangeAccount, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    SymbolCatchUp.objects.bulk_create(
        SymbolCatchUp(account=owner, symbol=f"S{number}USDT", read_until=0) for number in range(30)
    )
    intercept(exchange, "fetch_all_orders", lambda given: _empty())
    read, turns = catch_up_symbol, iter(range(30))

    def read_ten(*arguments: Any, **options: Any) -> Any:
        if next(turns) == 10:
            raise NotSent("the shared limit is used up", retry_after=20)
        return read(*arguments, **options)

    monkeypatch.setattr("orders.reconciliation.histories.catch_up_symbol", read_ten)
    began_at = clock.now()
    result = reconcile_account(owner)
    assert (result["history_unread"], result["history_waits"]) == (20, 1)
    assert_compared(owner, began_at)
    assert SymbolCatchUp.objects.filter(looked_at__isnull=False).count() == 10
    monkeypatch.setattr("orders.reconciliation.histories.catch_up_symbol", read)
    read_history(owner)
    asked = [row["symbol"] for row in exchange.calls_of("fetch_all_orders")]
    assert (len(asked), len(set(asked))) == (30, 30)


def test_overdue_accounts__are_those_with_a_symbol_whose_turn_is_late(
    owner: ExchangeAccount,
) -> None:
    row = SymbolCatchUp.objects.create(account=owner, symbol="BTCUSDT", looked_at=clock.now())
    everyone = ExchangeAccount.objects.all()
    assert overdue_accounts(everyone) == []
    row.looked_at = clock.now() - timedelta(seconds=1000)
    row.save()
    assert overdue_accounts(everyone) == ["demo"]


def test_read_histories__a_symbol_that_fails_rests_and_the_others_go_on(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    for symbol in ("AAAUSDT", "BTCUSDT", "ETHUSDT"):
        SymbolCatchUp.objects.create(account=owner, symbol=symbol, read_until=0)
    for _ in range(2):
        assert "history_unread" not in reconcile_account(owner)
    asked = [row["symbol"] for row in exchange.calls_of("fetch_all_orders")]
    assert (asked.count("AAAUSDT"), asked.count("BTCUSDT"), asked.count("ETHUSDT")) == (1, 2, 2)
    assert open_breaks() == [("SYMBOL_GONE", "AAAUSDT")]


def test_compare__symbols_come_from_the_catch_ups_and_not_from_all_orders(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    submit()
    place_by_hand(owner, "by-hand")
    with CaptureQueriesContext(
        connection,
    ) as queries:
        reconcile_account(owner)
    assert not [row for row in queries if "DISTINCT" in row["sql"] and "symbol" in row["sql"]]
    assert set(SymbolCatchUp.objects.values_list("symbol", flat=True)) == {"BTCUSDT"}


def test_sync_open_orders__with_a_healthy_stream_lists_only_symbols_with_open_orders(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    now = clock.now()
    StreamState.objects.create(account=owner, alive_at=now, connected_since=now, in_sync_since=now)
    order = submit()
    sync_open_orders(owner)
    assert [row.get("symbol") for row in exchange.calls_of("fetch_open_orders")] == ["BTCUSDT"]
    exchange.fill(client_id(order))
    sync_open_orders(owner)
    order.refresh_from_db()
    assert order.status == "FILLED"
    asked = len(exchange.calls_of("fetch_open_orders"))
    began_at = clock.now()
    sync_open_orders(owner)
    assert len(exchange.calls_of("fetch_open_orders")) == asked
    assert_compared(owner, began_at)
    StreamState.objects.update(in_sync_since=None)
    owner = ExchangeAccount.objects.get()
    sync_open_orders(owner)
    assert "symbol" not in exchange.calls_of("fetch_open_orders")[-1]


def test_compare__a_list_that_fails_judges_nothing(
    owner: ExchangeAccount,
    exchange: FakeExchange,
    compare: Callable[[ExchangeAccount], dict[str, int]],
) -> None:
    submit()
    intercept(exchange, "fetch_open_orders", lambda given: refused(-1000, "busy", 500))
    with pytest.raises(GatewayError):
        compare(owner)
    owner.refresh_from_db()
    assert open_breaks() == []
