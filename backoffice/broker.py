"""kombu's Redis transport with one client object a channel, and without transactions around its bookkeeping.

kombu 5.7 makes a new `redis.Redis` for every message that it publishes, receives and acknowledges, which takes longer
than what it is made for: an eighth of a busy worker's time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis


class QoS(redis.QoS):
    """Notes a delivery, or its end, by two commands in one message; MULTI and EXEC would make them four.

    A server that stops between the two may forget a message which a worker holds. It is lost if that worker dies too,
    as all that waits in a server is lost that forgets.
    """

    @contextmanager
    def pipe_or_acquire(self, pipe: Any = None, client: Any = None) -> Iterator[Any]:
        if pipe is not None:
            yield pipe
            return
        with self.channel.conn_or_acquire(client) as own:
            yield own.pipeline(transaction=False)


class Channel(redis.Channel):
    """Keeps its client for as long as its connection pool lasts."""

    QoS = QoS

    _kept: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        create: Any = super()._create_client
        if asynchronous:  # made once anyway, and bound to one connection
            return create(asynchronous=True)
        if self._kept is None or self._kept.connection_pool is not self.pool:
            self._kept = create()
        return self._kept


class Transport(redis.Transport):
    Channel = Channel


def use_for_redis() -> None:
    """Let `redis://` and `rediss://` mean this transport in this process."""
    TRANSPORT_ALIASES["redis"] = TRANSPORT_ALIASES["rediss"] = f"{__name__}:Transport"
