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
from tests.harness.waiting import wait_for

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


def becomes(server: Redis, *, held_messages: int) -> None:
    wait_for(lambda: held(server) == (held_messages,) * 2, what=f"{held_messages} messages are held")


def deliver(connection: Any, text: str) -> Any:
    queue = connection.SimpleQueue(QUEUE)
    queue.put(text)
    return queue.get(timeout=5)


def test_ack__forgets_what_was_held(connection: Any, server: Redis) -> None:
    first, second = deliver(connection, "1"), deliver(connection, "2")
    becomes(server, held_messages=2)
    first.ack()
    becomes(server, held_messages=1)
    second.ack()
    becomes(server, held_messages=0)


def test_restore__a_delivery_that_nobody_has_acknowledged_comes_again(connection: Any, server: Redis) -> None:
    message = deliver(connection, "1")
    becomes(server, held_messages=1)
    connection.default_channel.qos.restore_by_tag(message.delivery_tag)
    assert held(server) == (0, 0)
    assert connection.SimpleQueue(QUEUE).get(timeout=5).payload == "1"


def drop_connections(server: Redis) -> None:
    server.client_kill_filter(_type="normal", skipme=True)


def test_ack__goes_on_over_a_lost_connection(connection: Any, server: Redis) -> None:
    """What was sent into a connection that the server had closed already is sent again with the next note."""
    messages = [deliver(connection, text) for text in "12"]
    becomes(server, held_messages=2)
    drop_connections(server)
    for message in messages:
        message.channel.qos.ack(message.delivery_tag)
    becomes(server, held_messages=0)


def test_ack__a_connection_that_was_lost_in_a_pause_is_noticed(
    connection: Any, server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = deliver(connection, "1")
    becomes(server, held_messages=1)
    drop_connections(server)
    monkeypatch.setattr(message.channel.qos, "_noted_at", float("-inf"))
    message.channel.qos.ack(message.delivery_tag)
    assert held(server) == (0, 0)


def test_ack__says_that_the_server_is_away(connection: Any, server: Redis, redis_server: TestRedis) -> None:
    messages = [deliver(connection, text) for text in "12"]
    becomes(server, held_messages=2)
    redis_server.stop()

    def acknowledge_all() -> None:
        for message in messages:
            message.channel.qos.ack(message.delivery_tag)

    with pytest.raises(RedisConnectionError):
        acknowledge_all()
