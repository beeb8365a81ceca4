"""Give up orders that the exchange will never report, because a person says so.

Nothing is sent to the exchange. If it shows such an order after all, its evidence wins: the order
takes the exchange's state, and a break is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import structlog
from django.db.models import Max

from exchanges import clock
from exchanges.account_writes import ahead_of_claims
from exchanges.acts import record_act
from exchanges.models import ExchangeAccount, SymbolCatchUp
from orders.accounts import account_named
from orders.intents import invalid, parse_note
from orders.models import (
    AttemptOutcome,
    BreakKind,
    EventType,
    ExchangeOrder,
    Order,
    ReconciliationBreak,
)
from orders.recording.apply import release_reservation
from orders.recording.breaks import close_breaks
from orders.recording.changes import Change, change_order
from orders.recording.plan import attempt_state, order_state
from orders.states import LOCAL, OrderStatus

log = structlog.get_logger(__name__)

DECLARED_LOST = "DECLARED_LOST"


def declare_lost(*, account: str, intent_id: str, declared_by: str, reason: str) -> Order:
    """Close an order whose attempts the exchange will never report. Return the order as stored.

    It becomes EXPIRED if the exchange ever acknowledged it, else NOT_PLACED, and its reserved
    money is free. Raises `InvalidIntent` for an unknown account or intent, a missing reason, and
    an order that has nothing open at the exchange.
    """
    declared_by = parse_note("declared_by", declared_by, longest=150)
    reason = _required(reason)
    owner = account_named(account)
    order = Order.objects.filter(account=owner, intent_id=intent_id).first()
    if order is None:
        raise invalid("intent_id", f"account {account!r} has no order with intent {intent_id!r}")
    if order.status in LOCAL:
        raise invalid("intent_id", "the order was never sent. Cancel it instead")
    if not any(map(_may_be_lost, _attempts(order))):
        raise invalid("intent_id", f"the order has no open attempt, it is {order.status}")
    return _lose(order, declared_by, reason)


def begin_epoch(
    *, account: str, begun_by: str, reason: str, seen_epoch: int | None = None
) -> ExchangeAccount:
    """Declare that the exchange was reset: its numbers begin again. Return the account.

    All orders that were open before are declared lost, and the history of each symbol is read from
    its beginning. A halted account stays halted, until a person resumes it. With `seen_epoch`, only
    that epoch is ended. Raises `InvalidIntent` for an unknown account, a missing reason and
    another epoch than the one that was seen.
    """
    begun_by = parse_note("begun_by", begun_by, longest=150)
    reason = _required(reason)
    owner = account_named(account)
    ended = _next_epoch(owner, seen_epoch, actor=begun_by, reason=reason)
    still_open = Order.objects.filter(
        account=owner,
        exchange_orders__outcome__in=_MAY_BE_OPEN,
        exchange_orders__epoch__lte=ended,
    )
    lost = 0
    for order in still_open.distinct().iterator():
        before = order.version
        lost += _lose(order, begun_by, reason, until_epoch=ended).version != before
    _note_epoch(owner, begun_by, reason, lost)
    log.warning("epoch_begun", account=owner.name, epoch=owner.epoch, lost=lost, actor=begun_by)
    return owner


_MAY_BE_OPEN = (AttemptOutcome.IN_FLIGHT, AttemptOutcome.UNKNOWN, AttemptOutcome.ACKNOWLEDGED)


def _required(reason: str) -> str:
    reason = parse_note("reason", reason, longest=1000)
    if not reason.strip():
        raise invalid("reason", "a reason is required")
    return reason


# -- one order ------------------------------------------------------------------------------------


def _lose(order: Order, actor: str, reason: str, *, until_epoch: int | None = None) -> Order:
    """Declare the open attempts lost, with `until_epoch` only those of that epoch or before."""
    lost: list[ExchangeOrder] = []

    def decide(order: Order) -> Change | None:
        nonlocal lost
        attempts = _attempts(order)
        lost = [
            attempt
            for attempt in attempts
            if _may_be_lost(attempt) and (until_epoch is None or attempt.epoch <= until_epoch)
        ]
        if not lost:
            return None
        return Change(
            fields=_lost_fields(order, attempts, lost, reason),
            event_type=EventType.DECLARED_LOST,
            actor=actor,
            details={
                "reason": reason,
                "client_order_ids": [attempt.client_order_id for attempt in lost],
            },
            also=lambda: _end_lost(order, lost, actor=actor, reason=reason),
            log_event="order_declared_lost",
            log_level="warning",
            log_details={"reason": reason, "actor": actor},
        )

    return change_order(order, decide)


def _attempts(order: Order) -> list[ExchangeOrder]:
    return list(ExchangeOrder.objects.filter(order=order).order_by("attempt"))


def _may_be_lost(attempt: ExchangeOrder) -> bool:
    state = attempt_state(attempt)
    return state.is_pending or state.is_alive


def _lost_fields(
    order: Order, attempts: Sequence[ExchangeOrder], lost: Sequence[ExchangeOrder], reason: str
) -> dict[str, Any]:
    states = [
        replace(attempt_state(attempt), is_pending=False, is_lost=True)
        if attempt in lost
        else attempt_state(attempt)
        for attempt in attempts
    ]
    verdict = OrderStatus.EXPIRED if order.acknowledged_at else OrderStatus.NOT_PLACED
    fields = order_state(order, states, now=clock.now(), verdict=verdict)
    if fields["status"] == verdict:
        fields |= {"reason_code": DECLARED_LOST, "reason": reason}
    return fields


def _end_lost(order: Order, lost: Sequence[ExchangeOrder], *, actor: str, reason: str) -> None:
    ExchangeOrder.objects.filter(pk__in=[attempt.pk for attempt in lost]).update(
        outcome=AttemptOutcome.LOST
    )
    for attempt in lost:
        release_reservation(attempt)
    close_breaks(order, BreakKind.MISSING_AT_EXCHANGE, resolution="the order was declared lost")
    record_act(
        "declare_lost",
        actor=actor,
        subject=f"order:{order.pk}",
        account=order.account.name,
        reason=reason,
        after={"intent_id": order.intent_id, "status": order.status},
    )


# -- the account ----------------------------------------------------------------------------------


def _next_epoch(account: ExchangeAccount, seen: int | None, *, actor: str, reason: str) -> int:
    """Move the account to an epoch without any rows. Return the epoch that ended."""

    def write() -> int:
        account.refresh_from_db()
        ended: int = account.epoch
        if seen not in (None, ended):
            raise invalid("account", f"epoch {ended} has begun meanwhile")
        rows = ExchangeOrder.objects.filter(account=account)
        newest: int | None = rows.aggregate(newest=Max("epoch"))["newest"]
        account.epoch = max(ended, newest or 0) + 1
        account.save(update_fields=["epoch"])
        SymbolCatchUp.objects.filter(account=account).update(
            caught_up_at=None, read_until=None, own_read_until=None
        )
        record_act(
            "begin_epoch",
            actor=actor,
            subject=f"account:{account.name}",
            account=account.name,
            reason=reason,
            before={"epoch": ended},
            after={"epoch": account.epoch},
        )
        return ended

    return ahead_of_claims(write)


def _note_epoch(account: ExchangeAccount, actor: str, reason: str, lost: int) -> None:
    """Close the breaks that the reset has opened. One closed break stays as the record."""
    resolution = f"epoch {account.epoch} begun by {actor}: {reason}"
    breaks = ReconciliationBreak.objects.filter(account=account, resolved_at=None)
    breaks.filter(kind__in=[BreakKind.EXCHANGE_RESET, BreakKind.NUMBERS_REUSED]).update(
        resolved_at=clock.now(), resolution=resolution
    )
    ReconciliationBreak.objects.create(
        account=account,
        kind=BreakKind.EXCHANGE_RESET,
        subject=account.name,
        details={"epoch": account.epoch, "by": actor, "reason": reason, "lost": lost},
        resolved_at=clock.now(),
        resolution=resolution,
    )
