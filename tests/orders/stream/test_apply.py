"""Apply stream events to the book one by one; a failed event does not cost the next one."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from django.db import InternalError, OperationalError
from psycopg.errors import ReadOnlySqlTransaction
from pytest_django.fixtures import Settings

from exchanges import clock
from exchanges.binance.http import HttpResult
from exchanges.binance.registry import get_gateway
from exchanges.binance.stream_messages import Bad, Connected, StreamEvent, read_event
from exchanges.errors import GatewayError, OrderNotFound
from exchanges.mirror.balances import ensure_balances
from exchanges.mirror.instruments import sync_instruments
from exchanges.models import AccountSync, Balance, ExchangeAccount, Lease, Reservation, StreamState
from orders.models import ExchangeOrder, Fill, Order, ReconciliationBreak
from orders.reconciliation.account import reconcile_account
from orders.reconciliation.open_orders import sync_open_orders
from orders.reconciliation.questions import ask_for
from orders.stream import again, listener
from orders.stream.apply import StreamApplier, store_states
from orders.sweep import resolve_unconfirmed
from tests import steps
from tests.factories import ExchangeAccountFactory
from tests.fakes import METHODS, FakeExchange

pytestmark = pytest.mark.django_db
D = Decimal


@pytest.fixture
def exchange() -> Iterator[FakeExchange]:
    with FakeExchange().installed() as exchange:
        yield exchange


@pytest.fixture
def owner(exchange: FakeExchange) -> ExchangeAccount:
    account: ExchangeAccount = ExchangeAccountFactory(name="demo")
    return account


submit = partial(steps.submit, quantity="0.1", price="40000")


def report_of(order: Order, **changes: Any) -> Any:
    """Build an execution report of the order, like Binance's."""
    attempt = order.exchange_orders.get()
    now = clock.now_ms()
    changes.setdefault("i", int(attempt.exchange_order_id or -1))
    row = {
        "e": "executionReport", "E": now, "s": order.symbol, "c": attempt.client_order_id,
        "S": "BUY", "o": "LIMIT",
        "f": "GTC", "q": "0.10000000", "p": "40000.00000000", "P": "0.00000000", "F": "0.00000000",
        "g": -1, "C": "",
        "x": "NEW", "X": "NEW", "r": "NONE", "l": "0.00000000",
        "z": "0.00000000", "L": "0.00000000", "n": "0", "N": None, "T": now, "t": -1, "I": now,
        "w": True,
        "m": False, "O": now, "Z": "0.00000000", "Y": "0.00000000", "Q": "0.00000000", **changes,
    }  # fmt: skip
    return read_event(row)


def trade_of(order: Order, number: int, **changes: Any) -> Any:
    return report_of(
        order,
        **{"x": "TRADE", "X": "PARTIALLY_FILLED", "l": "0.04000000", "z": "0.04000000",
           "L": "40000.00000000", "t": number, "Z": "1600.00000000", "Y": "1600.00000000",
           "n": "0.00004000", "N": "BTC", **changes},
    )  # fmt: skip


def test_apply__refused_orders_without_a_number_are_orders_of_their_own(
    owner: ExchangeAccount,
) -> None:
    """The second half of a cancel-replace may be refused, and such an order has no number."""
    order, live = submit(), StreamApplier(owner)
    for client_order_id in ("web_1", "web_2"):
        live.apply(report_of(order, c=client_order_id, x="REJECTED", X="REJECTED", i=-1))
    external = Order.objects.filter(is_external=True)
    assert [*external.values_list("status", "exchange_order_id")] == [("REJECTED", "")] * 2
    owner.refresh_from_db()
    assert (owner.trading_state, ReconciliationBreak.objects.count()) == ("ACTIVE", 0)


@pytest.mark.parametrize("number", [-1, 77])
def test_apply__a_refusal_that_waits_for_newer_rules_is_not_final(
    owner: ExchangeAccount, exchange: FakeExchange, number: int
) -> None:
    """The exchange refuses the order, and the stream says so, while its market is closed."""
    sync_instruments(owner)
    exchange.set_status("BTCUSDT", "BREAK")
    exchange.answer("place", 400, -1013, "Market is closed.")
    order = submit()
    assert order.status == "CREATED"
    StreamApplier(owner).apply(report_of(order, x="REJECTED", X="REJECTED", i=number))
    order.refresh_from_db()
    assert (order.status, ReconciliationBreak.objects.count()) == ("CREATED", 0)
    exchange.set_status("BTCUSDT", "TRADING")
    Order.objects.update(next_check_at=clock.now())
    Lease.objects.all().delete()
    resolve_unconfirmed()
    order.refresh_from_db()
    assert (order.status, order.attempt) == ("NEW", 2)


def refused_by_stream_first(
    owner: ExchangeAccount, exchange: FakeExchange, answer: Callable[[], object]
) -> Order:
    """Submit an order whose refusal the stream tells before the answer arrives."""
    sync_instruments(owner)
    sending = exchange.request

    def request(account_name: str, method: str, parameters: dict[str, str]) -> HttpResult:
        if METHODS[method][2] == "place":
            exchange.request = sending  # type: ignore[method-assign]
            order = Order.objects.get(status="PENDING_NEW")
            refusal = report_of(order, x="REJECTED", X="REJECTED", r="MARKET_CLOSED", i=-1)
            StreamApplier(owner).apply(refusal)
            order.refresh_from_db()
            assert order.status == "PENDING_NEW", "the answer decides"
            answer()
        return sending(account_name, method, parameters)

    exchange.request = request  # type: ignore[method-assign]
    return submit()


def test_apply__a_refusal_before_the_answer_leaves_the_order_waiting_for_its_market(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    def close_the_market() -> None:
        exchange.set_status("BTCUSDT", "BREAK")
        exchange.answer("place", 400, -1013, "Market is closed.")

    order = refused_by_stream_first(owner, exchange, close_the_market)
    order.refresh_from_db()
    assert (order.status, ReconciliationBreak.objects.count()) == ("CREATED", 0)
    exchange.set_status("BTCUSDT", "TRADING")
    Order.objects.update(next_check_at=clock.now())
    Lease.objects.all().delete()
    resolve_unconfirmed()
    order.refresh_from_db()
    assert (order.status, order.attempt) == ("NEW", 2)


def test_apply__a_refusal_whose_answer_is_lost_is_final(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    lose = partial(exchange.lose_answer, "place", executed=False)
    order = refused_by_stream_first(owner, exchange, lose)
    assert order.status == "PENDING_NEW"
    Order.objects.update(next_check_at=clock.now())
    resolve_unconfirmed()
    order.refresh_from_db()
    assert (order.status, order.reason, order.next_check_at) == ("REJECTED", "MARKET_CLOSED", None)
    assert not Reservation.objects.exists()


@pytest.mark.parametrize(
    "bad",
    [
        {"n": None},
        {"n": 0.1},
        {"N": 7},
        {"m": None},
        {"t": None},
        {"t": "seven"},
        {"t": 2**70},
        {"l": None},
        {"L": ""},
        {"Y": None},
    ],
    ids=str,
)
def test_apply__a_trade_that_cannot_be_read_costs_only_itself_and_is_fetched(
    owner: ExchangeAccount, exchange: FakeExchange, bad: dict[str, Any]
) -> None:
    order, live = submit(), StreamApplier(owner)
    exchange.fill(steps.client_id(order), "0.04", "40000")
    live.apply(trade_of(order, 7, **bad))
    order.refresh_from_db()
    assert (order.status, order.filled_quantity) == ("PARTIALLY_FILLED", D("0.04"))
    assert order.next_check_at is not None
    Order.objects.update(next_check_at=clock.now())
    resolve_unconfirmed()
    assert Fill.objects.get().quantity == D("0.04")
    assert ReconciliationBreak.objects.count() == 0


@pytest.mark.parametrize("event_at", [0, -1, 1, 4_000_000_000_000])
def test_apply__an_event_without_a_sensible_time_leaves_the_state_storable(
    owner: ExchangeAccount, exchange: FakeExchange, event_at: int
) -> None:
    """The states of all streams are stored in one statement."""
    order, live = submit(), StreamApplier(owner)
    live.apply(report_of(order, x="CANCELED", X="CANCELED", E=event_at))
    order.refresh_from_db()
    assert order.status == "CANCELED"
    live.connected(clock.now())
    store_states([live])
    assert StreamState.objects.filter(lag_ms__range=(0, 86_400_000)).exists()


def balances_event(**changes: Any) -> Any:
    now = clock.now_ms()
    good = {"a": "BTC", "f": "0.25000000", "l": "0.00000000"}
    return read_event({"e": "outboundAccountPosition", "E": now, "u": now, "B": [good], **changes})


@pytest.mark.parametrize(
    "bad",
    [
        {"a": "ETH", "f": None, "l": "0"},
        {"a": "ETH", "f": 1.0, "l": "0"},
        {"a": "E" * 40, "f": "1", "l": "0"},
        {"f": "1", "l": "0"},
        None,
    ],
    ids=str,
)
def test_apply__a_bad_balance_costs_only_itself_and_is_read_again(
    owner: ExchangeAccount, exchange: FakeExchange, bad: Any
) -> None:
    good = {"a": "BTC", "f": "0.25000000", "l": "0.00000000"}
    exchange.answer("fetch_account", 500, -1000, "busy")
    event = balances_event(B=[good, bad, good])
    with suppress(GatewayError):
        StreamApplier(owner).apply(event)
    assert Balance.objects.get(asset="BTC").free == D("0.25")
    assert ReconciliationBreak.objects.get().kind == "UNREADABLE_EVENT"
    assert exchange.calls_of("fetch_account")


def test_apply__balances_without_a_time_of_change_have_that_of_the_event(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    StreamApplier(owner).apply(balances_event())
    good = {"a": "BTC", "f": "0.50000000", "l": "0.00000000"}
    later = clock.now_ms() + 1000
    StreamApplier(owner).apply(balances_event(B=[good], u=0, E=later))
    assert Balance.objects.get(asset="BTC").free == D("0.5")


def test_apply__an_amended_order_is_followed_under_its_new_name(owner: ExchangeAccount) -> None:
    order, live = submit(), StreamApplier(owner)
    ours = order.exchange_orders.get().client_order_id
    live.apply(report_of(order, x="REPLACED", c="amended-by-hand", C=ours, q="0.08000000"))
    live.apply(trade_of(order, 7, c="amended-by-hand"))
    order.refresh_from_db()
    assert (order.status, order.filled_quantity, Order.objects.count()) == (
        "PARTIALLY_FILLED",
        D("0.04"),
        1,
    )
    assert order.exchange_orders.get().client_order_id == ours


def test_sync_open_orders__an_amended_order_is_no_missing_one(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    order = submit()
    attempt = order.exchange_orders.get()
    ExchangeOrder.objects.update(acknowledged_at=clock.now() - timedelta(minutes=1))
    there = exchange._order(attempt.client_order_id)
    there.client_order_id = "amended-by-hand"
    assert sync_open_orders(owner)["asked"] == 0
    assert Order.objects.count() == 1


def test_ask_for__a_number_that_was_given_again_is_another_order(owner: ExchangeAccount) -> None:
    attempt = submit().exchange_orders.select_related("order").get()
    attempt.client_order_id = "lost-in-a-reset"
    assert ask_for(get_gateway(owner), attempt).exchange_order_id == attempt.exchange_order_id
    attempt.exchange_created_at = attempt.exchange_updated_at = clock.now() - timedelta(days=3)
    with pytest.raises(OrderNotFound):
        ask_for(get_gateway(owner), attempt)


def test_apply__a_trade_of_nothing_changes_nothing(owner: ExchangeAccount) -> None:
    order = submit()
    event = trade_of(order, 7)
    nothing = report_of(order, x="TRADE", X="NEW", t=8)
    StreamApplier(owner).apply(nothing)
    order.refresh_from_db()
    assert (order.status, Fill.objects.count()) == ("NEW", 0)
    StreamApplier(owner).apply(event)
    order.refresh_from_db()
    assert (order.status, Fill.objects.count()) == ("PARTIALLY_FILLED", 1)


def test_apply__an_unknown_status_is_a_break_and_the_order_stays(owner: ExchangeAccount) -> None:
    order = submit()
    StreamApplier(owner).apply(report_of(order, x="EXPIRED", X="DREAMING"))
    order.refresh_from_db()
    assert (order.status, ReconciliationBreak.objects.get().kind) == ("NEW", "UNKNOWN_STATUS")


def test_apply__an_unknown_execution_type_is_kept_and_what_it_says_applied(
    owner: ExchangeAccount,
) -> None:
    order = submit()
    StreamApplier(owner).apply(report_of(order, x="DREAMED", X="CANCELED"))
    order.refresh_from_db()
    kept = ReconciliationBreak.objects.get()
    assert (order.status, kept.kind) == ("CANCELED", "UNREADABLE_EVENT")
    assert kept.subject == "unknown execution type 'DREAMED'"
    assert json.loads(kept.details["event"])["x"] == "DREAMED"


def test_connected__is_in_sync_with_every_trade_only(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    part, whole = submit("i-1"), submit("i-2")
    ExchangeOrder.objects.update(acknowledged_at=clock.now() - timedelta(minutes=1))
    exchange.fill(part.exchange_orders.get().client_order_id, "0.03")
    exchange.fill(whole.exchange_orders.get().client_order_id)
    live = StreamApplier(owner)
    exchange.lose_answer("fetch_trades", executed=False)  # It is asked for again.
    live.connected(clock.now())
    assert StreamState.objects.get().in_sync_since is not None
    assert sorted(Fill.objects.values_list("order__intent_id", "quantity")) == [
        ("i-1", D("0.03")),
        ("i-2", D("0.1")),
    ]


def test_alive__says_again_how_the_stream_does(owner: ExchangeAccount) -> None:
    first, second = StreamApplier(owner), StreamApplier(owner)
    first.connected(clock.now())
    second.connected(clock.now())
    second.disconnected("the listener has stopped")
    assert StreamState.objects.get().in_sync_since is None
    first.alive()
    state = StreamState.objects.get()
    assert (state.in_sync_since is not None, state.reason) == (True, "")


def test_apply__filled_before_new(owner: ExchangeAccount) -> None:
    order, live = submit(), StreamApplier(owner)
    filled = {
        "l": "0.10000000",
        "z": "0.10000000",
        "L": "40000.00000000",
        "Z": "4000.00000000",
        "Y": "4000.00000000",
    }
    live.apply(report_of(order, x="TRADE", X="FILLED", t=7, n="0", N="BTC", **filled))
    live.apply(report_of(order))
    order.refresh_from_db()
    assert (order.status, order.average_price, order.fills.count()) == ("FILLED", D(40000), 1)


def test_apply__a_closed_order_that_is_shown_alive_takes_the_exchanges_state(
    owner: ExchangeAccount,
) -> None:
    order = submit()
    event = report_of(order)
    attempts = ExchangeOrder.objects.filter(order=order)
    attempts.update(outcome="ABSENT", exchange_status="", acknowledged_at=None)
    Order.objects.update(
        status="NOT_PLACED",
        closed_at=clock.now(),
        acknowledged_at=None,
        reason_code="NO_ANSWER",
        reason="gone",
    )
    StreamApplier(owner).apply(event)
    order.refresh_from_db()
    assert (order.status, order.closed_at, order.reason_code) == ("NEW", None, "")
    assert ReconciliationBreak.objects.get().kind == "LATE_EVIDENCE"


def test_apply__a_deposit_is_read_not_added(owner: ExchangeAccount, exchange: FakeExchange) -> None:
    live = StreamApplier(owner)
    ensure_balances(owner, newer_than=clock.now())
    exchange.simulator.engine.deposit("demo", "USDT", 5 * 10**8)
    now = clock.now_ms() + 1
    positions = {"e": "outboundAccountPosition", "E": now, "u": now,
                 "B": [{"a": "USDT", "f": "100005.00000000", "l": "0.00000000"}]}  # fmt: skip
    delta = {"e": "balanceUpdate", "E": now + 1, "a": "USDT", "d": "5.00000000", "T": now}
    for row in (positions, delta):  # In this order a difference would count twice.
        live.apply(read_event(row))  # type: ignore[arg-type]
    assert Balance.objects.get(asset="USDT").free == D(100005)


def test_apply__an_outside_lock_is_read(owner: ExchangeAccount, exchange: FakeExchange) -> None:
    ensure_balances(owner, newer_than=clock.now())
    exchange.simulator.engine.external_lock("demo", "USDT", 5 * 10**8)
    now = clock.now_ms()
    row = {"e": "externalLockUpdate", "E": now, "a": "USDT", "d": "5.00000000", "T": now}
    StreamApplier(owner).apply(read_event(row))  # type: ignore[arg-type]
    balance = Balance.objects.get(asset="USDT")
    assert (balance.free, balance.locked) == (D(99995), D(5))


def test_apply__a_list_status_is_only_noted(owner: ExchangeAccount) -> None:
    row = {
        "e": "listStatus",
        "E": clock.now_ms(),
        "s": "BTCUSDT",
        "g": 2,
        "l": "ALL_DONE",
        "L": "ALL_DONE",
    }
    StreamApplier(owner).apply(read_event(row))  # type: ignore[arg-type]
    assert StreamState.objects.get().last_event_at is not None


# -- the follower --------------------------------------------------------------------------------


def follow(
    account: ExchangeAccount, events: list[StreamEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let a follower of the account read these events."""

    class Scripted:
        def __init__(self, _: ExchangeAccount, **__: Any) -> None:
            """Take the arguments of the real stream."""

        async def groups(self) -> AsyncGenerator[list[StreamEvent], None]:
            for event in events:
                yield [event]

    monkeypatch.setattr(listener, "UserStream", Scripted)
    follower = listener._Follower(account)
    asyncio.run(follower.run())
    follower._threads.close(wait=True)


def test_run__stops_while_the_database_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answers = threading.Event(), threading.Event()

    def hang(_: listener.Listener) -> dict[int, ExchangeAccount]:
        asked.set()
        answers.wait(30)
        return {}

    monkeypatch.setattr(listener.Listener, "_enabled_accounts", hang)

    async def story() -> None:
        listening = listener.Listener()
        running = asyncio.create_task(listening.run())
        await asyncio.to_thread(asked.wait, 10)
        listening.stop()
        try:
            await asyncio.wait_for(running, 4)
        finally:
            answers.set()

    asyncio.run(story())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_failing", [False, True], ids=["at once", "after a failed question"])
def test_follow__what_an_unreadable_event_told_is_read_again(
    owner: ExchangeAccount,
    exchange: FakeExchange,
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    is_failing: bool,
) -> None:
    settings.EXCHANGE_READ_LAG_MS = 0
    order = submit()
    exchange.fill(steps.client_id(order))
    if is_failing:
        exchange.lose_answer("fetch_account", executed=False)
    doubts: list[bool] = []

    class Scripted:
        def __init__(self, _: ExchangeAccount, **__: Any) -> None:
            """Take the arguments of the real stream."""

        async def groups(self) -> AsyncGenerator[list[StreamEvent], None]:
            yield [Bad('{"e": "outboundAccountPosition", "B": null}', "balances: not a list")]
            doubts.append(follower.applier.is_in_doubt)
            reading = follower._again._task
            assert reading is not None
            await asyncio.wait_for(reading, 30)
            doubts.append(follower.applier.is_in_doubt)

    monkeypatch.setattr(listener, "UserStream", Scripted)
    monkeypatch.setattr(again, "FIRST_PAUSE_SECONDS", 0.05)
    follower = listener._Follower(owner)
    asyncio.run(follower.run())
    follower._threads.close(wait=True)
    order.refresh_from_db()
    assert (doubts, order.status) == ([True, False], "FILLED")
    assert Balance.objects.get(asset="BTC").free == D("1.0999")


def test_store_states__balances_are_not_fresh_after_a_lost_event(owner: ExchangeAccount) -> None:
    live = StreamApplier(owner)
    live.connected(clock.now())
    synced = AccountSync.objects.filter(account=owner, balances_synced_at__isnull=False)
    live.note_lost()
    synced.update(balances_synced_at=None)
    store_states([live])
    assert not synced.exists()
    live.read_again()
    synced.update(balances_synced_at=None)
    store_states([live])
    assert synced.exists()


@pytest.mark.django_db(transaction=True)
def test_follow__a_bad_event_is_kept_and_the_next_is_handled(
    owner: ExchangeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = submit()
    bad = Bad('{"event": {"e": "surprise"}}', "unknown event 'surprise'")
    follow(owner, [bad, bad, trade_of(order, 7)], monkeypatch)
    kept = ReconciliationBreak.objects.get()
    assert (kept.kind, kept.subject) == ("UNREADABLE_EVENT", "unknown event 'surprise'")
    assert kept.details == {"event": '{"event": {"e": "surprise"}}'}
    order.refresh_from_db()
    assert order.status == "PARTIALLY_FILLED"
    reconcile_account(owner)
    kept.refresh_from_db()
    assert kept.resolved_at is not None, "the book was compared since"


@pytest.mark.django_db(transaction=True)
def test_follow__events_do_not_wait_for_the_second_look(
    owner: ExchangeAccount, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.EXCHANGE_READ_LAG_MS = 0
    order = submit()
    trade = trade_of(order, 7)
    looking, may_end = threading.Event(), threading.Event()

    def look(_: StreamApplier) -> None:
        looking.set()
        may_end.wait(30)

    class Scripted:
        def __init__(self, _: ExchangeAccount, **__: Any) -> None:
            """Take the arguments of the real stream."""

        async def groups(self) -> AsyncGenerator[list[StreamEvent], None]:
            yield [Connected(clock.now())]
            await asyncio.to_thread(looking.wait, 10)
            yield [trade]

    monkeypatch.setattr(listener, "UserStream", Scripted)
    monkeypatch.setattr(StreamApplier, "look_again", look)
    follower = listener._Follower(owner)
    try:
        asyncio.run(asyncio.wait_for(follower.run(), 10))
        assert looking.is_set()
    finally:
        may_end.set()
    follower._threads.close(wait=True)
    order.refresh_from_db()
    assert order.status == "PARTIALLY_FILLED"


@pytest.mark.django_db(transaction=True)
def test_follow__an_event_that_cannot_be_applied_is_kept(
    owner: ExchangeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = submit()
    first, second = trade_of(order, 7), trade_of(order, 7)
    apply = StreamApplier.apply

    def stumble(live: StreamApplier, event: Any) -> None:
        if event is first:
            raise KeyError("defect")
        apply(live, event)

    monkeypatch.setattr(StreamApplier, "apply", stumble)
    follow(owner, [first, second], monkeypatch)
    number = order.exchange_orders.get().exchange_order_id
    subject = f"could not be applied: ExecutionReport BTCUSDT#{number}"
    assert ReconciliationBreak.objects.get().subject == subject
    order.refresh_from_db()
    assert order.status == "PARTIALLY_FILLED"


def read_only() -> InternalError:
    error = InternalError("cannot execute UPDATE in a read-only transaction")
    error.__cause__ = ReadOnlySqlTransaction()
    return error


@pytest.mark.parametrize("failure", [OperationalError("gone"), read_only()], ids=["lost", "25006"])
@pytest.mark.django_db(transaction=True)
def test_follow__events_wait_while_the_database_is_away(
    failure: Exception, owner: ExchangeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = submit()
    failures = [failure] * 2
    apply = StreamApplier.apply

    def away(live: StreamApplier, event: Any) -> None:
        if failures:
            raise failures.pop()
        apply(live, event)

    monkeypatch.setattr(StreamApplier, "apply", away)
    follow(owner, [trade_of(order, 7)], monkeypatch)
    order.refresh_from_db()
    assert order.status == "PARTIALLY_FILLED"


@pytest.mark.django_db(transaction=True)
def test_follow__a_failed_question_is_no_break(
    owner: ExchangeAccount, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.now_ms()
    delta = read_event({"e": "balanceUpdate", "E": now, "a": "USDT", "d": "5.00000000", "T": now})
    exchange.lose_answer("fetch_account", executed=False)
    follow(owner, [delta], monkeypatch)  # type: ignore[list-item]
    assert not ReconciliationBreak.objects.exists()
