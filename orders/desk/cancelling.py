"""Cancelling the orders that a person has picked: one after the other, each with its own answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import structlog
from django.contrib import messages
from django.utils.translation import gettext as _

from exchanges import clock
from orders import services, states
from orders.intents import InvalidIntent
from orders.models import EventType, Order, OrderEvent

PATIENCE_SECONDS = 20.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one order's cancel, for the person who asked; `level` is one of `django.contrib.messages`."""

    intent_id: str
    level: int
    text: str


def cancel_each(orders: Iterable[Order], *, requested_by: str, reason: str) -> list[Answer]:
    """Ask for the cancel of each order; trouble with one does not keep the others from being asked for.

    An exchange that does not answer costs its time-out per order. Once `PATIENCE_SECONDS` are over, only the wish of
    the rest is recorded, and the sweep asks the exchange.
    """
    give_up_at = clock.monotonic() + PATIENCE_SECONDS
    return [
        _cancel_one(order, requested_by=requested_by, reason=reason, at_once=clock.monotonic() < give_up_at)
        for order in orders
    ]


def _cancel_one(order: Order, *, requested_by: str, reason: str, at_once: bool) -> Answer:
    if order.status in states.CLOSED:
        return _answer(order, messages.INFO, _("is closed already: %(status)s"), order)
    last_event = OrderEvent.objects.filter(order=order).order_by("-id").values_list("id", flat=True).first() or 0
    try:
        if at_once:
            account = order.account.name
            after = services.cancel_order(
                account=account, intent_id=order.intent_id, requested_by=requested_by, reason=reason
            )
        else:
            after = services.request_cancel(order, requested_by=requested_by, reason=reason)
    except InvalidIntent as error:
        return Answer(order.intent_id, messages.ERROR, str(error))
    except Exception:
        log.exception("cancel_failed", account=order.account.name, intent_id=order.intent_id, actor=requested_by)
        return Answer(order.intent_id, messages.ERROR, _("could not be canceled: the log says why"))
    return _told(after, since_event=last_event)


def _told(order: Order, *, since_event: int) -> Answer:
    """Read the result from the order's state and from the events that this cancel has left."""
    events = set(OrderEvent.objects.filter(order=order, id__gt=since_event).values_list("event_type", flat=True))
    if EventType.WITHDRAWN in events:
        return _answer(order, messages.SUCCESS, _("withdrawn: it was never sent"), order)
    if order.status == states.OrderStatus.CANCELED:
        return _answer(order, messages.SUCCESS, _("canceled, confirmed by the exchange"), order)
    if order.status in states.CLOSED:
        return _answer(order, messages.WARNING, _("closed before the cancel arrived: %(status)s"), order)
    if EventType.CANCEL_UNCONFIRMED in events:
        return _answer(
            order, messages.WARNING, _("cancel sent, but unconfirmed: the exchange is asked until it answers"), order
        )
    if EventType.CANCEL_REFUSED in events:
        return _answer(order, messages.WARNING, _("cancel refused by the exchange for now: it is asked again"), order)
    return _answer(order, messages.WARNING, _("wish recorded: it is canceled as soon as its state is known"), order)


def _answer(order: Order, level: int, text: str, state: Order) -> Answer:
    return Answer(order.intent_id, level, text % {"status": state.get_status_display()})
