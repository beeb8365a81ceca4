"""Record reports and trades of the exchange in the book, with an event for each change.

No other module writes the exchange's word about an order. Every write is a compare-and-swap on
`Order.version`: the new state is planned from the rows as they were read, and stored only if the
order has not changed since. Otherwise the rows are read again. So no row is locked while anything
is computed or fetched, and the placing path can record an answer without reading the order again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from django.db import IntegrityError

from exchanges import clock
from exchanges.db.batch_writes import Insert, Update, Write
from exchanges.mirror import reservations
from exchanges.types import ExchangeStatus, FillReport, OrderReport, ReportSource, plain
from orders.models import AttemptOutcome, BreakKind, EventType, ExchangeOrder, Fill, Order
from orders.recording.breaks import close_breaks, open_break
from orders.recording.changes import (
    Change,
    change_order,
    reload_attempt,
    set_fields,
)
from orders.recording.epochs import move_to_free_epoch
from orders.recording.merge import AttemptState, Merge, merge_report
from orders.recording.plan import (
    Message,
    Money,
    RecordPlan,
    attempt_state,
    changes_nothing,
    order_state,
    plan_record,
)
from orders.stages import Stage, StageTimer, count_first_fill
from orders.states import OrderStatus


def apply_report(
    attempt: ExchangeOrder,
    report: OrderReport,
    *,
    actor: str = "exchange",
    timer: StageTimer | None = None,
) -> Order:
    """Merge a report about `attempt` into the book. Return the order as stored.

    `attempt.order` must be loaded. Both rows may be stale, then they are read again. `timer` comes
    with the answer to a placement. Raises `TooMuchContention` if the order keeps changing.
    """
    return _apply(attempt, Message(report, report.fills, report.source, actor), timer)


def apply_fills(
    attempt: ExchangeOrder,
    fills: Sequence[FillReport],
    *,
    source: ReportSource = ReportSource.TRADES,
) -> Order:
    """Merge trades that came without a report of the order (myTrades), like `apply_report`."""
    return _apply(attempt, Message(None, tuple(fills), source, "exchange"))


def _apply(attempt: ExchangeOrder, message: Message, timer: StageTimer | None = None) -> Order:
    plan: RecordPlan | None = None
    had_no_fills = not attempt.fills_quantity

    def decide(order: Order) -> Change | None:
        nonlocal plan
        if waits_for_answer(attempt, message):
            plan = None
            return _note_refusal(attempt, message)
        merged = _merge(attempt, message)
        if changes_nothing(attempt, message, merged):
            plan = None
            return None
        attempts = states_of_all_attempts(attempt, merged.state)
        plan = plan_record(attempt, message, merged, attempts, now=clock.now())
        return change_of(plan, attempt, message, _writes(plan, attempt, _stages_recorded(timer)))

    try:
        order = change_order(attempt.order, decide, reload=partial(reload_attempt, attempt))
    except IntegrityError:
        # The number or a trade id is in use: the exchange has begun to count again.
        if not move_to_free_epoch(attempt, message.report, message.fills):
            raise
        order = change_order(attempt.order, decide, reload=partial(reload_attempt, attempt))
    if plan is not None:
        set_fields(attempt, plan.attempt_changes)
        if plan.new_fills and had_no_fills:
            count_first_fill(attempt, clock.now())
    _count(timer)
    return order


def waits_for_answer(attempt: ExchangeOrder, message: Message) -> bool:
    """Return True if the stream reports a refusal before the sender has read its answer.

    The answer says more: rules that we have read too long ago, or a market that will open again.
    """
    return (
        message.source is ReportSource.STREAM
        and message.report is not None
        and message.report.status == ExchangeStatus.REJECTED
        and not message.fills
        and attempt.outcome == AttemptOutcome.IN_FLIGHT
        and attempt.exchange_status in ("", ExchangeStatus.REJECTED)
    )


def _note_refusal(attempt: ExchangeOrder, message: Message) -> Change | None:
    """Note the refusal at the attempt. If its sender is gone, the sweep makes it final."""
    if attempt.exchange_status or message.report is None:
        return None
    noted = {"exchange_status": str(ExchangeStatus.REJECTED)}
    return Change(
        fields={},
        event_type=EventType.REPORT,
        actor=message.actor,
        source=message.source,
        details={
            "client_order_id": attempt.client_order_id,
            "message": dict(message.report.raw),
        },
        writes=[_own_row(attempt, noted)],
        log_event="refusal_noted",
        log_details={"reason": message.report.reason},
    )


def _count(timer: StageTimer | None) -> None:
    """Count the stages once the answer is on disk."""
    if timer is not None:
        timer.reach(Stage.RECORDED)
        timer.count()


def _stages_recorded(timer: StageTimer | None) -> dict[str, Any]:
    """Return the attempt's field that holds the stages, up to this moment."""
    if timer is None:
        return {}
    timer.reach(Stage.RECORDED)
    return {"stage_us": timer.microseconds()}


def _merge(attempt: ExchangeOrder, message: Message) -> Merge:
    known_trade_ids: set[str] = set()
    if message.fills and attempt.fills_quantity > 0:
        known = Fill.objects.filter(
            exchange_order=attempt, trade_id__in=[fill.trade_id for fill in message.fills]
        )
        known_trade_ids = set(known.values_list("trade_id", flat=True))
    return merge_report(
        attempt_state(attempt),
        known_trade_ids=known_trade_ids,
        report=message.report,
        fills=message.fills,
    )


def states_of_all_attempts(attempt: ExchangeOrder, state: AttemptState) -> list[AttemptState]:
    """Return the states of all attempts, oldest first. Queries only if there is more than one."""
    order = attempt.order
    if order.attempt <= 1 and attempt.attempt == order.attempt:
        return [state]
    others = ExchangeOrder.objects.filter(order=order).order_by("attempt")
    return [state if other.pk == attempt.pk else attempt_state(other) for other in others]


def change_of(
    plan: RecordPlan, attempt: ExchangeOrder, message: Message, writes: Sequence[Write]
) -> Change:
    """Return the change that stores the plan. `writes` are its rows beside the order's own."""
    finish = partial(_finish, plan, attempt)
    return Change(
        fields=plan.order_changes,
        event_type=EventType.REPORT,
        actor=message.actor,
        source=message.source,
        details=plan.event_details,
        writes=writes,
        # Without it the writes are one message to the database, with the commit: the usual case.
        also=finish if _needs_more(plan) else None,
        is_news=bool(plan.new_fills),
        log_event="order_reported",
        log_details={
            "source": str(message.source),
            "filled": plain(plan.order_changes["filled_quantity"]),
        },
    )


def _needs_more(plan: RecordPlan) -> bool:
    return bool(plan.breaks) or plan.closes_fill_gap or plan.money is Money.RELEASE


def _finish(plan: RecordPlan, attempt: ExchangeOrder) -> None:
    """Store the rare parts of the plan, in the transaction of the change."""
    if plan.money is Money.RELEASE:
        release_reservation(attempt)
    if plan.closes_fill_gap:
        close_breaks(attempt.order, BreakKind.FILL_GAP, resolution="the missing trades arrived")
    for found in plan.breaks:
        open_break(attempt.order, found.kind, subject=found.subject, details=found.details)


def _writes(plan: RecordPlan, attempt: ExchangeOrder, stages: Mapping[str, Any]) -> list[Write]:
    writes: list[Write] = [_own_row(attempt, {**plan.attempt_changes, **stages})]
    if plan.new_fills:
        writes.append(Insert(fill_rows(attempt, plan.new_fills)))
    if plan.taken_at is not None:
        account_id, reference = attempt.account_id, attempt.client_order_id
        writes.append(
            reservations.hand_over(account_id=account_id, reference=reference, at=plan.taken_at)
        )
    return writes


def _own_row(attempt: ExchangeOrder, changes: Mapping[str, Any]) -> Update:
    return Update(ExchangeOrder, {"id": attempt.pk}, changes)


def fill_rows(attempt: ExchangeOrder, fills: Sequence[FillReport]) -> list[Fill]:
    """Return the unsaved rows of the attempt's trades."""
    return [
        Fill(
            order_id=attempt.order_id,
            exchange_order=attempt,
            account_id=attempt.account_id,
            symbol=attempt.symbol,
            trade_id=fill.trade_id,
            epoch=attempt.epoch,
            side=fill.side,
            quantity=fill.quantity,
            price=fill.price,
            quote_quantity=fill.quote_quantity,
            commission=fill.commission,
            commission_asset=fill.commission_asset,
            is_maker=fill.is_maker,
            traded_at=fill.traded_at,
        )
        for fill in fills
    ]


def release_reservation(attempt: ExchangeOrder) -> None:
    """Free the money of a request that certainly did not happen."""
    reservations.release(account_id=attempt.account_id, reference=attempt.client_order_id)


# -- refusals ------------------------------------------------------------------------------------


def apply_refusal(
    attempt: ExchangeOrder, *, code: str, message: str, timer: StageTimer | None = None
) -> Order:
    """Record that the exchange certainly refused this request. Return the order as stored.

    Raises `TooMuchContention` if the order keeps changing.
    """
    fields: dict[str, Any] = {}

    def decide(order: Order) -> Change:
        nonlocal fields
        known = attempt_state(attempt)
        # An order that the exchange has shown exists, so then the refusal is only noted.
        fields = {} if known.is_shown else dict(_REFUSED)
        return Change(
            fields=_rejection(attempt, code, message) if fields else {},
            event_type=EventType.REJECTED,
            actor="exchange",
            source=ReportSource.PLACE,
            details={"client_order_id": attempt.client_order_id, "code": code, "message": message},
            writes=[_own_row(attempt, {**fields, **_stages_recorded(timer)})] if fields else [],
            also=partial(release_reservation, attempt) if fields else None,
            log_event="order_rejected",
            log_details={"code": code, "reason": message},
        )

    order = change_order(attempt.order, decide, reload=partial(reload_attempt, attempt))
    set_fields(attempt, fields)
    _count(timer)
    return order


_REFUSED = {"outcome": AttemptOutcome.REJECTED, "exchange_status": str(ExchangeStatus.REJECTED)}


def _rejection(attempt: ExchangeOrder, code: str, message: str) -> dict[str, Any]:
    refused = replace(
        attempt_state(attempt),
        exchange_status=ExchangeStatus.REJECTED,
        is_pending=False,
        is_lost=False,
    )
    changes = order_state(attempt.order, states_of_all_attempts(attempt, refused), now=clock.now())
    if "reason" in changes and changes["status"] == OrderStatus.REJECTED:
        changes |= {"reason_code": code, "reason": message}
    return changes
