"""Let Celery's Redis transport leave a demoted primary, and keep one client for each channel."""

from __future__ import annotations

from typing import Any

from kombu.transport import redis

from backoffice.tuning import is_on


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


class _KeepingChannel(_KeepsClient, redis.Channel):
    """A channel to a Redis at a fixed address."""


class _KeepingSentinelChannel(_KeepsClient, redis.SentinelChannel):
    """A channel to a Redis whose address the sentinels know."""


def keep_clients() -> None:
    """Let each channel of the Redis transports keep its client."""
    redis.Transport.Channel = _KeepingChannel
    redis.SentinelTransport.Channel = _KeepingSentinelChannel
