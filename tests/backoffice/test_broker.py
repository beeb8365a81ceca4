"""The transport's own notes of deliveries, against a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kombu.connection import Connection
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from backoffice import broker
from tests.harness.redis import TestRedis

QUEUE = "broker-test"
connect: Any = Connection


@pytest.fixture
def server(redis_server: TestRedis) -> Redis:
    return Redis.from_url(redis_server.url, decode_responses=True)


@pytest.fixture
def connection(redis_server: TestRedis) -> Iterator[Any]:
    broker.use_for_redis()
    with connect(redis_server.url) as connection:
        assert isinstance(connection.default_channel, broker.Channel)
        yield connection


def held(server: Redis) -> tuple[int, int]:
    return int(server.hlen("unacked")), int(server.zcard("unacked_index"))


def deliver(connection: Any, text: str) -> Any:
    queue = connection.SimpleQueue(QUEUE)
    queue.put(text)
    return queue.get(timeout=5)


def test_ack__forgets_what_was_held(connection: Any, server: Redis) -> None:
    first, second = deliver(connection, "1"), deliver(connection, "2")
    assert held(server) == (2, 2)
    first.ack()
    assert held(server) == (1, 1)
    second.ack()
    assert held(server) == (0, 0)


def test_restore__a_delivery_that_nobody_has_acknowledged_comes_again(connection: Any, server: Redis) -> None:
    message = deliver(connection, "1")
    connection.default_channel.qos.restore_by_tag(message.delivery_tag)
    assert held(server) == (0, 0)
    assert connection.SimpleQueue(QUEUE).get(timeout=5).payload == "1"


def test_ack__goes_on_over_a_lost_connection(connection: Any, server: Redis) -> None:
    message = deliver(connection, "1")
    server.client_kill_filter(_type="normal", skipme=True)
    message.channel.qos.ack(message.delivery_tag)
    assert held(server) == (0, 0)


def test_ack__says_that_the_server_is_away(connection: Any, redis_server: TestRedis) -> None:
    message = deliver(connection, "1")
    redis_server.stop()
    with pytest.raises(RedisConnectionError):
        message.channel.qos.ack(message.delivery_tag)
