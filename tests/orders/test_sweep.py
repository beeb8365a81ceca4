"""One account whose questions fail stops only itself, and rests for longer each time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from celery import current_app
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from exchanges import clock
from exchanges.binance.error_table import Transport
from exchanges.binance.http import HttpResult
from exchanges.db import leases
from exchanges.db.leases import lease
from exchanges.errors import OutcomeUnknown
from exchanges.models import AccountSync, ExchangeAccount, Lease, StreamState, TradingState
from orders import due, services, sweep, tasks
from orders.due import due_accounts
from orders.intents import Intent, parse_intent
from orders.models import Order, ReconciliationBreak
from orders.sweep import resolve_unconfirmed, sweep_account
from tests.factories import ExchangeAccountFactory
from tests.fakes import METHODS, FakeExchange

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("without_limits")]


@pytest.fixture
def exchange() -> Iterator[FakeExchange]:
    with FakeExchange({"USDT": "9000000"}).installed() as exchange:
        yield exchange


@pytest.fixture
def accounts(exchange: FakeExchange) -> list[ExchangeAccount]:
    return [ExchangeAccountFactory(name=name) for name in ("bad", "good")]


def parse(account: str, intent_id: str) -> Intent:
    given = {"intent_id": intent_id, "account": account, "symbol": "BTCUSDT", "side": "BUY",
             "order_type": "LIMIT", "quantity": "0.01", "price": "40000"}  # fmt: skip
    return parse_intent(given, now=clock.now())


def submit(account: str, intent_id: str = "i-1") -> Order:
    return services.submit_order(parse(account, intent_id))


def record(account: str, intent_id: str) -> Order:
    return services.record_order(parse(account, intent_id))[0]


def make_unknown(exchange: FakeExchange, account: str, count: int) -> None:
    """Place orders whose answers are lost."""
    for number in range(count):
        exchange.lose_answer("place", executed=True)
        assert submit(account, f"i-{number}").status == "PENDING_NEW"


def answer_none_of(exchange: FakeExchange, account: str) -> list[str]:
    """Lose each question of the account. Return the list of those that were asked."""
    request, asked = exchange.request, list[str]()

    def lost(account_name: str, method: str, parameters: dict[str, str]) -> HttpResult:
        if account_name == account and METHODS[method][2] == "fetch_order":
            asked.append(parameters["origClientOrderId"])
            return HttpResult(Transport.LOST, "no complete answer from the exchange")
        return request(account_name, method, parameters)

    exchange.request = lost  # type: ignore[method-assign]
    return asked


def make_due() -> None:
    Order.objects.filter(next_check_at__isnull=False).update(
        next_check_at=clock.now() - timedelta(seconds=1)
    )


def test_resolve_unconfirmed__an_account_that_cannot_be_asked_stops_only_itself(
    accounts: list[ExchangeAccount], exchange: FakeExchange
) -> None:
    make_unknown(exchange, "bad", 12)
    make_unknown(exchange, "good", 3)
    asked = answer_none_of(exchange, "bad")
    make_due()
    result = resolve_unconfirmed()
    assert (result["looked_at"], result["failed"]) == (6, 3)
    assert len(asked) == 3
    good = Order.objects.filter(account__name="good")
    assert set(good.values_list("status", flat=True)) == {"NEW"}


def test_sweep_account__rests_for_longer_each_time_and_unsent_orders_go_on(
    accounts: list[ExchangeAccount], exchange: FakeExchange
) -> None:
    make_unknown(exchange, "bad", 12)
    request = exchange.request
    asked = answer_none_of(exchange, "bad")
    rests = []
    for _ in range(8):
        Lease.objects.filter(pk="sweep-rests:bad").update(expires_at=Now())
        make_due()
        sweep_account(accounts[0])
        row = Lease.objects.annotate(at=Now()).get(pk="sweep-rests:bad")
        rests.append(round((row.expires_at - row.at).total_seconds()))
    assert rests == [0, 1, 2, 4, 8, 15, 15, 15]
    count = len(asked)
    exchange.refuse_connection("place")
    unsent = submit("bad", "unsent")
    assert unsent.status == "CREATED"
    make_due()
    assert sweep_account(accounts[0])["looked_at"] == 1
    unsent.refresh_from_db()
    assert (unsent.status, len(asked)) == ("NEW", count)
    exchange.request = request  # type: ignore[method-assign]
    Lease.objects.filter(pk="sweep-rests:bad").update(expires_at=Now() - timedelta(seconds=1))
    make_due()
    sweep_account(accounts[0])
    assert not Lease.objects.filter(pk="sweep-rests:bad").exists()
    assert set(Order.objects.values_list("status", flat=True)) == {"NEW"}


def test_sweep_account__counts_again_after_a_person_ended_the_rest(
    accounts: list[ExchangeAccount], exchange: FakeExchange
) -> None:
    make_unknown(exchange, "bad", 3)
    answer_none_of(exchange, "bad")
    for take_away in (leases.release, partial(leases.steal, seconds=5)):
        for _ in range(2):
            Lease.objects.filter(pk="sweep-rests:bad").update(expires_at=Now())
            make_due()
            sweep_account(accounts[0])
        assert Lease.objects.get(pk="sweep-rests:bad").holder == "2 failed questions"
        assert take_away("sweep-rests:bad", reason="go on", actor="boss")
        Lease.objects.filter(pk="sweep-rests:bad").update(expires_at=Now())
        make_due()
        sweep_account(accounts[0])
        assert Lease.objects.get(pk="sweep-rests:bad").holder == "1 failed questions"
        Lease.objects.all().delete()


def test_sweep_account__one_order_that_cannot_be_asked_stops_only_itself(
    accounts: list[ExchangeAccount], exchange: FakeExchange
) -> None:
    make_unknown(exchange, "good", 5)
    make_due()
    exchange.lose_answer("fetch_order", executed=False)
    assert sweep_account(accounts[1]) == {"looked_at": 5, "changed": 4, "failed": 1}


def test_resolve_unconfirmed__enqueues_a_sweep_of_each_other_account(
    accounts: list[ExchangeAccount], exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_unknown(exchange, "bad", 1)
    make_unknown(exchange, "good", 1)
    make_due()
    sent: list[tuple[str, ...]] = []
    monkeypatch.setattr(
        tasks.sweep_account, "apply_async", lambda arguments, **_: sent.append(arguments)
    )
    assert [account.name for account in due_accounts()] == ["bad", "good"]
    assert tasks.resolve_unconfirmed() == {"looked_at": 1, "changed": 1, "failed": 0}
    assert sent == [("good",)]
    assert tasks.sweep_account("good") == {"looked_at": 1, "changed": 1, "failed": 0}


def test_sweep_account__overlapping_runs_do_the_work_once(
    accounts: list[ExchangeAccount], exchange: FakeExchange
) -> None:
    make_unknown(exchange, "good", 1)
    make_due()
    with lease("sweep:good"):
        assert sweep_account(accounts[1])["looked_at"] == 0
    assert sweep_account(accounts[1])["looked_at"] == 1


def test_sweep_account__a_disabled_account_is_finished_and_sends_nothing_new(
    accounts: list[ExchangeAccount], exchange: FakeExchange
) -> None:
    make_unknown(exchange, "good", 1)
    exchange.refuse_connection("place")
    unsent = submit("good", "unsent")
    ExchangeAccount.objects.filter(name="good").update(is_enabled=False)
    make_due()
    placed = len(exchange.calls_of("place"))
    sweep_account(ExchangeAccount.objects.get(name="good"))
    assert dict(Order.objects.values_list("intent_id", "status"))["i-0"] == "NEW"
    assert len(exchange.calls_of("place")) == placed
    unsent.refresh_from_db()
    assert unsent.status in ("CREATED", "DENIED", "NOT_PLACED")
    services.cancel_order(account="good", intent_id="i-0")
    assert Order.objects.get(intent_id="i-0").status == "CANCELED"


def test_resolve_order__an_unreadable_row_proves_no_absence(
    accounts: list[ExchangeAccount], exchange: FakeExchange, settings: Any
) -> None:
    settings.EXCHANGE_READ_LAG_MS = settings.EXCHANGE_ENGINE_TIMEOUT_MS = 0
    settings.EXCHANGE_RECV_WINDOW_MS = 1
    exchange.lose_answer("place", executed=False)
    order = submit("good")
    exchange.offset_ms += 60_000
    exchange.answer_body("fetch_all_orders", [{"symbol": "BTCUSDT", "orderId": 7}])
    attempt = order.exchange_orders.select_related("order").get()
    gateway = exchange.gateway(accounts[1])
    with pytest.raises(OutcomeUnknown, match="can't be read"):
        sweep.resolve_order(gateway, [attempt])
    order.refresh_from_db()
    assert order.status == "PENDING_NEW"


BAD_ROWS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "a stranger's order": ("fetch_all_orders", {"clientOrderId": "web_1", "orderId": 7}, True),
    "an open stranger's order": (
        "fetch_open_orders",
        {"clientOrderId": "web_1", "orderId": 7},
        True,
    ),
    "another order of ours": (
        "fetch_all_orders",
        {"clientOrderId": f"bo-{'a' * 26}-1", "orderId": 7},
        True,
    ),
    "an order of another symbol": (
        "fetch_all_orders",
        {"symbol": "ETHUSDT", "clientOrderId": "web_1", "orderId": 7},
        False,
    ),
    "an order without a number": ("fetch_all_orders", {"clientOrderId": "web_1"}, False),
    "an order without a name": ("fetch_all_orders", {"orderId": 7}, False),
    "a trade of another order": ("fetch_trades", {"id": 3, "orderId": 1}, True),
    "a trade of no order": ("fetch_trades", {"id": 3}, False),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_resolve_order__an_unreadable_row_of_another_order_hides_nothing(
    accounts: list[ExchangeAccount], exchange: FakeExchange, settings: Any, case: str
) -> None:
    known = submit("good", "i-0")
    settings.EXCHANGE_READ_LAG_MS = settings.EXCHANGE_ENGINE_TIMEOUT_MS = 0
    settings.EXCHANGE_RECV_WINDOW_MS = 1
    exchange.lose_answer("place", executed=False)
    order = submit("good")
    exchange.offset_ms += 60_000
    call, row, is_resolved = BAD_ROWS[case]
    if call == "fetch_trades" and "orderId" in row:
        row = {**row, "orderId": int(known.exchange_order_id)}
    exchange.answer_body(call, [{"symbol": "BTCUSDT", **row}])
    if "clientOrderId" in row and "orderId" in row:
        exchange.answer_body("fetch_amendments", [])
    attempt = order.exchange_orders.select_related("order").get()
    with suppress(OutcomeUnknown):
        sweep.resolve_order(exchange.gateway(accounts[1]), [attempt])
    order.refresh_from_db()
    assert (order.status == "CREATED") is is_resolved


@pytest.mark.parametrize("call", ["fetch_open_orders", "fetch_all_orders"])
@pytest.mark.parametrize("is_amended", [False, True])
def test_resolve_order__its_own_unreadable_row_proves_no_absence(
    accounts: list[ExchangeAccount],
    exchange: FakeExchange,
    settings: Any,
    call: str,
    is_amended: bool,
) -> None:
    settings.EXCHANGE_READ_LAG_MS = settings.EXCHANGE_ENGINE_TIMEOUT_MS = 0
    settings.EXCHANGE_RECV_WINDOW_MS = 1
    exchange.lose_answer("place", executed=False)
    order = submit("good")
    exchange.offset_ms += 60_000
    attempt = order.exchange_orders.select_related("order").get()
    row = {"symbol": "BTCUSDT", "orderId": 7}
    name = "web_1" if is_amended else attempt.client_order_id
    exchange.answer_body(call, [{**row, "clientOrderId": name}])
    if is_amended:
        amended = {"origClientOrderId": attempt.client_order_id, "origQty": "1"}
        exchange.answer_body("fetch_amendments", [{**row, **amended}])
    with pytest.raises(OutcomeUnknown):
        sweep.resolve_order(exchange.gateway(accounts[1]), [attempt])
    order.refresh_from_db()
    assert order.status == "PENDING_NEW"


def test_submit_order__a_symbol_that_is_not_permitted_halts_nothing(
    accounts: list[ExchangeAccount], exchange: FakeExchange
) -> None:
    text = "This symbol is not permitted for this account."
    exchange.answer("place", 400, -2010, text)
    assert submit("good").status == "REJECTED"
    accounts[1].refresh_from_db()
    assert accounts[1].trading_state == TradingState.ACTIVE
    found = ReconciliationBreak.objects.get()
    assert (found.kind, found.subject) == ("SYMBOL_NOT_PERMITTED", "BTCUSDT")


def test_sync_accounts__a_healthy_stream_needs_no_reading_of_balances(
    accounts: list[ExchangeAccount], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.now()
    AccountSync.objects.update(last_synced_at=None)
    StreamState.objects.create(account=accounts[1], alive_at=now, in_sync_since=now)
    sent: list[tuple[str, str]] = []

    class Recorder:
        def __init__(self, name: str) -> None:
            self.name = name

        def apply_async(self, arguments: tuple[str, ...], **_: Any) -> None:
            sent.append((self.name, *arguments))  # type: ignore[arg-type]

    monkeypatch.setattr(tasks, "sync_open_orders", Recorder("orders"))
    monkeypatch.setitem(current_app.tasks, "exchanges.sync_balances", Recorder("balances"))
    tasks.sync_accounts()
    assert sorted(sent) == [("balances", "bad"), ("orders", "bad"), ("orders", "good")]


@pytest.mark.parametrize("may_place", [False, True])
def test_sweep_account__unsent_orders_hold_up_no_cancel(
    accounts: list[ExchangeAccount],
    exchange: FakeExchange,
    monkeypatch: pytest.MonkeyPatch,
    may_place: bool,
) -> None:
    """Bots go on recording orders while the broker is silent, and a person cancels one."""
    monkeypatch.setattr(due, "BATCH", 5)
    good = accounts[1]
    open_order = submit("good", "open")
    for number in range(8):
        record("good", f"waits-{number}")
    make_due()
    services.request_cancels([open_order.pk], requested_by="eva", reason="drill")

    sweep_account(good, may_place=may_place)

    open_order.refresh_from_db()
    assert open_order.status == "CANCELED"


def test_stand_in__withdraws_an_unsent_order_and_sends_none(
    accounts: list[ExchangeAccount], exchange: FakeExchange
) -> None:
    order = record("good", "waits")
    Order.objects.filter(pk=order.pk).update(next_check_at=clock.now() + timedelta(hours=1))
    services.request_cancels([order.pk], requested_by="eva", reason="drill")

    sweep_account(accounts[1], may_place=False)

    order.refresh_from_db()
    assert order.status == "CANCELED"
    assert not exchange.calls_of("place")


def copy_orders(order: Order, count: int) -> None:
    """Copy an order with ids of its own."""
    changed = {"id": "gen_random_uuid()", "intent_id": "o.intent_id || '-' || n"}
    columns = [str(field.column) for field in Order._meta.concrete_fields]
    values = ", ".join(changed.get(column, f'o."{column}"') for column in columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO orders_order ({', '.join(columns)}) SELECT {values}"
            f" FROM orders_order o, generate_series(1, {count}) n WHERE o.id = %s",
            [order.pk],
        )
        cursor.execute("ANALYZE orders_order")


def rows_read(statement: str) -> float:
    """Return how many rows a statement reads, with those that its filters throw away."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
        (plan,) = cursor.fetchone()[0]
    waiting, read = [plan["Plan"]], 0.0
    while waiting:
        node = waiting.pop()
        waiting += node.get("Plans", [])
        if node["Node Type"].endswith("Scan"):
            read += node["Actual Loops"] * (
                node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            )
    return read


@pytest.mark.long
@pytest.mark.parametrize("busy", ["another", "the same"])
def test_due_orders__a_backlog_of_thousands_is_not_read(
    accounts: list[ExchangeAccount], exchange: FakeExchange, busy: str
) -> None:
    """100 accounts are swept every 2 s, so none may read the due orders of the others."""
    good, to_cancel = accounts[1], submit("good", "open")
    services.request_cancels([to_cancel.pk], requested_by="eva", reason="drill")
    copy_orders(record("bad" if busy == "another" else "good", "waits"), 20_000)
    Order.objects.filter(intent_id__startswith="waits").update(
        next_check_at=clock.now() - timedelta(hours=1)
    )
    with CaptureQueriesContext(connection) as captured:
        found = due.due_orders(good)

    assert found[0].pk == to_cancel.pk
    read = sum(rows_read(query["sql"]) for query in captured.captured_queries)
    # Two parts of a batch, and the account of each row if the plan looks it up row by row.
    assert read <= 3 * due.BATCH + 10
