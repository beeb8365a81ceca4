"""Check how the broker's connection takes a failover, against a real server."""

from __future__ import annotations

from typing import Any

import pytest
from celery.app.backends import by_url
from kombu.connection import Connection
from redis import Redis

from backoffice.broker import (
    Results,
    SentinelResults,
    reconnect_after_demotion,
    use_own_channels,
)
from backoffice.celery import app
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


def test_connection__keeps_one_client_for_all_messages(redis_server: TestRedis) -> None:
    use_own_channels()
    with connect(redis_server.url) as connection:
        channel = connection.default_channel
        with channel.conn_or_acquire() as first, channel.conn_or_acquire() as second:
            assert first is second
        queue = connection.SimpleQueue(QUEUE)
        queue.clear()
        for number in range(3):
            queue.put(str(number))
        assert [_taken(queue) for _ in range(3)] == ["0", "1", "2"]


def test_connection__makes_a_client_for_each_new_pool(redis_server: TestRedis) -> None:
    """Celery drops the pool of a broken connection. A kept client would lead to the old server."""
    use_own_channels()
    with connect(redis_server.url) as connection:
        channel = connection.default_channel
        with channel.conn_or_acquire() as first:
            first.ping()
        channel._disconnect_pools()  # what kombu calls after a broken connection
        with channel.conn_or_acquire() as second:
            assert second.ping()
            assert second is not first
            assert second.connection_pool is channel.pool


@pytest.mark.parametrize("end", ["ack", "reject", "requeue"])
def test_channel__gives_a_place_back_that_the_broker_cannot_be_told_of(
    redis_server: TestRedis, end: str
) -> None:
    """Else a worker whose messages were all under way when the broker died takes no more."""
    use_own_channels()
    with connect(redis_server.url) as connection:
        queue = connection.SimpleQueue(QUEUE)
        queue.put("1")
        message = queue.get(timeout=5)
        channel = message.channel
        channel.basic_qos(prefetch_count=1)
        assert not channel.qos.can_consume()
        redis_server.stop()
        with pytest.raises(connection.recoverable_connection_errors):
            getattr(message, end)()
        assert channel.qos.can_consume()
        redis_server.start()


def test_results__leave_out_one_that_redis_does_not_take(redis_server: TestRedis) -> None:
    """Else Celery takes the task for failed, and a thread never acknowledges its message."""
    backend = app.backend
    backend.mark_as_done("kept", "NEW")
    assert backend.get_state("kept") == "SUCCESS"
    redis_server.stop()
    backend.mark_as_done("left-out", "NEW")
    redis_server.start()
    assert backend.get_state("left-out") == "PENDING"


@pytest.mark.parametrize("url", ["redis://one", "rediss://one", "sentinel://one"])
def test_results__of_each_redis_are_ours(url: str) -> None:
    backend, _ = by_url(url, app.loader)
    assert issubclass(backend, Results | SentinelResults)


def _taken(queue: Any) -> Any:
    message = queue.get(timeout=5)
    message.ack()
    return message.payload
