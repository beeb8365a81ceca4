"""Notify bots of each change of an order that they must react to, as one Celery message each.

A transactional outbox: the message is stored with the change, in its transaction (`OrderNotice`),
and sent after the commit. A sweep sends the messages that could not be sent then, or that a broker
lost. Delivery is at least once, and in order for each order: only an order's oldest message can be
claimed, so one process at a time sends for it. A sender that pauses for longer than `_CLAIMED_FOR`
may repeat an older message later, and so may a broker. So each message has the order's version,
which only grows, and a bot ignores a version that isn't newer than its last.

With an empty `ORDER_EVENTS_TASK` none of this runs.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
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
from orders.fast_reads import fills_of
from orders.models import Fill, Order, OrderNotice
from orders.notifications.payloads import fill_details, order_details
from orders.states import UNRESOLVED

log = structlog.get_logger(__name__)

BATCH = 500
_CLAIMED_FOR = timedelta(seconds=10)
_KEPT_FOR = timedelta(hours=1)
_MARK = "backoffice:order-notices"
_LEAVE_BROKER_ALONE_SECONDS = 2.0

_broker_failed_at = float("-inf")


def are_wanted() -> bool:
    """Return True if bots are to be notified."""
    return bool(settings.ORDER_EVENTS_TASK)


def is_news(status: str, filled_quantity: Decimal, order: Order) -> bool:
    """Return True if a bot must react to `order`, given its status and filled quantity before."""
    if order.status in UNRESOLVED:
        return False
    return bool(order.status != status or order.filled_quantity != filled_quantity)


def note_change(order: Order) -> None:
    """Store a message with the order's new state, to send when the transaction commits."""
    if not are_wanted():
        return
    OrderNotice.objects.bulk_create([notice_of(order)])
    send_on_commit(order.pk)


def notice_of(order: Order) -> OrderNotice:
    """Return the unsaved message with the order's state."""
    return OrderNotice(order_id=order.pk, version=order.version, details=order_details(order))


def send_on_commit(*order_ids: UUID) -> None:
    """Send the orders' stored messages after the caller's transaction, or now if there is none."""
    transaction.on_commit(partial(_send_unless_broker_is_away, order_ids))


def sweep() -> dict[str, int]:
    """Send unsent messages and delete those sent an hour ago. Return both counts.

    Sends all messages of the last hour again if the broker was emptied.
    """
    if not are_wanted():
        return {"sent": 0, "forgotten": 0}
    now = clock.now()
    if _broker_has_forgotten():
        again = OrderNotice.objects.filter(sent_at__gte=now - _KEPT_FOR).update(
            sent_at=None, claimed_until=None
        )
        log.warning("order_notices_sent_again", count=again)
    forgotten, _ = OrderNotice.objects.filter(sent_at__lt=now - _KEPT_FOR).delete()
    waiting = (
        OrderNotice.objects.filter(sent_at=None).order_by("id").values_list("order_id", flat=True)
    )
    sent = 0
    for order_id in dict.fromkeys(waiting[:BATCH]):
        sent += send(order_id)
    return {"sent": sent, "forgotten": forgotten}


def _broker_has_forgotten() -> bool:
    """Check for the mark that the last sweep left in the broker.

    It is gone after a flush, or a restart without the broker's file.
    """
    if current_app.conf.task_always_eager:
        return False
    with current_app.connection_for_write() as broker:
        if broker.transport.driver_type != "redis":
            return False
        return bool(broker.default_channel.client.set(_MARK, "1", nx=True))


def send(*order_ids: UUID) -> int:
    """Enqueue the unsent messages of these orders, oldest first. Return how many.

    Raises the errors of the broker's client.
    """
    sent = 0
    until = clock.now() + _CLAIMED_FOR
    while claimed := _claim_oldest(order_ids, until):
        tried = 0
        done: list[int] = []
        try:
            with _producer() as producer:
                for notice_id, message in claimed:
                    tried += 1
                    _enqueue(message, producer)
                    done.append(notice_id)
        finally:
            _mark(_SENT, clock.now(), done)
            # The one that failed may have reached the broker. The others certainly didn't.
            _mark(_NOT_SENT, until, [notice_id for notice_id, _ in claimed[tried:]])
        sent += len(done)
        until = clock.now() + _CLAIMED_FOR
    return sent


def _mark(sql: str, at: datetime, notice_ids: Sequence[int]) -> None:
    if notice_ids:
        with connection.cursor() as cursor:
            cursor.execute(sql.format(_LOCKED), (at, list(notice_ids)))


# Each of these statements locks its rows in the order of their ids, so no two can block each other.
_LOCKED = """ARRAY(SELECT n.id FROM orders_ordernotice n WHERE n.id = ANY(%s)
                     ORDER BY n.id FOR NO KEY UPDATE)"""
_SENT = "UPDATE orders_ordernotice SET sent_at = %s WHERE id = ANY({})"
_NOT_SENT = (
    "UPDATE orders_ordernotice SET claimed_until = NULL WHERE claimed_until = %s AND id = ANY({})"
)
# A worker that finds it claimed can leave: the claimer looks for newer messages after sending it.
_CLAIM = """
WITH oldest AS (
  SELECT DISTINCT ON (n.order_id) n.id FROM orders_ordernotice n
   WHERE n.order_id = ANY(%s) AND n.sent_at IS NULL ORDER BY n.order_id, n.id
)
UPDATE orders_ordernotice SET claimed_until = %s
 WHERE id = ANY (ARRAY(SELECT n.id FROM orders_ordernotice n
                        WHERE n.id = ANY(ARRAY(SELECT id FROM oldest)) AND n.sent_at IS NULL
                          AND (n.claimed_until IS NULL OR n.claimed_until <= %s)
                        ORDER BY n.id FOR NO KEY UPDATE)){unflushed}
RETURNING id, order_id, version, details,
          (SELECT a.name FROM orders_order o JOIN exchanges_exchangeaccount a ON a.id = o.account_id
            WHERE o.id = orders_ordernotice.order_id)
"""


def _unflushed() -> str:
    """Return a condition that lets this statement commit without waiting for the disk.

    If the database crashes and loses the claim, the message is only sent once more.
    """
    if connection.in_atomic_block or not settings.UNFLUSHED_COMMITS:
        return ""
    return " AND set_config('synchronous_commit', 'off', true) = 'off'"


def _claim_oldest(order_ids: Sequence[UUID], until: datetime) -> list[tuple[int, dict[str, Any]]]:
    """Claim the oldest unsent message of each order until then. Return their ids and contents.

    Leaves out an order that has none, or whose message another process is sending.
    """
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM.format(unflushed=_unflushed()), (list(order_ids), until, clock.now()))
        rows = sorted(cursor.fetchall())
    # Django's raw cursor returns jsonb as text.
    found = [
        (key, order, version, json.loads(text), name) for key, order, version, text, name in rows
    ]
    filled = {order: Decimal(details["filled_quantity"]) for _, order, _, details, _ in found}
    fills: dict[UUID, list[Fill]] = defaultdict(list)
    if with_fills := [order_id for order_id, quantity in filled.items() if quantity]:
        for fill in fills_of(with_fills):
            fills[fill.order_id].append(fill)
    return [
        (
            key,
            {
                "order": {**details, "account": name},
                "fills": fill_details(_fills_that_make(filled[order_id], fills[order_id])),
                "version": version,
            },
        )
        for key, order_id, version, details, name in found
    ]


def _fills_that_make(filled: Decimal, fills: Iterable[Fill]) -> list[Fill]:
    """Return the first fills, up to the filled quantity. Fewer while trades are missing."""
    found: list[Fill] = []
    total = Decimal(0)
    for fill in fills:
        total = EXACT.add(total, fill.quantity)
        if total > filled:
            break
        found.append(fill)
    return found


def _producer() -> AbstractContextManager[Any]:
    """Return a producer for a group of messages: taking one is a fifth of sending one."""
    if current_app.conf.task_always_eager:
        return nullcontext()
    return current_app.producer_or_acquire()  # type: ignore[no-any-return]


def _enqueue(message: dict[str, Any], producer: Any) -> None:
    name = settings.ORDER_EVENTS_TASK
    if producer is None:
        current_app.tasks[name].apply_async(kwargs=message)
        return
    queue = {"queue": settings.ORDER_EVENTS_QUEUE} if settings.ORDER_EVENTS_QUEUE else {}
    # Celery adds a text of the arguments for monitors. Writing the whole message a second time
    # takes a third of the time to send it.
    text = f"order {message['order']['order_id']}, version {message['version']}"
    current_app.send_task(
        name, kwargs=message, argsrepr="()", kwargsrepr=text, producer=producer, **queue
    )


def _send_unless_broker_is_away(order_ids: Sequence[UUID]) -> None:
    """Send at once, unless the broker failed in the last seconds: then the sweep sends it later.

    Recording a change must not wait for a broker that doesn't answer.
    """
    global _broker_failed_at
    if current_app.conf.task_always_eager:
        send(*order_ids)
        return
    if clock.monotonic() - _broker_failed_at < _LEAVE_BROKER_ALONE_SECONDS:
        return
    try:
        send(*order_ids)
    except Exception as error:  # noqa: BLE001  the change is committed, so its caller must go on
        _broker_failed_at = clock.monotonic()
        waiting = [str(order_id) for order_id in order_ids]
        log.warning("order_notice_waits", order_ids=waiting, error=type(error).__name__)
