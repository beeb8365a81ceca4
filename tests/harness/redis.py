"""Run a real Redis-compatible server whose address survives a stop and a start."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import redis

from backoffice.local import embedded

#: The name of the suite's own connection, which stays open.
OF_SUITE = "suite"


class TestRedis:
    """The suite's server. It reserves its port at once and starts on demand."""

    __test__ = False

    def __init__(self, directory: Path) -> None:
        # Bound but not listening: no other program gets this port, and the server may still take it
        # (SO_REUSEADDR).
        self._reservation = socket.socket()
        self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reservation.bind((embedded.HOST, 0))
        self.server = embedded.RedisServer(
            directory, port=self._reservation.getsockname()[1], keep_data=False
        )
        self._own = self.client(client_name=OF_SUITE)

    @property
    def url(self) -> str:
        return self.server.url

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis.from_url(self.url, decode_responses=True, **options)

    def start(self) -> None:
        if self.server.process is None:
            self.server.start()

    def stop(self) -> None:
        """Empty the server, which keeps nothing on disk."""
        self._own.close()
        self.server.stop()

    def flush(self) -> None:
        """Empty the server, over a kept connection: this runs before each test."""
        self._own.flushall()

    def close(self) -> None:
        self.stop()
        self._reservation.close()
