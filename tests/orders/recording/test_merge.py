"""Check the merge rule as a table, and that the order of messages doesn't matter."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchanges.types import FillReport, OrderReport, ReportSource, Side
from orders.recording.merge import AttemptState, average_price, merge_report
from orders.recording.status import status_of
from orders.states import OrderStatus

NOW = datetime(2026, 11, 22, tzinfo=UTC)
D = Decimal


def fill(trade_id: int, quantity: str = "1", price: str = "10") -> FillReport:
    return FillReport(
        symbol="BTCUSDT",
        trade_id=str(trade_id),
        exchange_order_id="5",
        side=Side.BUY,
        quantity=D(quantity),
        price=D(price),
        quote_quantity=D(quantity) * D(price),
        commission=D(0),
        commission_asset="BNB",
        is_maker=False,
        traded_at=NOW,
    )


def report(
    status: str, filled: str = "0", quote: str | None = None, fills: tuple[FillReport, ...] = ()
) -> OrderReport:
    return OrderReport(
        source=ReportSource.STREAM,
        symbol="BTCUSDT",
        client_order_id="c",
        exchange_order_id="5",
        status=status,
        side=Side.BUY,
        order_type="LIMIT",
        time_in_force="GTC",
        quantity=D(4),
        price=D(10),
        filled_quantity=D(filled),
        filled_quote_quantity=D(filled) * 10 if quote is None else D(quote),
        updated_at=NOW,
        fills=fills,
    )


def state(
    status: str = "", filled: str = "0", fills: str | None = None, **more: Any
) -> AttemptState:
    return AttemptState(
        exchange_status=status,
        quantity=D(4),
        filled_quantity=D(filled),
        filled_quote_quantity=D(filled) * 10,
        fills_quantity=D(filled if fills is None else fills),
        fills_quote_quantity=D(filled if fills is None else fills) * 10,
        **more,
    )


# known, message -> status, filled
SCENARIOS = [
    ("first answer", state(is_pending=True), report("NEW"), "NEW", "0"),
    ("event before the REST answer", state("PARTIALLY_FILLED", "1"), report("NEW"),
     "PARTIALLY_FILLED", "1"),
    ("duplicate", state("NEW"), report("NEW"), "NEW", "0"),
    ("partial fill", state("NEW"), report("PARTIALLY_FILLED", "1"), "PARTIALLY_FILLED", "1"),
    ("snapshot older than the stream", state("PARTIALLY_FILLED", "3"),
     report("PARTIALLY_FILLED", "1"),
     "PARTIALLY_FILLED", "3"),
    ("filled", state("PARTIALLY_FILLED", "3"), report("FILLED", "4"), "FILLED", "4"),
    ("FILLED before NEW", state("FILLED", "4"), report("NEW"), "FILLED", "4"),
    ("canceled", state("NEW"), report("CANCELED"), "CANCELED", "0"),
    ("canceled part filled", state("PARTIALLY_FILLED", "1"), report("CANCELED", "1"), "CANCELED",
     "1"),
    ("CANCELED before the last TRADE", state("CANCELED", "1"), report("PARTIALLY_FILLED", "2"),
     "CANCELED", "2"),
    ("a fill beats a cancel", state("CANCELED", "1"), report("FILLED", "4"), "FILLED", "4"),
    ("expired part filled", state("NEW"), report("EXPIRED", "1"), "EXPIRED", "1"),
    ("expired in match part filled", state("PARTIALLY_FILLED", "1"),
     report("EXPIRED_IN_MATCH", "1"),
     "EXPIRED_IN_MATCH", "1"),
    ("first ending stays", state("EXPIRED"), report("CANCELED"), "EXPIRED", "0"),
    ("a refusal gives way to what the exchange shows", state("REJECTED"), report("NEW"), "NEW",
     "0"),
    ("a late refusal changes nothing", state("NEW"), report("REJECTED"), "NEW", "0"),
    ("a refusal of what was not sent is no news", state(""), report("REJECTED"), "", "0"),
    ("unknown word", state("NEW"), report("HIBERNATING", "1"), "PARTIALLY_FILLED", "1"),
    ("pending cancel is open", state("NEW"), report("PENDING_CANCEL"), "NEW", "0"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("known", "message", "status", "filled"),
    [row[1:] for row in SCENARIOS],
    ids=[row[0] for row in SCENARIOS],
)
def test_merge_report__scenarios(
    known: AttemptState, message: OrderReport, status: str, filled: str
) -> None:
    merged = merge_report(known, known_trade_ids=set(), report=message, fills=message.fills)
    assert merged.state.exchange_status == status
    assert merged.state.filled_quantity == D(filled)
    assert not merged.state.is_pending


def test_merge_report__trades_alone_are_evidence() -> None:
    merged = merge_report(
        state("NEW"), known_trade_ids=set(), report=None, fills=[fill(1), fill(2, "3")]
    )
    assert (merged.state.exchange_status, merged.state.filled_quantity) == ("FILLED", D(4))
    assert merged.state.filled_quote_quantity == D(40)


def test_merge_report__a_trade_counts_once() -> None:
    known = state("PARTIALLY_FILLED", "1")
    merged = merge_report(
        known, known_trade_ids={"1"}, report=None, fills=[fill(1), fill(2), fill(2)]
    )
    assert [new.trade_id for new in merged.new_fills] == ["2"]
    assert merged.state.filled_quantity == D(2)


def test_merge_report__zero_quantity_trade_is_no_fill() -> None:
    merged = merge_report(state("NEW"), known_trade_ids=set(), report=None, fills=[fill(1, "0")])
    assert merged.new_fills == ()
    assert merged.state.exchange_status == "NEW"


def test_merge_report__names_an_unknown_word() -> None:
    assert (
        merge_report(
            state("NEW"), known_trade_ids=set(), report=report("X"), fills=()
        ).unknown_status
        == "X"
    )


def test_merge_report__unavailable_quote_keeps_what_is_known() -> None:
    message = report("CANCELED", "1")
    message = OrderReport(
        **{f: getattr(message, f) for f in message.__slots__} | {"filled_quote_quantity": None}
    )
    merged = merge_report(
        state("PARTIALLY_FILLED", "1"), known_trade_ids=set(), report=message, fills=()
    )
    assert merged.state.filled_quote_quantity == D(10)


def test_has_fill_gap__where_trades_are_missing() -> None:
    merged = merge_report(
        state("NEW"), known_trade_ids=set(), report=report("PARTIALLY_FILLED", "2"), fills=[fill(1)]
    )
    assert merged.state.has_fill_gap


SETTLED = [
    (OrderStatus.PENDING_NEW, [state(is_pending=True)], OrderStatus.PENDING_NEW),
    (OrderStatus.PENDING_NEW, [state("NEW")], OrderStatus.NEW),
    (OrderStatus.NOT_PLACED, [state("NEW")], OrderStatus.NEW),
    (OrderStatus.CREATED, [state("FILLED", "4")], OrderStatus.FILLED),
    (OrderStatus.CANCELED, [state("PARTIALLY_FILLED", "1")], OrderStatus.PARTIALLY_FILLED),
    (OrderStatus.PENDING_NEW, [state("REJECTED")], OrderStatus.REJECTED),
    (OrderStatus.PENDING_NEW, [state("EXPIRED"), state(is_pending=True)], OrderStatus.PENDING_NEW),
    (OrderStatus.PENDING_NEW, [state("NEW"), state("FILLED", "4")], OrderStatus.FILLED),
    (OrderStatus.NEW, [state("CANCELED"), state("FILLED", "4")], OrderStatus.FILLED),
    (OrderStatus.NEW, [state("EXPIRED_IN_MATCH", "1")], OrderStatus.EXPIRED),
    (OrderStatus.DENIED, [], OrderStatus.DENIED),
]


@pytest.mark.parametrize(("current", "attempts", "expected"), SETTLED)
def test_status_of__scenarios(
    current: OrderStatus, attempts: list[AttemptState], expected: OrderStatus
) -> None:
    assert status_of(attempts, current) == expected


def test_average_price__of_repeating_decimals_has_18_digits() -> None:
    assert average_price(D(3), D(10)) == D("3.333333333333333333")
    assert average_price(D(0), D(0)) is None


def history(quantities: list[int], ending: str) -> list[OrderReport]:
    """Build a valid life of an order: NEW, trades one by one, and the matching end."""
    messages, filled = [report("NEW")], 0
    for number, quantity in enumerate(quantities, start=1):
        filled += quantity
        word = "FILLED" if filled == 4 else "PARTIALLY_FILLED"
        messages.append(report(word, str(filled), fills=(fill(number, str(quantity)),)))
    if filled < 4:
        messages.append(report(ending, str(filled)))
    return messages


def replay(messages: list[OrderReport]) -> AttemptState:
    known, seen = state(is_pending=True), set[str]()
    for message in messages:
        merged = merge_report(known, known_trade_ids=seen, report=message, fills=message.fills)
        known = merged.state
        seen |= {new.trade_id for new in merged.new_fills}
    return known


@settings(max_examples=300, deadline=None)
@given(
    quantities=st.lists(st.integers(1, 2), max_size=4).filter(lambda q: sum(q) <= 4),
    ending=st.sampled_from(["CANCELED", "EXPIRED", "EXPIRED_IN_MATCH"]),
    seed=st.integers(0, 10_000),
    copies=st.integers(1, 3),
)
def test_merge_report__any_order_and_repetition_ends_alike(
    quantities: list[int], ending: str, seed: int, copies: int
) -> None:
    messages = history(quantities, ending)
    shuffled = messages * copies
    random.Random(seed).shuffle(shuffled)
    assert replay(shuffled) == replay(messages)
