"""Check at the end of a story that our book is the exchange's truth and each intent traded once."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

from django.db.models import Q

from exchanges.simulator.client import OrderTruth, Truth
from exchanges.types import EXACT
from orders.ids import split_client_order_id
from orders.models import AttemptOutcome, EventType, ExchangeOrder, Fill, Order
from orders.states import CLOSED, UNRESOLVED
from tests.harness.scenario import Scenario

LOCAL_CLOSINGS = {"DENIED", "NOT_PLACED", "REJECTED"}
OUR_WORD = {"EXPIRED_IN_MATCH": "EXPIRED"}


def assert_book_equals_truth(scenario: Scenario, *, placed: int, strangers: int = 0) -> None:
    """Check everything that must hold once no order is under way.

    `placed` is how many orders the exchange accepted in the whole story, `strangers` how many of
    them are not ours.
    """
    truth = scenario.simulator.control.truth()
    orders = list(Order.objects.filter(account=scenario.account))
    assert truth.accepted_total() == placed
    assert truth.raw["accounts"]["main"]["reused_client_order_ids"] == {}
    assert_nothing_is_left()
    ours = [order for order in orders if not order.is_external]
    accepted = {order.intent_id: accepted_orders(truth, order) for order in ours}
    assert {intent: count for intent, count in accepted.items() if count > 1} == {}, (
        "an intent traded twice"
    )
    assert sum(accepted.values()) == placed - strangers, (
        "the exchange has an order that is in no intent's name"
    )
    for order in orders:
        assert_order_equals_truth(truth, order)


def assert_nothing_is_left() -> None:
    """Check that no order is unresolved, and that none waits for a check that never comes."""
    left = Order.objects.filter(Q(status__in=[*UNRESOLVED]) | Q(next_check_at__isnull=False))
    assert list(left.values_list("intent_id", "status", "next_check_at")) == []
    unanswered = ExchangeOrder.objects.filter(
        order__status__in=[*CLOSED], outcome=AttemptOutcome.IN_FLIGHT
    )
    assert list(unanswered.values_list("client_order_id", "order__status")) == []


def accepted_orders(truth: Truth, order: Order) -> int:
    """Count the orders ever accepted under any id that this intent could have been sent with."""
    rows = ExchangeOrder.objects.filter(order=order).values_list("client_order_id", flat=True)
    ids = set(rows)
    for client_order_id in rows:
        if parts := split_client_order_id(client_order_id):
            ids |= {f"bo-{parts[0]}-{number}" for number in range(1, order.attempt + 4)}
    return sum(truth.accepted(client_order_id) for client_order_id in ids)


def assert_order_equals_truth(truth: Truth, order: Order) -> None:
    attempts = list(ExchangeOrder.objects.filter(order=order))
    shown = [
        (attempt, row)
        for attempt in attempts
        if (row := truth.order(attempt.client_order_id)) is not None
    ]
    assert_events_are_a_chain(order)
    if not shown:
        assert order.status in LOCAL_CLOSINGS or order.status == "CANCELED", order.status
        assert order.filled_quantity == 0
        assert not Fill.objects.filter(order=order).exists()
        assert not any(attempt.exchange_order_id for attempt in attempts)
        return
    assert len(shown) == 1
    attempt, row = shown[0]
    assert order.exchange_order_id == attempt.exchange_order_id
    assert str(order.status) == OUR_WORD.get(row["status"], row["status"])
    assert order.filled_quantity == Decimal(row["executed_quantity"])
    assert order.filled_quote_quantity == Decimal(row["executed_quote"])
    assert order.average_price == average_price(row)
    assert (order.closed_at is not None) == (order.status in CLOSED)
    assert order.acknowledged_at is not None
    assert_attempt_equals_truth(attempt, row)
    assert stored_trades(attempt) == true_trades(truth, row)


def assert_attempt_equals_truth(attempt: ExchangeOrder, row: OrderTruth) -> None:
    assert attempt.outcome == AttemptOutcome.ACKNOWLEDGED
    assert attempt.exchange_order_id == str(row["order_id"])
    assert attempt.exchange_status == row["status"]
    assert (attempt.symbol, attempt.order.side) == (row["symbol"], row["side"])
    assert attempt.filled_quantity == Decimal(row["executed_quantity"]) == attempt.fills_quantity
    assert (
        attempt.filled_quote_quantity
        == Decimal(row["executed_quote"])
        == attempt.fills_quote_quantity
    )
    if attempt.quantity is not None:
        assert attempt.quantity == Decimal(row["quantity"])
    if attempt.price is not None:
        assert attempt.price == Decimal(row["price"])


def average_price(row: OrderTruth) -> Decimal | None:
    executed = Decimal(row["executed_quantity"])
    if not executed:
        return None
    return EXACT.divide(Decimal(row["executed_quote"]), executed).quantize(
        Decimal("1e-18"), context=EXACT
    )


def stored_trades(attempt: ExchangeOrder) -> list[tuple[Any, ...]]:
    """Return every fill of the attempt's order, also one stored under the wrong attempt."""
    return sorted(
        (
            fill.trade_id,
            fill.quantity,
            fill.price,
            fill.quote_quantity,
            fill.commission,
            fill.commission_asset,
        )
        for fill in Fill.objects.filter(order=attempt.order_id, symbol=attempt.symbol)
    )


def true_trades(truth: Truth, row: OrderTruth) -> list[tuple[Any, ...]]:
    return sorted(
        (
            str(trade["trade_id"]),
            *(
                Decimal(trade[name])
                for name in ("quantity", "price", "quote_quantity", "commission")
            ),
            trade["commission_asset"],
        )
        for trade in truth.trades(row["account"])
        if (trade["symbol"], trade["order_id"]) == (row["symbol"], row["order_id"])
    )


def assert_events_are_a_chain(order: Order) -> None:
    """Check that each event starts at the status where the one before it ended.

    An order that was recorded again and then joined with its recovered life has two such chains.
    """
    events = list(order.events.order_by("id"))
    assert events, "an order without a history"
    if events[-1].event_type == EventType.ADOPTED and events[-1].previous_status == "CREATED":
        began = max(n for n, event in enumerate(events) if not event.previous_status)
        second = [
            events[began],
            *(e for e in events[began + 1 :] if e.previous_status == "CREATED"),
        ]
        lives = [[event for event in events if event not in second], second]
    else:
        lives = [events]
    for earlier, later in (pair for life in lives for pair in pairwise(life)):
        assert later.previous_status in ("", earlier.new_status), f"{earlier} -> {later}"
    assert events[-1].new_status == order.status
