"""Check the status rule: what it says of every set of attempts, and which changes it can make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from exchanges.types import OrderReport, ReportSource, Side
from orders.recording.merge import AttemptState, merge_report
from orders.recording.status import open_fates, status_of, surplus
from orders.states import TRANSITIONS, VERDICTS, OrderStatus

D = Decimal
PENDING = AttemptState(quantity=D(4), is_pending=True)
GONE = AttemptState(quantity=D(4))  # not sent, or proven absent
REFUSED = replace(GONE, exchange_status="REJECTED")
ALIVE = replace(GONE, exchange_status="NEW")
PARTIAL = replace(GONE, exchange_status="PARTIALLY_FILLED", filled_quantity=D(1))
FILLED = replace(GONE, exchange_status="FILLED", filled_quantity=D(4))
CANCELED = replace(GONE, exchange_status="CANCELED")
PART_CANCELED = replace(CANCELED, filled_quantity=D(1))
EXPIRED = replace(GONE, exchange_status="EXPIRED")
LOST = replace(ALIVE, is_lost=True)


@pytest.mark.parametrize(
    ("attempts", "verdict", "status", "open_attempts"),
    [
        ([], "CREATED", "CREATED", 0),
        ([], "DENIED", "DENIED", 0),
        ([PENDING], "CREATED", "PENDING_NEW", 1),
        ([GONE], "CREATED", "CREATED", 0),
        ([GONE], "NOT_PLACED", "NOT_PLACED", 0),
        ([GONE, PENDING], "CREATED", "PENDING_NEW", 1),
        ([REFUSED], "CREATED", "REJECTED", 0),
        ([REFUSED, GONE], "CREATED", "CREATED", 0),
        ([ALIVE], "CREATED", "NEW", 0),
        ([ALIVE], "NOT_PLACED", "NEW", 0),
        ([ALIVE, PENDING], "CREATED", "NEW", 1),
        ([ALIVE, ALIVE], "CREATED", "NEW", 1),
        ([PART_CANCELED, ALIVE], "CREATED", "PARTIALLY_FILLED", 0),
        ([PARTIAL, PENDING], "CREATED", "PARTIALLY_FILLED", 1),
        ([FILLED, PENDING], "CREATED", "FILLED", 1),
        ([FILLED, ALIVE], "CREATED", "FILLED", 1),
        ([ALIVE, PENDING, FILLED], "CREATED", "FILLED", 2),
        ([CANCELED, PENDING], "CREATED", "PENDING_NEW", 1),
        ([CANCELED, GONE], "NOT_PLACED", "CANCELED", 0),
        ([CANCELED, EXPIRED], "CREATED", "EXPIRED", 0),
        ([LOST], "EXPIRED", "EXPIRED", 0),
        ([LOST, REFUSED], "EXPIRED", "EXPIRED", 0),
        ([CANCELED, LOST], "EXPIRED", "CANCELED", 0),
    ],
)
def test_status_of__table(
    attempts: list[AttemptState], verdict: str, status: str, open_attempts: int
) -> None:
    assert status_of(attempts, OrderStatus(verdict)) == status
    assert open_fates(attempts) == open_attempts


def test_surplus__is_all_but_the_oldest_and_all_of_a_filled_order() -> None:
    assert surplus([ALIVE, PARTIAL, ALIVE]) == [PARTIAL, ALIVE]
    assert surplus([FILLED, PARTIAL, ALIVE]) == [PARTIAL, ALIVE]
    assert surplus([PARTIAL, FILLED]) == [PARTIAL]
    assert surplus([ALIVE, CANCELED, PENDING]) == []


# -- the reach of the rule ------------------------------------------------------------------------

# The state of one order: the attempts, oldest first, and our verdict.
Book = tuple[tuple[AttemptState, ...], OrderStatus]
MOST_ATTEMPTS = 2  # A third one adds no transition, and four seconds.
SAID = [
    ("NEW", 0),
    ("PARTIALLY_FILLED", 1),
    ("CANCELED", 0),
    ("CANCELED", 1),
    ("EXPIRED", 0),
    ("FILLED", 4),
    ("REJECTED", 0),
]


def _report(word: str, filled: int) -> OrderReport:
    return OrderReport(
        source=ReportSource.STREAM,
        symbol="BTCUSDT",
        client_order_id="c",
        exchange_order_id="5",
        status=word,
        side=Side.BUY,
        order_type="LIMIT",
        time_in_force="GTC",
        quantity=D(4),
        price=D(10),
        filled_quantity=D(filled),
        filled_quote_quantity=D(filled) * 10,
        updated_at=datetime(2026, 11, 29, tzinfo=UTC),
    )


REPORTS = [_report(*said) for said in SAID]


def _next_books(book: Book) -> Iterator[Book]:
    """Yield what the exchange's next word, or our next step, can make of an order."""
    attempts, verdict = book
    for number, attempt in enumerate(attempts):
        before, after = attempts[:number], attempts[number + 1 :]
        for report in REPORTS:
            yield (*before, _merged(attempt, report), *after), verdict
        if not attempt.is_shown:  # the answer to the request itself
            refused = replace(attempt, exchange_status="REJECTED", is_pending=False, is_lost=False)
            yield (*before, refused, *after), verdict
        if attempt.is_pending:
            yield from _ended((*before, GONE, *after), verdict)
    if len(attempts) < MOST_ATTEMPTS:
        for report in REPORTS[:-1]:  # an attempt without a row: the exchange shows it
            yield (*attempts, _merged(PENDING, report)), verdict
    yield from _reviewed(book)
    if status_of(attempts, verdict) == OrderStatus.CREATED:
        yield from ((attempts, word) for word in (OrderStatus.DENIED, *GIVEN_UP))
        if len(attempts) < MOST_ATTEMPTS:
            yield (*attempts, PENDING), verdict
    if any(map(_may_be_lost, attempts)):
        yield _lost(attempts)


def _reviewed(book: Book) -> Iterator[Book]:
    """Yield what the gate and a second person can make of an order that was never sent."""
    attempts, _verdict = book
    if status_of(*book) == OrderStatus.CREATED and not attempts:
        yield (), OrderStatus.HELD
    if status_of(*book) == OrderStatus.HELD:
        yield from ((attempts, word) for word in (OrderStatus.CREATED, OrderStatus.DENIED))
        yield from ((attempts, word) for word in GIVEN_UP)


GIVEN_UP = (OrderStatus.NOT_PLACED, OrderStatus.CANCELED)


def _merged(attempt: AttemptState, report: OrderReport) -> AttemptState:
    return merge_report(attempt, known_trade_ids=(), report=report, fills=()).state


def _ended(attempts: tuple[AttemptState, ...], verdict: OrderStatus) -> Iterator[Book]:
    """Yield what an attempt that is proven absent, or was not sent, leaves to our verdict."""
    yield attempts, verdict
    yield from ((attempts, word) for word in GIVEN_UP if status_of(attempts, word) == word)


def _may_be_lost(attempt: AttemptState) -> bool:
    return attempt.is_pending or attempt.is_alive


def _lost(attempts: tuple[AttemptState, ...]) -> Book:
    was_shown = any(attempt.is_shown for attempt in attempts)
    lost = tuple(
        replace(each, is_pending=False, is_lost=True) if _may_be_lost(each) else each
        for each in attempts
    )
    return lost, OrderStatus.EXPIRED if was_shown else OrderStatus.NOT_PLACED


def _reach() -> dict[OrderStatus, set[OrderStatus]]:
    reach: dict[OrderStatus, set[OrderStatus]] = {status: set() for status in OrderStatus}
    first: Book = ((), OrderStatus.CREATED)
    seen, waiting = {first}, [first]
    while waiting:
        book = waiting.pop()
        status = status_of(*book)
        for following in _next_books(book):
            reach[status].add(status_of(*following))
            if following not in seen:
                seen.add(following)
                waiting.append(following)
    return {status: after - {status} for status, after in reach.items()}


def test_transitions__are_exactly_the_reach_of_the_rule() -> None:
    assert _reach() == {status: set(after) for status, after in TRANSITIONS.items()}


def test_verdicts__are_what_the_rule_can_be_given() -> None:
    assert {status_of([], verdict) for verdict in VERDICTS} == VERDICTS
