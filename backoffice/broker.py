"""Let Celery's Redis transport survive a broker that fails over or dies, and keep its clients.

A worker takes a message only while it has a place for one. So a message must give its place back
in the end, even if the broker is away by then. Else the worker waits forever, without an error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from celery.backends.redis import RedisBackend, SentinelBackend
from kombu.transport import redis

from backoffice.tuning import is_on

log = structlog.get_logger(__name__)


def reconnect_after_demotion() -> None:
    """Add the refusal to write to the errors after which Celery connects again.

    A primary that became a replica after a failover answers READONLY to every write. Celery's own
    transport would keep the connection forever, although the name may lead to the new primary.
    """
    refused: type[Exception] = redis.exceptions.ReadOnlyError  # type: ignore[attr-defined]
    errors = redis.Transport.connection_errors
    if refused not in errors:
        redis.Transport.connection_errors = (*errors, refused)


class _KeepsClient:
    """Let a channel make its client once.

    kombu makes a `redis.Redis` for every message that it sends, receives and acknowledges, each
    with a new table of some 200 callbacks. The client holds no connection: it takes one from the
    channel's pool for each command, from any thread. So one does as well as many.
    """

    _kept: Any = None
    pool: Any

    def _create_client(self, asynchronous: bool = False) -> Any:
        create: Any = super()._create_client  # type: ignore[misc]  # the channel's own
        if asynchronous or not is_on("kept_broker_clients"):
            return create(asynchronous)  # an asynchronous one is made once anyway
        # A failed connection gets a new pool.
        if self._kept is None or self._kept.connection_pool is not self.pool:
            self._kept = create()
        return self._kept


class _QoS(redis.QoS):
    """Count the messages that this worker holds.

    A message whose acknowledgment failed is done. It comes again after the visibility timeout.
    """

    def ack(self, delivery_tag: str) -> None:
        try:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]
        except Exception:
            self._quick_ack(delivery_tag)
            raise

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        try:
            super().reject(delivery_tag, requeue)  # type: ignore[no-untyped-call]
        except Exception:
            self._quick_ack(delivery_tag)
            raise


class _NamesQueue:
    """Let each message say which queue it was taken from.

    kombu believes the sender about that, and puts a message of a killed worker back there. So a bot
    could start any task through its own queues, or move a message into another one.
    """

    connection: Any
    _fanout_queues: Any

    def basic_consume(self, queue: str, *args: Any, **kwargs: Any) -> Any:
        consume: Any = super().basic_consume  # type: ignore[misc]  # the channel's own
        tag = consume(queue, *args, **kwargs)
        if queue not in self._fanout_queues:
            callbacks = self.connection._callbacks  # noqa: SLF001
            callbacks[queue] = partial(_deliver, queue, callbacks[queue])
        return tag


def _deliver(queue: str, callback: Callable[[dict[str, Any]], Any], message: dict[str, Any]) -> Any:
    properties = message["properties"]
    said = properties.get("delivery_info")
    known = said if isinstance(said, dict) else {}
    properties["delivery_info"] = {**known, "exchange": "", "routing_key": queue}
    return callback(message)


class _Channel(_NamesQueue, _KeepsClient, redis.Channel):
    """A channel to a Redis at a fixed address."""

    QoS = _QoS


class _SentinelChannel(_NamesQueue, _KeepsClient, redis.SentinelChannel):
    """A channel to a Redis whose address the sentinels know."""

    QoS = _QoS


def use_own_channels() -> None:
    """Let each channel keep its client, give places back and name the queue of a message."""
    redis.Transport.Channel = _Channel
    redis.SentinelTransport.Channel = _SentinelChannel


class _StoresIfItCan:
    """Leave out a result that Redis doesn't take.

    Celery would take the task for failed. If it can't store that either, a thread never
    acknowledges the message.
    """

    def store_result(self, task_id: str, result: Any, state: str, *args: Any, **kwargs: Any) -> Any:
        store: Any = super().store_result  # type: ignore[misc]  # the backend's own
        try:
            return store(task_id, result, state, *args, **kwargs)
        except redis.exceptions.RedisError as error:  # type: ignore[attr-defined]
            log.warning("result_not_stored", task_id=task_id, error=type(error).__name__)
            return result


class Results(_StoresIfItCan, RedisBackend):  # type: ignore[misc]  # Celery has no types
    """The results in a Redis at a fixed address."""


class SentinelResults(_StoresIfItCan, SentinelBackend):  # type: ignore[misc]  # Celery has no types
    """The results in a Redis whose address the sentinels know."""


#: Celery's names of the backends that we replace.
RESULT_BACKENDS = {
    "redis": "backoffice.broker:Results",
    "rediss": "backoffice.broker:Results",
    "sentinel": "backoffice.broker:SentinelResults",
}
