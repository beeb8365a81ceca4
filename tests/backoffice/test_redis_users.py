"""The Redis users of compose.yaml: a bot may push orders and read its results, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import yaml
from celery import Celery

from backoffice.local.embedded import HOST, RedisServer, free_port
from exchanges.limits import redis as shared
from tests.harness.processes import ROOT, ProcessFactory

PASSWORDS = {"REDIS_PASSWORD": "of-the-back-office", "BOT_REDIS_PASSWORD": "of-the-bot"}


class GuardedRedis(RedisServer):
    """A server that starts with the users of compose.yaml."""

    def argv(self) -> list[str]:
        config = yaml.safe_load((ROOT / "compose.yaml").read_text())
        text = str(config["configs"]["redis-users"]["content"])
        for name, value in PASSWORDS.items():
            text = text.replace(f"${{{name}:?set {name} in .env}}", value)
        assert "$" not in text
        users = self.directory / "users.acl"
        users.write_text(text)
        return [*super().argv(), "--aclfile", str(users.resolve())]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedRedis]:
    server = GuardedRedis(tmp_path_factory.mktemp("redis"), port=free_port(), keep_data=False)
    server.start()
    yield server
    server.stop()


def url(server: GuardedRedis, user: str) -> str:
    passwords = {"bot": PASSWORDS["BOT_REDIS_PASSWORD"], "backoffice": PASSWORDS["REDIS_PASSWORD"]}
    return f"redis://{user}:{passwords[user]}@{HOST}:{server.port}/0"


@pytest.fixture
def office(server: GuardedRedis) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(url(server, "backoffice"), decode_responses=True)
    yield client
    for key in client.scan_iter():
        client.delete(key)
    client.close()


def bot_of(server: GuardedRedis) -> Celery:
    bot = Celery("bot", broker=url(server, "bot"), backend=url(server, "bot"), set_as_current=False)
    bot.conf.task_create_missing_queues = True
    bot.conf.broker_connection_retry = False
    return bot


def test_bot__submits_cancels_and_reads_its_own_result(
    server: GuardedRedis, office: redis.Redis
) -> None:
    bot = bot_of(server)
    sent = bot.send_task("orders.submit_order", kwargs={}, queue="trading", ignore_result=False)
    bot.send_task("orders.cancel_order", kwargs={}, queue="cancel")
    assert (office.llen("trading"), office.llen("cancel")) == (1, 1)
    office.set(f"celery-task-meta-{sent.id}", '{"status": "SUCCESS", "result": 7, "task_id": "x"}')
    assert bot.AsyncResult(sent.id).result == 7


@pytest.mark.parametrize(
    "command",
    [
        ("LPUSH", "sync", "x"),
        ("LPUSH", "duties", "x"),
        ("LRANGE", "trading", "0", "-1"),
        ("BRPOP", "trading", "1"),
        ("DEL", "trading"),
        ("SET", "celery-task-meta-1", "forged"),
        ("HINCRBY", "backoffice:counters", "x", "1"),
        ("HGETALL", "unacked"),
        ("KEYS", "*"),
        ("SCAN", "0"),
        ("PSUBSCRIBE", "*"),
        ("SUBSCRIBE", "/0.celery.pidbox"),
        ("PUBLISH", "/0.celery.pidbox", "x"),
        ("CONFIG", "GET", "*"),
        ("FLUSHALL",),
        ("SHUTDOWN",),
        ("EVAL", "return redis.call('GET', KEYS[1])", "1", "backoffice:counters"),
    ],
)
def test_bot__may_do_nothing_else(server: GuardedRedis, command: tuple[str, ...]) -> None:
    with (
        redis.Redis.from_url(url(server, "bot")) as client,
        pytest.raises(redis.exceptions.ResponseError, match=r"(?i)permission"),
    ):
        client.execute_command(*command)


@pytest.mark.parametrize("command", [("GET", "x"), ("LLEN", "trading"), ("INFO",), ("KEYS", "*")])
def test_anybody__may_only_ping(server: GuardedRedis, command: tuple[str, ...]) -> None:
    with redis.Redis(HOST, server.port) as client:
        assert client.ping()
        with pytest.raises(redis.exceptions.ResponseError, match=r"(?i)permission"):
            client.execute_command(*command)


@pytest.mark.parametrize("command", [("FLUSHALL",), ("CONFIG", "SET", "save", ""), ("SHUTDOWN",)])
def test_back_office__needs_no_dangerous_command(
    server: GuardedRedis, command: tuple[str, ...]
) -> None:
    with (
        redis.Redis.from_url(url(server, "backoffice")) as client,
        pytest.raises(redis.exceptions.ResponseError, match=r"(?i)permission"),
    ):
        client.execute_command(*command)


def test_back_office__reads_how_durable_its_redis_is(
    server: GuardedRedis, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.REDIS_URL = url(server, "backoffice")
    assert shared.redis_durability() == shared.Durability("noeviction", persists=False)


def test_worker__answers_a_bot_behind_the_users(
    server: GuardedRedis, office: redis.Redis, processes: ProcessFactory
) -> None:
    """The whole way: a real worker, a bot with its own password, an answer."""
    processes.worker(env={"REDIS_URL": url(server, "backoffice")})
    wrong = {"intent_id": "i-1", "account": "nobody"}
    sent = bot_of(server).send_task(
        "orders.submit_order", kwargs=wrong, queue="trading", ignore_result=False
    )
    with pytest.raises(Exception, match="symbol"):
        sent.get(timeout=30)


@pytest.mark.parametrize(
    "task", ["orders.apply_halt_rules", "desk.do_bulk", "celery.backend_cleanup"]
)
def test_worker__starts_nothing_but_orders_and_cancels_for_a_bot(
    server: GuardedRedis, office: redis.Redis, processes: ProcessFactory, task: str
) -> None:
    processes.worker(env={"REDIS_URL": url(server, "backoffice")})
    sent = bot_of(server).send_task(task, queue="trading", ignore_result=False)
    with pytest.raises(Exception, match=f"{task} can't be started through the queue trading"):
        sent.get(timeout=30)


def test_worker__starts_no_duty_whose_message_names_another_queue(
    server: GuardedRedis, office: redis.Redis, processes: ProcessFactory
) -> None:
    """A bot writes the whole message, including the queue that it claims to come from."""
    task = "orders.apply_halt_rules"
    sent = bot_of(server).send_task(task, queue="trading", ignore_result=False)
    message = json.loads(str(office.lpop("trading")))
    message["properties"]["delivery_info"]["routing_key"] = "duties"
    with redis.Redis.from_url(url(server, "bot")) as bot:
        bot.lpush("trading", json.dumps(message))
    processes.worker(env={"REDIS_URL": url(server, "backoffice")})
    with pytest.raises(Exception, match=f"{task} can't be started through the queue trading"):
        sent.get(timeout=30)
