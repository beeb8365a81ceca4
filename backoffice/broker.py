"""kombu's Redis transport with one client object a channel.

kombu 5.7 makes a new `redis.Redis` for every message that it publishes, receives and acknowledges, which takes longer
than what it is made for: an eighth of a busy worker's time.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis


class Channel(redis.Channel):
    """Keeps its client for as long as its connection pool lasts."""

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
