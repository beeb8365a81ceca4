"""Cancel the orders that a person selected, one by one, each with its own answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

import structlog
from django.contrib import messages
from django.db.models import Max
from django.utils.translation import gettext as _

from exchanges import clock
from orders import services, states
from orders.intents import InvalidIntent
from orders.models import EventType, Order, OrderEvent
from orders.placing import cancel

TIME_LIMIT_SECONDS = 20.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CancelResult:
    """The answer to one cancel. `level` is one of `django.contrib.messages`."""

    intent_id: str
    level: int
    text: str


def cancel_each(
    orders: Iterable[Order],
    *,
    requested_by: str,
    reason: str,
    seconds: float | None = None,
) -> list[CancelResult]:
    """Cancel each order. A failure of one does not stop the others.

    All requests are recorded first, so that none is lost whatever happens to this process.
    An exchange that doesn't answer costs a timeout per order. After `seconds` (default:
    `TIME_LIMIT_SECONDS`) the remaining cancels are only recorded, and the sweep sends them.
    """
    orders = list(orders)
    since = _last_events(orders)
    _record_requests(orders, requested_by=requested_by, reason=reason)
    give_up_at = clock.monotonic() + (TIME_LIMIT_SECONDS if seconds is None else seconds)
    return [
        _cancel_one(
            order,
            since_event=since.get(order.pk, 0),
            requested_by=requested_by,
            reason=reason,
            at_once=clock.monotonic() < give_up_at,
        )
        for order in orders
    ]


def _last_events(orders: list[Order]) -> dict[UUID, int]:
    rows = OrderEvent.objects.filter(order__in=orders).order_by().values("order_id")
    return {row["order_id"]: row["last"] for row in rows.annotate(last=Max("id"))}


def _record_requests(orders: list[Order], *, requested_by: str, reason: str) -> None:
    try:
        services.request_cancels(
            [order.pk for order in orders], requested_by=requested_by, reason=reason
        )
    except Exception:
        log.exception("cancels_not_recorded", actor=requested_by)  # each is tried by itself


def _cancel_one(
    order: Order, *, since_event: int, requested_by: str, reason: str, at_once: bool
) -> CancelResult:
    if order.status in states.CLOSED:
        return _answer(order, messages.INFO, _("Order already closed: %(status)s."), order)
    try:
        if at_once:
            account = order.account.name
            after = services.cancel_order(
                account=account, intent_id=order.intent_id, requested_by=requested_by, reason=reason
            )
        else:
            after = cancel.request_cancel(order, requested_by=requested_by, reason=reason)
    except InvalidIntent as error:
        return CancelResult(order.intent_id, messages.ERROR, str(error))
    except Exception:
        log.exception(
            "cancel_failed",
            account=order.account.name,
            intent_id=order.intent_id,
            actor=requested_by,
        )
        return CancelResult(
            order.intent_id, messages.ERROR, _("Could not be canceled. The log has the reason.")
        )
    return _result_of(after, since_event=since_event)


def _result_of(order: Order, *, since_event: int) -> CancelResult:
    """Read the result from the order's state and the events of this cancel."""
    events = set(
        OrderEvent.objects.filter(order=order, id__gt=since_event).values_list(
            "event_type", flat=True
        )
    )
    if EventType.WITHDRAWN in events:
        return _answer(order, messages.SUCCESS, _("Canceled before it was sent."), order)
    if order.status == states.OrderStatus.CANCELED:
        return _answer(order, messages.SUCCESS, _("Canceled, confirmed by the exchange."), order)
    return _answer(order, messages.WARNING, _why_not_canceled(order, events), order)


def _why_not_canceled(order: Order, events: set[str]) -> str:
    if order.status in states.CLOSED:
        return _("Closed before the cancel arrived: %(status)s.")
    if EventType.CANCEL_UNCONFIRMED in events:
        return _(
            "Cancel sent but not confirmed. The back office keeps asking the exchange until it"
            " answers."
        )
    if EventType.CANCEL_REFUSED in events:
        return _("The exchange rejected the cancel for now. It will be sent again.")
    return _("Cancel requested. The order will be canceled once its state is known.")


def _answer(order: Order, level: int, text: str, state: Order) -> CancelResult:
    return CancelResult(order.intent_id, level, text % {"status": state.get_status_display()})
