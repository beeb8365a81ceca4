"""The verbs that a person can apply to all rows of a list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.db.models import F, Q, QuerySet, TextField, Value
from django.db.models.functions import Concat
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backoffice.desk.models import BulkRun, Outcome
from backoffice.desk.verbs.cancel_orders import cancel_each
from orders import services, states
from orders.models import Order, ReconciliationBreak, Resolution
from orders.recording.breaks import close_by_hand

#: The result of one row, and its words.
Result = tuple[Outcome, str]
#: The longest time that the cancels of one step may take, besides the last call.
STEP_SECONDS = 8.0

_OUTCOMES = {
    messages.SUCCESS: Outcome.DONE,
    messages.INFO: Outcome.SKIPPED,
    messages.WARNING: Outcome.WAITS,
    messages.ERROR: Outcome.FAILED,
}


@dataclass(frozen=True, slots=True)
class BulkVerb:
    """One verb. `act` does it to some rows, and `announce` records it for all rows beforehand."""

    name: str
    title: Any
    question: Any
    skipped: Any
    permission: str
    page: str
    rows: Callable[[], QuerySet[Any]]
    naming: Any
    to_skip: Q
    act: Callable[[BulkRun, Sequence[Any]], dict[str, Result]]
    announce: Callable[[BulkRun, Sequence[Any]], None] | None = None


def _record_cancels(run: BulkRun, orders: Sequence[Order]) -> None:
    keys = [order.pk for order in orders]
    services.request_cancels(keys, requested_by=run.actor, reason=run.reason)


def _cancel(run: BulkRun, orders: Sequence[Order]) -> dict[str, Result]:
    found = {str(order.pk): _ended(run, order) for order in orders if order.status in states.CLOSED}
    others = [order for order in orders if str(order.pk) not in found]
    answers = cancel_each(others, requested_by=run.actor, reason=run.reason, seconds=STEP_SECONDS)
    for order, answer in zip(others, answers, strict=True):
        found[str(order.pk)] = (_OUTCOMES[answer.level], answer.text)
    return found


def _ended(run: BulkRun, order: Order) -> Result:
    """Return the result of a closed order. The sweep may have sent the cancel of this run."""
    asked_at = order.cancel_requested_at or run.made_at
    is_ours = order.cancel_requested_by == run.actor and asked_at > run.made_at
    status = {"status": order.get_status_display()}
    if not is_ours:
        return Outcome.SKIPPED, _("Order already closed: %(status)s.") % status
    if order.status == states.OrderStatus.CANCELED:
        return Outcome.DONE, _("Canceled.")
    return Outcome.WAITS, _("Closed before the cancel arrived: %(status)s.") % status


def _close_breaks(run: BulkRun, rows: Sequence[ReconciliationBreak]) -> dict[str, Result]:
    found: dict[str, Result] = {}
    for row in rows:
        is_done = close_by_hand(
            row, resolution=Resolution(run.resolution), reason=run.reason, actor=run.actor
        )
        words = _("Break closed.") if is_done else _("Already closed.")
        found[str(row.pk)] = (Outcome.DONE if is_done else Outcome.SKIPPED, words)
    return found


CANCEL = BulkVerb(
    name="cancel",
    title=gettext_lazy("Cancel all these orders"),
    question=gettext_lazy("Cancel all orders that match at the exchange?"),
    skipped=gettext_lazy("Already closed, to be skipped"),
    permission="orders.cancel_order",
    page="orders_order",
    rows=lambda: Order.objects.select_related("account"),
    naming=F("intent_id"),
    to_skip=Q(status__in=[*states.CLOSED]),
    act=_cancel,
    announce=_record_cancels,
)
CLOSE = BulkVerb(
    name="close",
    title=gettext_lazy("Close all these breaks"),
    question=gettext_lazy(
        "Close all breaks that match by hand? Nothing is changed at the exchange or in the orders."
    ),
    skipped=gettext_lazy("Already closed, to be skipped"),
    permission="orders.close_break",
    page="orders_reconciliationbreak",
    rows=lambda: ReconciliationBreak.objects.select_related("account"),
    naming=Concat("kind", Value(" "), "subject", output_field=TextField()),
    to_skip=Q(resolved_at__isnull=False),
    act=_close_breaks,
)
VERBS = {verb.name: verb for verb in (CANCEL, CLOSE)}
