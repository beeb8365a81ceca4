"""Explain what happens to an order next, and when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.utils.translation import gettext as _

from backoffice.desk.lists.columns import duration
from exchanges import clock
from orders import states
from orders.models import Order
from orders.states import OrderStatus


@dataclass(frozen=True, slots=True)
class NextStep:
    """The next step in a sentence. `at` is the latest time for it, None if nothing is due."""

    text: str
    at: datetime | None = None

    @property
    def when(self) -> str:
        if self.at is None:
            return ""
        wait = self.at - clock.now()
        if wait.total_seconds() > 0:
            return _("in %(span)s") % {"span": duration(wait)}
        return _("overdue by %(span)s") % {"span": duration(-wait)}


def next_step(order: Order) -> NextStep:
    """Return the next step of an order, by its status and cancel request."""
    status = OrderStatus(order.status)
    if status in states.CLOSED:
        return _after_closing(order)
    if status is OrderStatus.HELD:
        return NextStep(
            _("A second person releases or rejects the order. At its deadline it is closed."),
            order.place_by,
        )
    if status is OrderStatus.CREATED:
        return _before_sending(order)
    if status is OrderStatus.PENDING_NEW:
        return _while_unconfirmed(order)
    if order.cancel_requested_at:
        return NextStep(
            _("The cancel is sent again until the exchange confirms it or fills the order."),
            order.next_check_at,
        )
    return NextStep(
        _(
            "The order is working at the exchange. Its reports are recorded as they arrive,"
            " and a sync compares it every %(seconds)d s."
        )
        % {"seconds": settings.SYNC_INTERVAL_SECONDS},
        order.next_check_at,
    )


def _after_closing(order: Order) -> NextStep:
    if order.next_check_at:
        return NextStep(_("Closed. One more check at the exchange is due."), order.next_check_at)
    return NextStep(_("Closed. Nothing more is due."))


def _before_sending(order: Order) -> NextStep:
    if order.cancel_requested_at:
        return NextStep(_("The order will be canceled without being sent."), order.next_check_at)
    if order.place_by and order.place_by <= clock.now():
        return NextStep(
            _("The deadline has passed. The order will be closed as not placed."),
            order.next_check_at,
        )
    return NextStep(
        _("The order will be sent, unless the gate denies it or its deadline passes first."),
        order.next_check_at,
    )


def _while_unconfirmed(order: Order) -> NextStep:
    asked = _(
        "The back office asks the exchange for its client order ID until the order is found or"
        " proven not to exist."
    )
    if order.cancel_requested_at:
        then = _("Then the order is canceled, as requested.")
        return NextStep(f"{asked} {then}", order.next_check_at)
    return NextStep(asked, order.next_check_at)
