"""What an order's state means to a person: its colour, and what happens next and when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.utils.translation import gettext as _

from exchanges import clock
from exchanges.pages import duration
from orders import states
from orders.models import Order, Outcome, Status
from orders.states import OrderStatus

STATUS_COLOURS = {
    Status.CREATED: "info",
    Status.PENDING_NEW: "warning",
    Status.NEW: "primary",
    Status.PARTIALLY_FILLED: "primary",
    Status.FILLED: "success",
    Status.CANCELED: "",
    Status.REJECTED: "danger",
    Status.EXPIRED: "",
    Status.DENIED: "danger",
    Status.NOT_PLACED: "warning",
}
OUTCOME_COLOURS = {
    Outcome.IN_FLIGHT: "info",
    Outcome.UNKNOWN: "warning",
    Outcome.ACKNOWLEDGED: "success",
    Outcome.REJECTED: "danger",
    Outcome.NOT_SENT: "",
    Outcome.ABSENT: "",
}


@dataclass(frozen=True, slots=True)
class NextStep:
    """What happens next, in a sentence; `at` is when at the latest, None where nothing is due."""

    text: str
    at: datetime | None = None

    @property
    def when(self) -> str:
        if self.at is None:
            return ""
        wait = self.at - clock.now()
        if wait.total_seconds() > 0:
            return _("in %(span)s") % {"span": duration(wait)}
        return _("due for %(span)s") % {"span": duration(-wait)}


def next_step(order: Order) -> NextStep:
    """The next step of an order, by its state and its wish to be canceled."""
    status = OrderStatus(order.status)
    if status in states.CLOSED:
        return _after_closing(order)
    if status is OrderStatus.CREATED:
        return _before_sending(order)
    if status is OrderStatus.PENDING_NEW:
        return _while_unconfirmed(order)
    if order.cancel_requested_at:
        return NextStep(
            _("The cancel is asked for until the exchange has confirmed it or has filled the order."),
            order.next_check_at,
        )
    return NextStep(
        _("It works at the exchange. Its messages are recorded as they come, and it is compared every %(seconds)d s.")
        % {"seconds": settings.SYNC_INTERVAL_SECONDS},
        order.next_check_at,
    )


def _after_closing(order: Order) -> NextStep:
    if order.next_check_at:
        return NextStep(_("Closed. One more look at the exchange is due."), order.next_check_at)
    return NextStep(_("Closed. Nothing more is due."))


def _before_sending(order: Order) -> NextStep:
    if order.cancel_requested_at:
        return NextStep(_("It is withdrawn, without being sent."), order.next_check_at)
    if order.place_by and order.place_by <= clock.now():
        return NextStep(_("Its deadline has passed: it is closed as not placed."), order.next_check_at)
    return NextStep(_("It is sent, unless its deadline passes first or the gate refuses it."), order.next_check_at)


def _while_unconfirmed(order: Order) -> NextStep:
    asked = _("The exchange is asked for it by its client order id until it is found or proven absent.")
    if order.cancel_requested_at:
        then = _("Then it is canceled, as wished.")
        return NextStep(f"{asked} {then}", order.next_check_at)
    return NextStep(asked, order.next_check_at)
