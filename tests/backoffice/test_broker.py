"""Check how the broker's connection takes a failover, against a real server."""

from __future__ import annotations

from typing import Any

import pytest
from kombu.connection import Connection
from redis import Redis

from backoffice.broker import reconnect_after_demotion
from tests.harness.redis import TestRedis

QUEUE = "broker-test"
connect: Any = Connection


def test_connection__leaves_a_server_that_was_demoted(redis_server: TestRedis) -> None:
    """A primary that became a replica refuses to write. That is an error of the connection."""
    reconnect_after_demotion()
    server = Redis.from_url(redis_server.url, decode_responses=True)
    with connect(redis_server.url) as connection:
        queue = connection.SimpleQueue(QUEUE)
        queue.put("1")
        queue.get(timeout=5).ack()
        server.replicaof("127.0.0.1", "1")
        try:
            with pytest.raises(connection.recoverable_connection_errors):
                connection.SimpleQueue(QUEUE).put("2")
        finally:
            server.replicaof("NO", "ONE")
