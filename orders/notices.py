"""Telling the orchestrator: each change of an order that a bot must react to becomes one Celery message.

The message is written down with the change, in its transaction (`OrderNotice`), and sent when that has committed; what
could not be sent then, or was in a broker that has lost its memory, a sweep sends. At least once, and in order for each
order: only the oldest notice of an order can be taken, so one process at a time sends for it. A sender that stands
still for longer than `_TAKEN_FOR` may repeat an older notice later, as may a broker; hence the version, which only
grows: a bot ignores what is not newer than what it has seen.

With `ORDER_EVENTS_TASK` empty all of this costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from celery import current_app
from django.conf import settings
from django.db import connection, transaction

from exchanges import clock
from exchanges.types import EXACT
from orders.models import Fill, Order, OrderNotice
from orders.reading import fills_of
from orders.results import fill_details, order_details
from orders.states import UNSETTLED

log = structlog.get_logger(__name__)

BATCH = 500
_TAKEN_FOR = timedelta(seconds=10)
_KEPT_FOR = timedelta(hours=1)
_MARK = "backoffice:order-notices"
_LEAVE_BROKER_ALONE_SECONDS = 2.0

_broker_failed_at = float("-inf")


def are_wanted() -> bool:
    return bool(settings.ORDER_EVENTS_TASK)


def is_news(status: str, filled_quantity: Decimal, order: Order) -> bool:
    """Must a bot react to `order`, which had this status and filled quantity before?"""
    if order.status in UNSETTLED:
        return False
    return bool(order.status != status or order.filled_quantity != filled_quantity)


def note_change(order: Order) -> None:
    """Write down that the order is now as it is, to be told on commit. Call it in the transaction of the change."""
    if not are_wanted():
        return
    OrderNotice.objects.bulk_create([OrderNotice(order=order, version=order.version, details=order_details(order))])
    transaction.on_commit(partial(_send_unless_broker_is_away, order.pk))


def sweep() -> dict[str, int]:
    """Send what is still unsent, all of the last hour if the broker was emptied, and forget what was sent long ago."""
    if not are_wanted():
        return {"sent": 0, "forgotten": 0}
    now = clock.now()
    if _broker_has_forgotten():
        again = OrderNotice.objects.filter(sent_at__gte=now - _KEPT_FOR).update(sent_at=None, taken_until=None)
        log.warning("order_notices_sent_again", count=again)
    forgotten, _ = OrderNotice.objects.filter(sent_at__lt=now - _KEPT_FOR).delete()
    waiting = OrderNotice.objects.filter(sent_at=None).order_by("id").values_list("order_id", flat=True)
    sent = 0
    for order_id in dict.fromkeys(waiting[:BATCH]):
        sent += send(order_id)
    return {"sent": sent, "forgotten": forgotten}


def _broker_has_forgotten() -> bool:
    """Was it emptied (a flush, a restart without its file) since the last sweep? The mark that we leave in it tells."""
    if current_app.conf.task_always_eager:
        return False
    with current_app.connection_for_write() as broker:
        if broker.transport.driver_type != "redis":
            return False
        return bool(broker.default_channel.client.set(_MARK, "1", nx=True))


def send(order_id: UUID) -> int:
    """Enqueue the order's unsent notices, oldest first; returns how many. What the broker's client raises passes."""
    sent = 0
    while (taken := _take_oldest(order_id)) is not None:
        notice_id, message = taken
        _enqueue(message)
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE orders_ordernotice SET sent_at = %s WHERE id = %s", (_moment(clock.now()), notice_id)
            )
        sent += 1
    return sent


# Whoever holds it looks again when it is sent, and finds what was written meanwhile.
_TAKE = """
UPDATE orders_ordernotice SET taken_until = %s
 WHERE id = (SELECT n.id FROM orders_ordernotice n WHERE n.order_id = %s AND n.sent_at IS NULL ORDER BY n.id LIMIT 1)
   AND (taken_until IS NULL OR taken_until <= %s){unflushed}
RETURNING id, version, details,
          (SELECT a.name FROM orders_order o JOIN exchanges_exchangeaccount a ON a.id = o.account_id
            WHERE o.id = orders_ordernotice.order_id)
"""
_SENT = "UPDATE orders_ordernotice SET sent_at = %s WHERE id = %s"


def _unflushed() -> str:
    """What a crash of the database forgets of it is told once more: no reason to wait for the disk."""
    if connection.vendor == "sqlite" or connection.in_atomic_block:
        return ""
    return " AND set_config('synchronous_commit', 'off', true) = 'off'"  # of this one statement, its own transaction


def _take_oldest(order_id: UUID) -> tuple[int, dict[str, Any]] | None:
    """The id of the order's oldest unsent notice, and its message; None where there is none, or another sends it."""
    now = clock.now()
    key = Order._meta.pk.get_db_prep_value(order_id, connection)  # noqa: SLF001
    with connection.cursor() as cursor:
        cursor.execute(_TAKE.format(unflushed=_unflushed()), (_moment(now + _TAKEN_FOR), key, _moment(now)))
        row = cursor.fetchone()
    if row is None:
        return None
    details = json.loads(row[2]) if isinstance(row[2], str) else row[2]
    filled = Decimal(details["filled_quantity"])
    fills = _fills_that_make(filled, fills_of(order_id) if filled else ())
    return row[0], {"order": {**details, "account": row[3]}, "fills": fill_details(fills), "version": row[1]}


def _moment(moment: datetime) -> Any:
    return OrderNotice._meta.get_field("sent_at").get_db_prep_value(moment, connection)  # noqa: SLF001


def _fills_that_make(filled: Decimal, fills: Iterable[Fill]) -> list[Fill]:
    """The first of the fills, up to the filled quantity; fewer where trades are not known yet."""
    found: list[Fill] = []
    total = Decimal(0)
    for fill in fills:
        total = EXACT.add(total, fill.quantity)
        if total > filled:
            break
        found.append(fill)
    return found


def _enqueue(message: dict[str, Any]) -> None:
    name = settings.ORDER_EVENTS_TASK
    if current_app.conf.task_always_eager:
        current_app.tasks[name].apply_async(kwargs=message)
        return
    queue = {"queue": settings.ORDER_EVENTS_QUEUE} if settings.ORDER_EVENTS_QUEUE else {}
    current_app.send_task(name, kwargs=message, **queue)


def _send_unless_broker_is_away(order_id: UUID) -> None:
    """A broker that does not answer must not hold up who records a change: the sweep sends it later."""
    global _broker_failed_at
    if current_app.conf.task_always_eager:
        send(order_id)
        return
    if clock.monotonic() - _broker_failed_at < _LEAVE_BROKER_ALONE_SECONDS:
        return
    try:
        send(order_id)
    except Exception as error:  # noqa: BLE001  the change is committed: whatever happens here must not undo its caller
        _broker_failed_at = clock.monotonic()
        log.warning("order_notice_waits", order_id=str(order_id), error=type(error).__name__)
