"""Record any evidence about one to three attempts in any order: nothing raises, nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchanges import clock
from exchanges.errors import NotSent, OutcomeUnknown
from exchanges.types import FillReport, OrderReport, ReportSource, Side
from orders.models import (
    AttemptOutcome,
    BreakKind,
    ExchangeOrder,
    Fill,
    Order,
    ReconciliationBreak,
)
from orders.placing.cancel import request_cancel
from orders.placing.outcomes import record_not_sent, record_unknown
from orders.recording.apply import apply_refusal, apply_report
from orders.recording.changes import set_fields
from orders.recording.merge import AttemptState, merge_report
from orders.recording.plan import (
    PENDING,
    Message,
    attempt_state,
    changes_nothing,
    order_state,
    plan_record,
)
from orders.recording.status import open_fates
from orders.states import CLOSED, TRANSITIONS, UNRESOLVED, OrderStatus
from orders.sweep import _close_absent
from tests.factories import ExchangeAccountFactory, OrderFactory

D = Decimal
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
ORDERED = 4


@dataclass(frozen=True)
class Life:
    """The trades of one attempt at the exchange, and how it stands after them."""

    trades: tuple[int, ...]
    ending: str  # "" if it is still open

    @property
    def filled(self) -> int:
        return sum(self.trades)

    def status_after(self, trades: int, *, at_end: bool) -> str:
        filled = sum(self.trades[:trades])
        if filled == ORDERED:
            return "FILLED"
        if at_end and self.ending:
            return self.ending
        return "PARTIALLY_FILLED" if filled else "NEW"


@st.composite
def lives(draw: st.DrawFn) -> Life | None:
    """Draw the life of an attempt. None: the exchange never had it."""
    if draw(st.booleans()) and draw(st.booleans()):
        return None
    trades: list[int] = []
    while sum(trades) < ORDERED and draw(st.booleans()):
        trades.append(draw(st.integers(1, ORDERED - sum(trades))))
    ending = draw(st.sampled_from(["", "CANCELED", "EXPIRED", "EXPIRED_IN_MATCH"]))
    return Life(tuple(trades), ending)


# One step: what happens, to which attempt, and how far its life had got by then.
STEPS = st.tuples(
    st.sampled_from(
        [
            "claim",
            "report",
            "report",
            "trade",
            "refused",
            "said refused",
            "unknown",
            "not sent",
            "absent",
            "cancel",
        ]
    ),
    st.integers(0, 2),
    st.integers(0, ORDERED),
    st.booleans(),
)
STORIES = st.tuples(
    st.lists(lives(), min_size=3, max_size=3), st.lists(STEPS, min_size=1, max_size=14)
)


def trade(attempt: int, number: int, quantity: int) -> FillReport:
    return FillReport(
        symbol="BTCUSDT",
        trade_id=f"{attempt}{number}",
        exchange_order_id=str(attempt + 1),
        side=Side.BUY,
        quantity=D(quantity),
        price=D(10),
        quote_quantity=D(quantity * 10),
        commission=D(0),
        commission_asset="BNB",
        is_maker=False,
        traded_at=NOW,
    )


def trades_of(attempt: int, life: Life) -> list[FillReport]:
    return [trade(attempt, number, quantity) for number, quantity in enumerate(life.trades)]


def report(
    attempt: int, life: Life, trades: int, *, at_end: bool, name: str = "", base: int = 0
) -> OrderReport:
    trades = min(trades, len(life.trades))
    filled = sum(life.trades[:trades])
    return OrderReport(
        source=ReportSource.QUERY,
        symbol="BTCUSDT",
        client_order_id=name or f"bo-{attempt}",
        exchange_order_id=str(base + attempt + 1),
        status=life.status_after(trades, at_end=at_end and trades == len(life.trades)),
        side=Side.BUY,
        order_type="LIMIT",
        time_in_force="GTC",
        quantity=D(ORDERED),
        price=D(10),
        filled_quantity=D(filled),
        filled_quote_quantity=D(filled * 10),
        updated_at=NOW,
        created_at=NOW,
    )


def refusal(attempt: int, *, name: str = "") -> OrderReport:
    """Return the stream's word that the exchange has refused the request."""
    said = report(attempt, Life((), ""), 0, at_end=False, name=name)
    return replace(said, status="REJECTED", exchange_order_id="", source=ReportSource.STREAM)


# -- on pure values -------------------------------------------------------------------------------


@dataclass
class Book:
    """An order and its attempts, changed by the same plans as in the database, without one."""

    order: Order = field(
        default_factory=lambda: Order(side="BUY", symbol="BTCUSDT", next_check_at=NOW)
    )
    attempts: list[ExchangeOrder] = field(default_factory=list)
    trade_ids: dict[int, set[str]] = field(default_factory=dict)
    breaks: set[str] = field(default_factory=set)

    def states(self, number: int = -1, state: AttemptState | None = None) -> list[AttemptState]:
        return [
            state if state is not None and index == number else attempt_state(attempt)
            for index, attempt in enumerate(self.attempts)
        ]

    def claim(self) -> None:
        if self.order.status != OrderStatus.CREATED or len(self.attempts) == 3:
            return
        number = len(self.attempts)
        self.attempts.append(
            ExchangeOrder(
                order=self.order,
                attempt=number + 1,
                client_order_id=f"bo-{number}",
                symbol="BTCUSDT",
                quantity=D(ORDERED),
                price=D(10),
            )
        )
        self._change(
            {
                "status": OrderStatus.PENDING_NEW,
                "attempt": number + 1,
                "open_attempts": 1,
                "next_check_at": NOW,
            }
        )

    def record(self, number: int, said: OrderReport | None, fills: Sequence[FillReport]) -> None:
        attempt = self.attempts[number]
        known = self.trade_ids.setdefault(number, set())
        message = Message(said, tuple(fills), ReportSource.QUERY, "test")
        merged = merge_report(
            attempt_state(attempt), known_trade_ids=known, report=said, fills=fills
        )
        if changes_nothing(attempt, message, merged):
            return
        plan = plan_record(attempt, message, merged, self.states(number, merged.state), now=NOW)
        self._change(plan.order_changes)
        set_fields(attempt, plan.attempt_changes)
        known |= {fill.trade_id for fill in plan.new_fills}
        self.breaks |= {str(found.kind) for found in plan.breaks}

    def end(self, number: int, outcome: str, verdict: OrderStatus | None = None) -> None:
        attempt = self.attempts[number]
        if attempt.outcome not in PENDING:
            return
        state = replace(attempt_state(attempt), is_pending=False)
        self._change(order_state(self.order, self.states(number, state), now=NOW, verdict=verdict))
        attempt.outcome = outcome

    def refuse(self, number: int) -> None:
        attempt = self.attempts[number]
        known = attempt_state(attempt)
        if known.is_shown:
            return
        state = replace(known, exchange_status="REJECTED", is_pending=False)
        self._change(order_state(self.order, self.states(number, state), now=NOW))
        attempt.outcome, attempt.exchange_status = AttemptOutcome.REJECTED, "REJECTED"

    def cancel(self) -> None:
        if self.order.status not in CLOSED:
            self.order.cancel_requested_at = NOW
            self.order.next_check_at = self.order.next_check_at or NOW

    def _change(self, changes: Any) -> None:
        before = OrderStatus(self.order.status)
        set_fields(self.order, changes)
        after = OrderStatus(self.order.status)
        assert after == before or after in TRANSITIONS[before]

    def check(self) -> None:
        order = self.order
        assert order.open_attempts == open_fates(self.states())
        assert order.open_attempts == 0 or order.next_check_at is not None
        assert order.status not in UNRESOLVED or order.next_check_at is not None
        assert (order.closed_at is not None) <= (order.status in CLOSED)


def play(book: Book, story: list[Life | None], steps: Sequence[tuple[str, int, int, bool]]) -> None:
    book.claim()
    for what, number, progress, flag in steps:
        if what == "claim":
            book.claim()
        elif what == "cancel":
            book.cancel()
        elif number < len(book.attempts):
            step(book, story[number], what, number, progress, flag=flag)
        book.check()


def step(
    book: Book, life: Life | None, what: str, number: int, progress: int, *, flag: bool
) -> None:
    if what in ("not sent", "absent", "unknown"):
        outcome = {
            "not sent": AttemptOutcome.NOT_SENT,
            "absent": AttemptOutcome.ABSENT,
            "unknown": AttemptOutcome.UNKNOWN,
        }[what]
        if what != "unknown":
            gives_up = what == "absent" and flag
            book.end(number, outcome, OrderStatus.NOT_PLACED if gives_up else None)
        elif book.attempts[number].outcome == AttemptOutcome.IN_FLIGHT:
            book.attempts[number].outcome = outcome
    elif what == "refused":
        book.refuse(number)
    elif what == "said refused":
        before = book.order.status, book.order.closed_at, set(book.breaks)
        was_given_up = book.attempts[number].outcome in ("NOT_SENT", "ABSENT")
        book.record(number, refusal(number), ())
        after = book.order.status, book.order.closed_at, book.breaks
        assert before == after or not was_given_up
    elif life is None:
        return
    elif what == "report":
        said = report(number, life, progress, at_end=flag)
        count_of = min(progress, len(life.trades))
        book.record(number, said, trades_of(number, life)[:count_of] if flag else ())
    elif what == "trade" and progress < len(life.trades):
        book.record(number, None, [trades_of(number, life)[progress]])


Story = tuple[list[Life | None], list[tuple[str, int, int, bool]]]


@settings(max_examples=500)
@given(STORIES)
def test_every_evidence__in_any_order_is_recorded(story: Story) -> None:
    check_evidence(story)


@pytest.mark.long
@settings(max_examples=3000)
@given(STORIES)
def test_every_evidence__in_many_more_orders_is_recorded(story: Story) -> None:
    check_evidence(story)


def check_evidence(story: Story) -> None:
    given_lives, steps = story
    book = Book()
    play(book, given_lives, steps)
    # In the end the exchange has said all about every order that it has.
    shown = [
        (number, life)
        for number, life in enumerate(given_lives[: len(book.attempts)])
        if life is not None
    ]
    for number, life in shown:
        book.record(number, report(number, life, ORDERED, at_end=True), trades_of(number, life))
        book.check()
    filled = sum(life.filled for _, life in shown)
    assert book.order.filled_quantity == D(filled)
    assert book.order.filled_quote_quantity == D(filled * 10)
    assert sum(len(ids) for ids in book.trade_ids.values()) == sum(
        len(life.trades) for _, life in shown
    )
    alive = [state for state in book.states() if state.is_alive]
    if len(alive) > 1:
        assert book.order.open_attempts >= len(alive) - 1
        assert BreakKind.DOUBLE_PLACEMENT in book.breaks
    if any(life.filled == ORDERED for _, life in shown):
        assert book.order.status == OrderStatus.FILLED


# -- on PostgreSQL --------------------------------------------------------------------------------

_numbers = count(1)


def claimed(order: Order) -> ExchangeOrder | None:
    """Add an attempt, as a claim does."""
    order.refresh_from_db()
    if order.status != OrderStatus.CREATED or order.attempt == 3:
        return None
    number = order.attempt + 1
    Order.objects.filter(pk=order.pk).update(
        status=OrderStatus.PENDING_NEW,
        attempt=number,
        open_attempts=1,
        version=order.version + 1,
        next_check_at=clock.now(),
    )
    order.refresh_from_db()
    return ExchangeOrder.objects.create(
        order=order,
        account=order.account,
        attempt=number,
        client_order_id=f"bo-{order.pk}-{number}",
        symbol="BTCUSDT",
        quantity=D(ORDERED),
        price=D(10),
        request_timestamp_ms=clock.now_ms(),
        recv_window_ms=5000,
        sent_at=clock.now(),
    )


def stored_step(
    attempt: ExchangeOrder, life: Life | None, what: str, progress: int, *, flag: bool, base: int
) -> None:
    number = attempt.attempt - 1
    if what == "not sent":
        record_not_sent(attempt, NotSent("limited", retry_after=None))
    elif what == "absent":
        _close_absent(attempt, clock.now_ms())
    elif what == "unknown":
        record_unknown(attempt, OutcomeUnknown("reset"))
    elif what == "refused":
        apply_refusal(attempt, code="-2010", message="refused")
    elif what == "said refused":
        apply_report(attempt, refusal(number, name=attempt.client_order_id))
    elif what == "report" and life is not None:
        name = attempt.client_order_id
        said = report(number, life, progress, at_end=flag, name=name, base=base)
        done = min(progress, len(life.trades))
        apply_report(attempt, with_fills(said, number, life, done if flag else 0, base))


def with_fills(said: OrderReport, number: int, life: Life, done: int, base: int) -> OrderReport:
    fills = [
        replace(fill, trade_id=f"{base}{fill.trade_id}", exchange_order_id=said.exchange_order_id)
        for fill in trades_of(number, life)[:done]
    ]
    return replace(said, fills=tuple(fills))


@pytest.mark.django_db
@settings(max_examples=60)
@given(STORIES)
def test_every_evidence__is_stored_by_the_real_writers(
    story: tuple[list[Life | None], list[tuple[str, int, int, bool]]],
) -> None:
    given_lives, steps = story
    account = ExchangeAccountFactory(name="evidence")
    base = next(_numbers) * 10
    order: Order = OrderFactory(
        account=account,
        quantity=D(ORDERED),
        price=D(10),
        place_by=clock.now() + timedelta(hours=1),
    )
    attempts = [claimed(order)]
    for what, number, progress, flag in steps:
        if what == "claim":
            attempts.append(claimed(order))
        elif what == "cancel":
            request_cancel(Order.objects.get(pk=order.pk), requested_by="me", reason="")
        attempts = [attempt for attempt in attempts if attempt is not None]
        if what not in ("claim", "cancel") and number < len(attempts):
            life, row = given_lives[number], attempts[number]
            assert row is not None
            stored_step(row, life, what, progress, flag=flag, base=base)  # perhaps a stale row
    rows = list(ExchangeOrder.objects.filter(order=order).select_related("order"))
    filled = 0
    for row, life in zip(rows, given_lives, strict=False):
        if life is not None:
            filled += life.filled
            said = report(
                row.attempt - 1, life, ORDERED, at_end=True, name=row.client_order_id, base=base
            )
            apply_report(row, with_fills(said, row.attempt - 1, life, len(life.trades), base))
    order.refresh_from_db()
    states = [
        attempt_state(row) for row in ExchangeOrder.objects.filter(order=order).order_by("attempt")
    ]
    assert order.open_attempts == open_fates(states)
    assert order.filled_quantity == D(filled)
    stored = Fill.objects.filter(order=order)
    assert sum((fill.quantity for fill in stored), D(0)) == D(filled)
    if sum(state.is_alive for state in states) > 1:
        kinds = ReconciliationBreak.objects.filter(order=order).values_list("kind", flat=True)
        assert BreakKind.DOUBLE_PLACEMENT in kinds
