"""Hold an order until a second person agrees, and let it go again.

A held order is recorded, its money is reserved, and nothing is sent. The release is bound to
exactly the order that the person saw. It lasts as long as the order's deadline, and the gate runs
again before the order leaves. Whatever ends the waiting gives the money back first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from exchanges import clock
from exchanges.acts import record_act
from exchanges.db import batch_writes
from exchanges.db.batch_writes import Insert, Write
from exchanges.mirror.reservations import release, reserve
from exchanges.types import plain
from orders.amounts import AMOUNTS, OrderAmounts
from orders.gate.decide import (
    PAST_DEADLINE,
    ClaimContext,
    Prerequisite,
    PrerequisiteMissing,
    money_is_reserved,
    spent,
)
from orders.gate.facts import GateSnapshot
from orders.gate.review import review_reason
from orders.models import EventType, Order, OrderEvent
from orders.notifications import outbox
from orders.recording.changes import Change, change_order, own_version, record_event, set_fields
from orders.states import OrderStatus

HELD_FOR_REVIEW = "HELD_FOR_REVIEW"
REVIEW_REJECTED = "REVIEW_REJECTED"


def why_held(order: Order, facts: GateSnapshot, amounts: OrderAmounts, *, is_new: bool) -> str:
    """Return why the order must wait for a second person, or an empty text.

    An order that was released, or sent before the rule was made, does not wait again.
    """
    reason = review_reason(facts.review_rules, amounts, facts.last_trade)
    if reason and not is_new and (order.attempt or _was_released(order)):
        return ""
    return reason


def _was_released(order: Order) -> bool:
    return OrderEvent.objects.filter(order=order, event_type=EventType.RELEASED).exists()


def hold(
    order: Order,
    facts: GateSnapshot,
    amounts: OrderAmounts,
    context: ClaimContext,
    reason: str,
    *,
    is_new: bool,
) -> Order:
    """Store the order as HELD and reserve its money, in the caller's transaction."""
    money = _reservation(order, facts, amounts, after=None if is_new else 0)
    fields: dict[str, Any] = {
        "status": str(OrderStatus.HELD),
        "verdict": str(OrderStatus.HELD),
        "reason_code": HELD_FOR_REVIEW,
        "reason": reason,
        "next_check_at": order.place_by or clock.now(),
    }
    event = _held(order, reason)
    if is_new:
        created = record_event(order, EventType.CREATED, actor=order.strategy or "orchestrator")
        set_fields(order, fields)
        # Without the money none of the others is written.
        is_paid = batch_writes.write(*money, Insert([order]), Insert([created, event]))[0]
    else:
        fields["version"] = order.version + 1
        is_ours, *written = batch_writes.write(own_version(order, fields), *money, Insert([event]))
        if not is_ours:  # another worker has changed it
            order.refresh_from_db()
            return order
        is_paid = all(written)
        if is_paid:
            set_fields(order, fields)
    if not is_paid:
        if Prerequisite.BALANCES not in context.fetched:
            raise PrerequisiteMissing(Prerequisite.BALANCES)
        raise money_is_reserved("its money")
    outbox.note_change(order)
    return order


def _reservation(
    order: Order, facts: GateSnapshot, amounts: OrderAmounts, *, after: int | None
) -> Sequence[Write]:
    """Return the writes that reserve the order's money, none if the amount is unknown."""
    assert facts.rules is not None
    asset, amount = spent(facts, facts.rules, amounts, clock.now())
    if amount is None:
        return ()
    return reserve(
        account_id=facts.account_id,
        asset=asset,
        reference=_reference(order),
        amount=amount,
        after=after,
    )


def _held(order: Order, reason: str) -> OrderEvent:
    event = record_event(
        order,
        EventType.HELD,
        actor="gate",
        previous_status=OrderStatus.CREATED,
        details={"reason": reason, **_figures(order)},
    )
    event.new_status = str(OrderStatus.HELD)
    return event


def _figures(order: Order) -> dict[str, str]:
    """Return the figures to which the release is bound."""
    return {
        name: plain(value) for name in AMOUNTS if (value := getattr(order, name)) is not None
    } | {"symbol": order.symbol, "side": order.side, "order_type": order.order_type}


def _reference(order: Order) -> str:
    return f"held-{order.pk}"


def free_held_money(order: Order) -> None:
    """Give back the money of an order that waited, in the transaction that ends the waiting."""
    release(account_id=order.account_id, reference=_reference(order))


def release_held(order: Order, *, released_by: str, reason: str, seen_version: int) -> bool:
    """Let a held order go. Return False if it isn't the order that the person saw any more.

    The caller has checked that the person may release it and did not make it. The gate runs again
    when the order is placed.
    """

    def fields() -> dict[str, Any]:
        return {
            "status": str(OrderStatus.CREATED),
            "verdict": str(OrderStatus.CREATED),
            "reason_code": "",
            "reason": "",
            "next_check_at": clock.now(),
            "check_count": 0,
        }

    return _end(
        order, EventType.RELEASED, fields, "release_order", released_by, reason, seen_version
    )


def reject_held(order: Order, *, rejected_by: str, reason: str, seen_version: int) -> bool:
    """Close a held order for good. Return False if it isn't the order that the person saw."""

    def fields() -> dict[str, Any]:
        return {
            "status": str(OrderStatus.DENIED),
            "verdict": str(OrderStatus.DENIED),
            "reason_code": REVIEW_REJECTED,
            "reason": reason,
            "closed_at": clock.now(),
            "next_check_at": None,
        }

    return _end(
        order, EventType.REVIEW_REJECTED, fields, "reject_order", rejected_by, reason, seen_version
    )


def _end(
    order: Order,
    event_type: EventType,
    fields: Callable[[], dict[str, Any]],
    verb: str,
    actor: str,
    reason: str,
    seen_version: int,
) -> bool:
    """End the hold before the deadline, if it hasn't ended yet."""
    if not reason.strip():
        raise ValueError("reason: a reason is required")
    is_done = False

    def decide(order: Order) -> Change | None:
        nonlocal is_done
        is_done = False
        if order.status != OrderStatus.HELD or order.version != seen_version:
            return None
        if _is_late(order):
            return None
        is_done = True
        return Change(
            fields=fields(),
            event_type=event_type,
            actor=actor,
            details={"reason": reason, **_figures(order)},
            also=partial(_record, order, verb, actor, reason),
            log_event=verb,
            log_level="warning",
            log_details={"actor": actor, "reason": reason},
        )

    change_order(order, decide)
    return is_done


def _record(order: Order, verb: str, actor: str, reason: str) -> None:
    free_held_money(order)
    record_act(
        verb,
        actor=actor,
        subject=f"order:{order.pk}",
        account=order.account.name,
        reason=reason,
        before={"status": str(OrderStatus.HELD), **_figures(order)},
        after={"status": order.status, "intent_id": order.intent_id},
    )


def _is_late(order: Order) -> bool:
    return order.place_by is not None and clock.now() >= order.place_by


def expire_held(order: Order) -> Order:
    """Close a held order whose deadline has passed, as NOT_PLACED."""

    def decide(order: Order) -> Change | None:
        if order.status != OrderStatus.HELD or not _is_late(order):
            return None
        assert order.place_by is not None
        text = f"nobody released it before the deadline {order.place_by.isoformat()}"
        return Change(
            fields={
                "status": str(OrderStatus.NOT_PLACED),
                "verdict": str(OrderStatus.NOT_PLACED),
                "reason_code": PAST_DEADLINE,
                "reason": text,
                "closed_at": clock.now(),
                "next_check_at": None,
            },
            event_type=EventType.NOT_PLACED,
            actor="sweep",
            details={"code": PAST_DEADLINE, "reason": text},
            also=partial(free_held_money, order),
            log_event="held_order_expired",
            log_level="warning",
        )

    return change_order(order, decide)
