"""kombu's Redis transport with one client object a channel, and cheaper notes of what is delivered.

kombu 5.7 makes a new `redis.Redis` for every message that it publishes, receives and acknowledges, which takes longer
than what it is made for: an eighth of a busy worker's time.
"""

from __future__ import annotations

from threading import Lock
from time import monotonic, time
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis
from kombu.utils.json import dumps

_TRUSTED_SECONDS = 1.0


class QoS(redis.QoS):
    """Notes a delivery, or its end, by two commands in one message, on a connection of its own.

    redis-py's pipelines, a transaction and a connection from the pool for each, take as long as all the rest that a
    worker does with a message. A server that stops between the two commands may forget a message which a worker holds;
    it is lost if that worker dies too, as is all that waits in a server that forgets.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._connection: Any = None
        self._noted_at = float("-inf")
        self._unanswered: tuple[tuple[Any, ...], ...] = ()
        self._one_at_a_time = Lock()

    def append(self, message: Any, delivery_tag: str) -> None:
        info = message.delivery_info
        held = dumps([message._raw, info["exchange"], info["routing_key"]])  # type: ignore[no-untyped-call]  # noqa: SLF001
        self._note(
            ("ZADD", self.unacked_index_key, time(), delivery_tag), ("HSET", self.unacked_key, delivery_tag, held)
        )
        super(redis.QoS, self).append(message, delivery_tag)  # type: ignore[no-untyped-call]

    def ack(self, delivery_tag: str) -> None:
        self._note(("ZREM", self.unacked_index_key, delivery_tag), ("HDEL", self.unacked_key, delivery_tag))
        super(redis.QoS, self).ack(delivery_tag)  # type: ignore[no-untyped-call]

    def _note(self, *commands: tuple[Any, ...]) -> None:
        """What the server answers is read before the next note, so that no message waits for it; at once after a pause,
        in which the connection may have died.
        """
        with self._one_at_a_time:
            paused_for = monotonic() - self._noted_at
            self._noted_at = monotonic()
            try:
                self._send(commands, wait=paused_for > _TRUSTED_SECONDS)
            except self.channel.connection_errors:
                # On a new connection, with what the old one left open; to note it twice does no harm.
                unanswered, self._unanswered = self._unanswered, ()
                self._send((*unanswered, *commands), wait=True)

    def _send(self, commands: tuple[tuple[Any, ...], ...], *, wait: bool) -> None:
        if self._connection is None:
            self._connection = self.channel.pool.get_connection()
        try:
            self._read_answers()
            self._connection.send_packed_command(self._connection.pack_commands(commands))
            if wait:
                for _ in commands:
                    self._connection.read_response()
            else:
                self._unanswered = commands
        except BaseException:
            # Whatever it still has to say belongs to nobody; the pool connects it anew.
            lost, self._connection = self._connection, None
            lost.disconnect()
            self.channel.pool.release(lost)
            raise

    def _read_answers(self) -> None:
        for _ in self._unanswered:
            self._connection.read_response()
        self._unanswered = ()


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
