"""Change an order by compare-and-swap, together with the event that explains the change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Literal

import structlog
from django.db import Error, connection, transaction
from django.db.models import Model

from exchanges import clock
from exchanges.db import batch_writes
from exchanges.db.batch_writes import Insert, Update, Write
from exchanges.db.together import Together
from orders.db_retry import with_db_retry
from orders.models import EventType, ExchangeOrder, Order, OrderEvent, OrderNotice
from orders.notifications import outbox

log = structlog.get_logger(__name__)

MAX_TRIES = 50


class TooMuchContention(RuntimeError):
    """Other workers changed the order before us in each of our tries. Nothing was stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The next state of an order, and everything that is stored and logged with it.

    `fields` go to the order (its version is added). `event_type`, `actor`, `source` and `details`
    make its event. `writes` are further rows in the same statement, `also` runs in the same
    transaction after it. Both are left out if another worker changed the order first. `is_news`
    notifies bots even if neither the status nor the filled quantity changes. `log_event` is logged
    with the order's fields and `log_details` after the commit.
    """

    event_type: EventType
    actor: str
    source: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    writes: Sequence[Write] = ()
    also: Callable[[], None] | None = None
    is_news: bool = False
    log_event: str = ""
    log_level: Literal["info", "warning"] = "info"
    log_details: Mapping[str, Any] = field(default_factory=dict)


Decide = Callable[[Order], Change | None]


def change_order(
    order: Order, decide: Decide, *, reload: Callable[[], object] | None = None
) -> Order:
    """Store the change that `decide` returns for the order as it is. Return the order.

    `decide` is pure. It is called again with the reloaded order whenever another worker changed
    the order first. None leaves the order as it is. `reload` replaces `order.refresh_from_db`.
    Retries a lost database connection. Raises `TooMuchContention` when all tries are used up.
    """
    return with_db_retry(_change_order, order, decide, reload or order.refresh_from_db)


def _change_order(order: Order, decide: Decide, reload: Callable[[], object]) -> Order:
    for _ in range(MAX_TRIES):
        change = decide(order)
        if change is None:
            return order
        wanted = wanted_change(order, change)
        if _stores.do(wanted) if _may_share(change) else _store_alone(wanted):
            if wanted.notice is not None:
                outbox.send_on_commit(order.pk)
            log_change(wanted)
            return order
        reload()
    raise TooMuchContention(order.pk)


@dataclass(frozen=True, slots=True)
class WantedChange:
    """A change to store, as writes. The first write decides about all."""

    order: Order
    change: Change
    fields: Mapping[str, Any]  # with the next version
    notice: OrderNotice | None

    def event(self) -> OrderEvent:
        """Return the unsaved event of the change. The order must still be as before it."""
        order, change = self.order, self.change
        event = record_event(
            order,
            change.event_type,
            actor=change.actor,
            previous_status=order.status,
            source=change.source,
            details=change.details,
        )
        event.new_status = self.fields.get("status", order.status)
        return event

    def writes(self) -> list[Write]:
        event = self.event()
        rows: list[Model] = [event] if self.notice is None else [event, self.notice]
        inserts = [Insert([row]) for row in rows]
        return [own_version(self.order, self.fields), *self.change.writes, *inserts]


def wanted_change(order: Order, change: Change) -> WantedChange:
    """Return the change with the order's next version, and the notice to bots if it is news."""
    fields = {**change.fields, "version": order.version + 1}
    notice = None
    if outbox.are_wanted():
        after = copy(order)
        set_fields(after, fields)
        if change.is_news or outbox.is_news(order.status, order.filled_quantity, after):
            notice = outbox.notice_of(after)
    return WantedChange(order, change, fields, notice)


def log_change(wanted: WantedChange) -> None:
    """Log a change once it is stored."""
    change, status = wanted.change, wanted.fields.get("status", wanted.order.status)
    if change.log_event:
        emit = getattr(log, change.log_level)
        fields = {**log_fields(wanted.order), "status": str(status), **change.log_details}
        emit(change.log_event, **fields)


def _store_alone(wanted: WantedChange) -> bool:
    """Write the change as one statement.

    Return False if the order is no longer at the version we read.
    """
    order, also = wanted.order, wanted.change.also
    as_read = {name: getattr(order, name) for name in wanted.fields}
    try:
        with transaction.atomic():
            # In the ordinary case this is all, so the commit travels with it.
            written = batch_writes.write(*wanted.writes(), then_commit=also is None)
            if not written[0]:
                return False
            set_fields(order, wanted.fields)
            if also is not None:
                also()
    except Exception:
        # Maybe only the answer to the commit is lost. The version that we read shows it to a retry.
        set_fields(order, as_read)
        raise
    return True


def _may_share(change: Change) -> bool:
    return change.also is None and not connection.in_atomic_block


def _store_together(group: Sequence[WantedChange]) -> Sequence[bool | None]:
    """Store the changes that wait in this process with one transaction, or none of them.

    Which one is to blame for a failure shows when each is stored alone.
    """
    # Every group locks its orders in the same sequence, so no two can block each other.
    places = sorted(range(len(group)), key=lambda place: group[place].order.pk)
    stored: list[bool | None] = [None] * len(group)
    try:
        with transaction.atomic():
            written = batch_writes.write_all([group[place].writes() for place in places])
    except Error as error:
        log.info("changes_not_shared", count=len(group), error=type(error).__name__)
        return stored
    for place, counts in zip(places, written, strict=True):
        stored[place] = bool(counts[0])
        if counts[0]:
            set_fields(group[place].order, group[place].fields)
    return stored


_stores: Together[WantedChange, bool] = Together(
    alone=_store_alone,
    together=_store_together,
    owner=lambda wanted: wanted.order.account_id,
)


# -- events and versions ---------------------------------------------------------------------------


def record_event(
    order: Order,
    event_type: EventType,
    *,
    actor: str,
    previous_status: str = "",
    source: str = "",
    details: Mapping[str, Any] | None = None,
) -> OrderEvent:
    """Return an unsaved event for the order as it is now.

    The caller stores it in the transaction of the change.
    """
    return OrderEvent(
        order=order,
        event_type=event_type,
        at=clock.now(),
        actor=actor,
        previous_status=previous_status,
        new_status=order.status,
        source=source,
        details=dict(details or {}),
    )


def update_if_unchanged(order: Order, *, notify: bool = False, **changes: Any) -> bool:
    """Store `changes` if the order is still at the version we read. Return whether it was.

    Call it inside a transaction, where one try must decide: `change_order` is the ordinary way.
    Notifies bots of a new status or filled quantity. `notify` notifies them in any case.
    """
    changes["version"] = order.version + 1
    if batch_writes.write(own_version(order, changes)) == [0]:
        return False
    take_over(order, changes, notify=notify)
    return True


def own_version(order: Order, changes: Mapping[str, Any]) -> Update:
    """Return the write of `changes` (with the next version) if the order is still as we read it."""
    return Update(Order, {"id": order.pk, "version": order.version}, changes)


def take_over(order: Order, changes: Mapping[str, Any], *, notify: bool = False) -> None:
    """Set stored changes on the order, and notify bots if they are news or if `notify`."""
    before = (order.status, order.filled_quantity)
    set_fields(order, changes)
    if notify or outbox.is_news(*before, order):
        outbox.note_change(order)


def log_fields(order: Order) -> dict[str, Any]:
    """Return the fields that identify an order in every log line."""
    return {
        "order_id": str(order.pk),
        "intent_id": order.intent_id,
        "account_id": order.account_id,
        "symbol": order.symbol,
        "status": str(order.status),
    }


def reload_attempt(attempt: ExchangeOrder) -> None:
    """Reload the attempt and its order into the same objects."""
    attempt.order.refresh_from_db()
    order = attempt.order
    attempt.refresh_from_db()
    attempt.order = order


def set_fields(row: Model, changes: Mapping[str, Any]) -> None:
    """Set changes on the row in memory.

    Call it only once they are stored, because a retry after a lost connection must start from the
    stored state.
    """
    for name, value in changes.items():
        setattr(row, name, value)
