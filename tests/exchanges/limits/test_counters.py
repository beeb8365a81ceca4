from __future__ import annotations

import os
import socket
import threading

import pytest
from pytest_django.fixtures import Settings
from redis import Redis

from exchanges import clock
from exchanges.limits import counters
from tests.exchanges.binance.raw_server import closed_port, unanswering_port
from tests.harness.redis import TestRedis
from tests.harness.waiting import wait_for


@pytest.fixture(autouse=True)
def _not_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "_paused_until", 0.0)


def test_count__adds_up_by_name_and_labels(redis_server: TestRedis) -> None:
    def work() -> None:
        for _ in range(50):
            counters.count("exchange_calls", account="a", call="place", outcome="ok")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    counters.count("exchange_calls", outcome="NotSent", call="place", account="a")
    counters.count("invalid_intents", field='quan"tity, x=1')
    for thread in threads:
        thread.join(20)
    assert counters.read_counters() == {
        ("exchange_calls", (("account", "a"), ("call", "place"), ("outcome", "ok"))): 200,
        ("exchange_calls", (("account", "a"), ("call", "place"), ("outcome", "NotSent"))): 1,
        ("invalid_intents", (("field", 'quan"tity, x=1'),)): 1,
    }


def test_count_soon__is_written_soon_or_when_it_is_asked_for(redis_server: TestRedis) -> None:
    field = counters.counter("exchange_calls", call="place")
    stored = Redis.from_url(redis_server.url, decode_responses=True)
    for _ in range(3):
        counters.count_soon(field)
    wait_for(lambda: stored.hget(counters.KEY, field) == "3", what="the counts are written")
    counters.count_soon(field)
    assert counters.read_counters() == {("exchange_calls", (("call", "place"),)): 4}


def test_count_soon__a_forked_child_leaves_its_parents_counts_alone(
    redis_server: TestRedis,
) -> None:
    field = counters.counter("exchange_calls", call="place")
    counters.count_soon(field)
    if (child := os.fork()) == 0:
        try:
            counters.count_soon(field)
            counters.flush()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert counters.read_counters() == {("exchange_calls", (("call", "place"),)): 2}


def test_count__starts_from_zero_when_redis_was_flushed(redis_server: TestRedis) -> None:
    counters.count("invalid_intents", field="side")
    redis_server.flush()
    assert counters.read_counters() == {}
    counters.count("invalid_intents", field="side")
    assert counters.read_counters() == {("invalid_intents", (("field", "side"),)): 1}


def test_count__leaves_an_absent_redis_alone_for_a_while(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        settings.REDIS_URL = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"

        def attempts() -> int:
            """Count connections since the last call, and close each: an error for the client."""
            made = 0
            while True:
                try:
                    listener.accept()[0].close()
                except TimeoutError:
                    return made
                made += 1

        counters.count("x")
        assert attempts() == 1
        counters.count("x")
        now += 4.9
        counters.count("x")
        assert attempts() == 0
        now += 0.2
        counters.count("x")
        assert attempts() == 1


def test_count__does_not_wait_for_a_redis_that_hangs(settings: Settings) -> None:
    with unanswering_port() as port:
        settings.REDIS_URL = f"redis://127.0.0.1:{port}/0"
        started = clock.monotonic()
        for _ in range(100):
            counters.count("x")
        assert clock.monotonic() - started < 2
        assert counters.read_counters() == {}


def test_count__never_raises(settings: Settings) -> None:
    for url in (f"redis://127.0.0.1:{closed_port()}/0", "no-url-at-all", ""):
        settings.REDIS_URL = url
        counters.count("x", label="y")
        assert counters.read_counters() == {}


def test_observe__counts_each_duration_in_the_bucket_whose_edge_it_does_not_exceed(
    redis_server: TestRedis,
) -> None:
    for seconds in (0.0, 0.001, 0.0011, 3.0, 11.0):
        counters.observe("took", seconds, stage="sent")
    found = {
        dict(labels).get("le", name): count
        for (name, labels), count in counters.read_counters().items()
    }
    assert found == {
        "0.001": 2,
        "0.0025": 1,
        "5.0": 1,
        "+Inf": 1,
        "took_sum_us": 14_002_100,
    }
