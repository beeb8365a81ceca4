"""Apply stream events in groups: the same rows as alone, and a bad event spoils only itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F, Model
from django.test.utils import CaptureQueriesContext
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from exchanges import clock
from exchanges.binance.stream_messages import StreamEvent, read_event
from exchanges.models import Balance, ExchangeAccount, Reservation
from exchanges.types import from_ms, to_ms
from orders.models import ExchangeOrder, Fill, Order, OrderEvent, OrderNotice, ReconciliationBreak
from orders.notifications import outbox
from orders.recording import together
from orders.stream import apply, listener
from orders.stream.apply import StreamApplier
from tests import steps
from tests.factories import ExchangeAccountFactory
from tests.fakes import FakeExchange

D = Decimal
ORDERS = 4

submit = partial(steps.submit, quantity="0.1", price="40000")


@pytest.fixture
def exchange() -> Iterator[FakeExchange]:
    with FakeExchange().installed() as exchange:
        yield exchange


@pytest.fixture
def owner(exchange: FakeExchange) -> ExchangeAccount:
    account: ExchangeAccount = ExchangeAccountFactory(name="demo")
    return account


def report_of(order: Order, **changes: Any) -> Any:
    """Build an execution report of the order, like Binance's."""
    attempt = order.exchange_orders.get()
    now = clock.now_ms()
    created_at = attempt.exchange_created_at or from_ms(attempt.request_timestamp_ms or now)
    row = {
        "e": "executionReport", "E": now, "s": order.symbol, "c": attempt.client_order_id,
        "S": "BUY", "o": "LIMIT", "f": "GTC", "q": "0.10000000", "p": "40000.00000000",
        "P": "0.00000000", "F": "0.00000000", "g": -1, "C": "", "x": "NEW", "X": "NEW",
        "r": "NONE", "l": "0.00000000", "z": "0.00000000", "L": "0.00000000", "n": "0", "N": None,
        "T": now, "t": -1, "I": now, "w": True, "m": False, "O": to_ms(created_at),
        "Z": "0.00000000", "Y": "0.00000000", "Q": "0.00000000",
        "i": int(attempt.exchange_order_id or 700), **changes,
    }  # fmt: skip
    return read_event(row)


def trade_of(order: Order, number: int, total: str = "0.04", **changes: Any) -> Any:
    """Build a trade of 0.02, after which `total` is filled."""
    value = format(D(total) * 40000, "f")
    status = "FILLED" if D(total) >= D("0.1") else "PARTIALLY_FILLED"
    trade = {"x": "TRADE", "X": status, "l": "0.02", "z": total, "L": "40000", "t": number,
             "Z": value, "Y": "800", "n": "0.00002", "N": "BTC"}  # fmt: skip
    return report_of(order, **trade, **changes)


def balances(at_ms: int, **amounts: str) -> Any:
    rows = [{"a": asset, "f": free, "l": "0"} for asset, free in amounts.items()]
    return read_event({"e": "outboundAccountPosition", "E": at_ms, "u": at_ms, "B": rows})


def apply_all(live: StreamApplier, events: list[Any], sizes: list[int]) -> int:
    """Apply the events as if so many of them waited each time. Return how many shared."""
    turns, rest, shared = iter(sizes), events, 0
    while rest:
        size = next(turns, 1)
        group, rest = rest[:size], rest[size:]
        left = live.apply_together(group) if len(group) > 1 else range(len(group))
        shared += len(group) - len(left)
        for place in left:
            live.apply(group[place])
    return shared


# -- the same rows -------------------------------------------------------------------------------

#: Fields that hold our clock or a key of the database.
OWN = {"id", "at", "closed_at", "acknowledged_at", "next_check_at", "written_at", "opened_at"}
MODELS: tuple[type[Model], ...] = (
    *(Order, ExchangeOrder, Fill, OrderEvent, OrderNotice),
    *(ReconciliationBreak, Balance, Reservation),
)


def rows() -> list[str]:
    """Return all rows that events change, each with its place among those of its order."""
    intents = dict(Order.objects.values_list("pk", "intent_id"))
    attempts = dict(ExchangeOrder.objects.values_list("pk", "client_order_id"))
    places: Counter[Any] = Counter()
    found: list[str] = []
    for model in MODELS:
        for values in model.objects.order_by("pk").values():  # type: ignore[attr-defined]
            known = {name: values.pop(name) is not None for name in OWN & values.keys()}
            if "order_id" in values:
                values["order_id"] = intents.get(values["order_id"])
            if model is Fill:
                values["exchange_order_id"] = attempts[values["exchange_order_id"]]
            if model is OrderNotice:
                values["details"] = {
                    name: value
                    for name, value in values["details"].items()
                    if name not in OWN | {"order_id"}
                }
            key = model.__name__, values.get("order_id")
            places[key] += 1
            found.append(repr((key, places[key], values, known)))
    return sorted(found)


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[tuple[Any, ...]], list[int]]:
    """Return steps (order, kind, figure) and the sizes of the groups."""
    kinds = [
        "new",
        "trade",
        "trade",
        "trade",
        "canceled",
        "again",
        "balance",
        "odd",
        "stranger",
        "refused",
    ]
    step = st.tuples(st.integers(0, ORDERS - 1), st.sampled_from(kinds), st.integers(1, 5))
    return draw(st.lists(step, min_size=2, max_size=14)), draw(
        st.lists(st.integers(1, 8), min_size=1, max_size=14)
    )


def events_of(story: list[tuple[Any, ...]], orders: list[Order]) -> list[Any]:
    made: list[Any] = []
    start = clock.now_ms()
    for place, (number, kind, figure) in enumerate(story):
        order, now = orders[number], start + place
        times = {"E": now, "T": now, "I": place + 1}
        if kind == "new":
            made.append(report_of(order, **times))
        elif kind == "trade":
            total = format(D("0.02") * figure, "f")
            made.append(trade_of(order, number * 10 + figure, total, **times))
        elif kind == "canceled":
            made.append(report_of(order, x="CANCELED", X="CANCELED", C="", **times))
        elif kind == "again" and made:
            made.append(made[-1])
        elif kind == "balance":
            coins = {"USDT": str(90000 + figure), "BTC": str(figure)}
            made.append(balances(now - figure + 3, **coins))
        elif kind == "refused":
            made.append(report_of(order, x="REJECTED", X="REJECTED", **times))
        elif kind == "odd":
            made.append(report_of(order, X="DREAMING", **times))
        else:
            alien = {"c": f"web_{number}", "i": 900 + number, "O": start - 50}
            made.append(report_of(order, **alien, **times))
    return made


@pytest.mark.long
@pytest.mark.django_db
def test_groups__leave_the_rows_of_one_event_after_the_other(
    owner: ExchangeAccount, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "are_wanted", lambda: True)
    monkeypatch.setattr(outbox, "send_on_commit", lambda *_: None)
    orders = [submit(f"i-{number}") for number in range(ORDERS - 1)]
    # The answer to the last one is lost, so its number is unknown and its money reserved.
    exchange.lose_answer("place", executed=True)
    orders.append(submit(f"i-{ORDERS - 1}"))
    ExchangeOrder.objects.filter(outcome="UNKNOWN").update(outcome="IN_FLIGHT")
    assert Reservation.objects.filter(due_at=None).exists()
    shared: set[int] = set()

    @hypothesis_settings(max_examples=40)
    @given(stories())
    @example(([(3, "refused", 1), (0, "trade", 1), (3, "refused", 1)], [8]))
    @example(([(0, "trade", 1), (0, "trade", 1), (0, "trade", 2), (0, "canceled", 1)], [8]))
    @example(([(3, "balance", 1), (3, "new", 1), (3, "balance", 1), (0, "balance", 2)], [8]))
    def check(story: tuple[list[tuple[Any, ...]], list[int]]) -> None:
        happened, sizes = story
        events = events_of(happened, orders)
        results = []
        for turn in ([], sizes):
            point = transaction.savepoint()
            shared.add(apply_all(StreamApplier(owner), events, turn))
            results.append(rows())
            transaction.savepoint_rollback(point)
        alone, grouped = results
        assert grouped == alone

    check()
    assert max(shared) > 3, "several events were applied together"


# -- the fall-back -------------------------------------------------------------------------------


def follow(account: ExchangeAccount, group: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a follower of the account find these events waiting."""

    class Scripted:
        def __init__(self, _: ExchangeAccount, **__: Any) -> None:
            """Take the arguments of the real stream."""

        async def groups(self) -> AsyncGenerator[list[StreamEvent], None]:
            yield group

    monkeypatch.setattr(listener, "UserStream", Scripted)
    follower = listener._Follower(account)
    asyncio.run(follower.run())
    follower._threads.close(wait=True)


def statuses() -> dict[str, str]:
    return dict(Order.objects.values_list("intent_id", "status"))


@pytest.mark.django_db(transaction=True)
def test_follow__waiting_events_share_a_transaction(
    owner: ExchangeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = [submit(f"i-{number}") for number in range(3)]
    group = [trade_of(order, place) for place, order in enumerate(orders)]
    group += [balances(clock.now_ms(), USDT="88000"), trade_of(orders[0], 7, "0.06")]
    alone: list[Any] = []
    monkeypatch.setattr(StreamApplier, "apply", lambda _, event: alone.append(event))
    follow(owner, group, monkeypatch)
    assert not alone
    assert {*statuses().values()} == {"PARTIALLY_FILLED"}
    assert Balance.objects.get(asset="USDT").free == D(88000)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(DISTINCT xmin::text) FROM orders_fill")
        assert cursor.fetchone() == (1,)


@pytest.mark.django_db(transaction=True)
def test_follow__a_lone_event_is_applied_without_a_group(
    owner: ExchangeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = submit()
    monkeypatch.delattr(StreamApplier, "apply_together")
    follow(owner, [trade_of(order, 7)], monkeypatch)
    assert statuses() == {"i-1": "PARTIALLY_FILLED"}


@pytest.mark.django_db(transaction=True)
def test_follow__a_row_that_cannot_be_stored_spoils_only_itself(
    owner: ExchangeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = [submit(f"i-{number}") for number in range(3)]
    good, bad, other = [trade_of(order, place) for place, order in enumerate(orders)]
    raw = {**bad.report.raw, "r": "no text \x00 of PostgreSQL"}
    bad = replace(bad, report=replace(bad.report, raw=raw))
    follow(owner, [good, bad, other, balances(clock.now_ms(), USDT="88000")], monkeypatch)
    assert statuses() == {"i-0": "PARTIALLY_FILLED", "i-1": "NEW", "i-2": "PARTIALLY_FILLED"}
    assert ReconciliationBreak.objects.get().subject.startswith("could not be applied")
    assert Balance.objects.get(asset="USDT").free == D(88000)


@pytest.mark.django_db(transaction=True)
def test_follow__a_number_in_use_is_found_by_the_event_alone(
    owner: ExchangeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trade id that another order has breaks a constraint: the exchange counts again."""
    orders = [submit(f"i-{number}") for number in range(3)]
    StreamApplier(owner).apply(trade_of(orders[0], 7))
    follow(owner, [trade_of(orders[1], 7), trade_of(orders[2], 8)], monkeypatch)
    assert {*statuses().values()} == {"PARTIALLY_FILLED"}
    assert ReconciliationBreak.objects.get().kind == "NUMBERS_REUSED"
    assert Fill.objects.get(order=orders[1]).epoch == 1


@pytest.mark.django_db(transaction=True)
def test_follow__an_order_that_another_process_changed_is_read_again(
    owner: ExchangeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = [submit(f"i-{number}") for number in range(2)]
    store = together._store
    taken: list[int] = []

    def late(account_id: int, group: Any, rows_: Any) -> Any:
        Order.objects.filter(pk=orders[0].pk).update(version=F("version") + 1, strategy="theirs")
        stored = store(account_id, group, rows_)
        taken.append(len(stored[0]))
        return stored

    monkeypatch.setattr(together, "_store", late)
    group = [
        trade_of(orders[0], 1, "0.02"),
        trade_of(orders[1], 2, "0.02"),
        trade_of(orders[0], 3, "0.04"),
    ]
    follow(owner, group, monkeypatch)
    assert taken == [1], "the group left out the order of the other process"
    first, second = (Order.objects.get(pk=order.pk) for order in orders)
    assert (first.filled_quantity, first.strategy) == (D("0.04"), "theirs")
    assert first.version == orders[0].version + 3
    assert second.filled_quantity == D("0.02")
    assert sorted(Fill.objects.values_list("trade_id", flat=True)) == ["1", "2", "3"]


@pytest.mark.django_db(transaction=True)
def test_follow__a_defect_in_the_group_costs_no_event(
    owner: ExchangeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("defect")

    orders = [submit(f"i-{number}") for number in range(2)]
    monkeypatch.setattr(together, "plan_record", fail)
    follow(owner, [trade_of(order, place) for place, order in enumerate(orders)], monkeypatch)
    assert {*statuses().values()} == {"PARTIALLY_FILLED"}


@pytest.mark.django_db(transaction=True)
def test_follow__canceled_orders_free_their_money_together(
    owner: ExchangeAccount, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange.lose_answer("place", executed=True, times=2)
    orders = [submit(f"i-{number}") for number in range(2)]
    assert Reservation.objects.count() == 2
    canceled = [
        report_of(order, i=700 + place, x="CANCELED", X="CANCELED")
        for place, order in enumerate(orders)
    ]
    alone: list[Any] = []
    monkeypatch.setattr(StreamApplier, "apply", lambda _, event: alone.append(event))
    follow(owner, canceled, monkeypatch)
    assert (alone, statuses()) == ([], {"i-0": "CANCELED", "i-1": "CANCELED"})
    assert not Reservation.objects.exists()
    assert Balance.objects.get(asset="USDT").reserved == 0


@pytest.mark.django_db
def test_apply_together__a_balance_before_the_report_of_an_order_keeps_its_money_reserved(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    """It may be of the same millisecond, and lack the money that the order has taken since."""
    first = submit("i-0")
    exchange.lose_answer("place", executed=True)
    order = submit("i-1")
    live, now = StreamApplier(owner), clock.now_ms()
    before = [
        trade_of(first, 1, "0.02"),
        balances(now, USDT="90000"),
        report_of(order, i=701, O=now),
    ]
    assert live.apply_together(before) == []
    assert Reservation.objects.get().due_at == from_ms(now)
    assert Balance.objects.get(asset="USDT").reserved == D(4000)
    after = [balances(now, USDT="86000"), trade_of(first, 2, "0.04")]
    assert live.apply_together(after) == []
    assert not Reservation.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_apply_together__needs_no_more_statements_for_more_events(
    owner: ExchangeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply, "_STATE_EVERY_SECONDS", 3600.0)
    orders = [submit(f"i-{number}") for number in range(8)]
    live = StreamApplier(owner)
    live.alive()
    live.apply(balances(clock.now_ms(), USDT="90000"))  # from now on it shows the reserved money
    counts: list[int] = []
    for some in (orders[:2], orders[2:]):
        group: list[Any] = []
        for order in some:
            group += [
                trade_of(order, int(order.intent_id[2:])),
                balances(clock.now_ms(), USDT=str(88000 + len(counts) + len(group))),
            ]
        with CaptureQueriesContext(connection) as captured:
            assert live.apply_together(group) == []
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 10


# -- notices to bots -----------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_send__the_messages_of_a_group_in_the_order_of_each(
    owner: ExchangeAccount, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.ORDER_EVENTS_TASK = "bot.order_changed"
    orders = [submit(f"i-{number}") for number in range(2)]
    OrderNotice.objects.all().delete()
    messages: list[Any] = []
    failures = iter([None, None, ConnectionError("the broker is gone")])

    def enqueue(message: dict[str, Any], _producer: Any) -> None:
        if error := next(failures, None):
            raise error
        messages.append((message["order"]["intent_id"], message["version"], len(message["fills"])))

    monkeypatch.setattr(outbox, "_enqueue", enqueue)
    monkeypatch.setattr(outbox, "_broker_failed_at", float("-inf"))
    live = StreamApplier(owner)
    totals = [("0.02", 0), ("0.02", 1), ("0.04", 0), ("0.04", 1)]
    group = [trade_of(orders[at], place, total) for place, (total, at) in enumerate(totals)]
    assert live.apply_together(group) == []
    first = [order.version + 1 for order in orders]
    assert messages == [("i-0", first[0], 1), ("i-1", first[1], 1)]
    assert OrderNotice.objects.filter(sent_at=None).count() == 2, "stored, and sent by the sweep"
    # The message that failed may have reached the broker, so it stays claimed. The other is free.
    assert outbox.send(*[order.pk for order in orders]) == 1
    OrderNotice.objects.update(claimed_until=None)
    assert outbox.send(*[order.pk for order in orders]) == 1
    assert messages[2:] == [("i-1", first[1] + 1, 2), ("i-0", first[0] + 1, 2)]
