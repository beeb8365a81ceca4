"""Compare the simulation's Redis with the real scripts on a real server."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from exchanges.limits import redis as shared
from tests.harness.redis import TestRedis
from tests.simulation.redis_model import RedisModel

SCRIPTS = Path(shared.__file__).parent
NOW_MS = 1_900_000_000_000
KEYS = {"stop": "s", "stop_of_kind": "sk", "weight": "w", "breaker": "b"}
BOOK = ["book", "claims"]
#: So long that nothing ends while a test runs.
LONG_MS = 600_000


def acquire(random: Random) -> tuple[str, list[str], dict[str, Any]]:
    orders = [{"key": "o", "limit": random.choice((3, 1000)), "left_ms": LONG_MS}]
    ask = {
        "keys": KEYS,
        "weight": random.choice((1, 40)),
        "weight_now": random.choice((0, 1)),
        "ceiling": random.choice((50, 10_000)),
        "minute_left_ms": 1000,
        "probe_ms": LONG_MS,
        "known_stop_ms": 0,
        "known_stop_of_kind_ms": 0,
        "orders": orders if random.random() < 0.5 else [],
        "book": BOOK if random.random() < 0.5 else [],
    }
    return "acquire", [*KEYS.values(), "o", *BOOK], ask


def respond(random: Random) -> tuple[str, list[str], dict[str, Any]]:
    told = {
        "keys": {**KEYS, "counters": "c"},
        "stop_ms": LONG_MS if random.random() < 0.03 else 0,
        "stop_of_kind_ms": LONG_MS if random.random() < 0.03 else 0,
        "spent": random.choice((0, 1, 5)),
        "used_weight": random.choice((0, 0, 30, 60)),
        "orders": [{"key": "o", "count": random.choice((0, 2))}],
        "outcome": random.choice(("failed", "sound", "none")),
        "breaker": {"failures": 3, "window_ms": LONG_MS, "open_ms": 1},
        "counter": "",
    }
    return "record_response", [*KEYS.values(), "o", "c"], told


def give_back(random: Random) -> tuple[str, list[str], dict[str, Any]]:
    return "give_back", ["o", "b"], {"orders": ["o"], "breaker": random.choice(("", "b"))}


def book(random: Random) -> tuple[str, list[str], dict[str, Any]]:
    verb = random.choice(("read", "note", "note", "note", "begin"))
    names = random.sample(("1/a", "1/b", "2/c", "2/d"), random.choice((1, 2)))
    ask = {"keys": BOOK, "verb": verb, "token": random.choice("xy"), "names": names, "newest": 3}
    return "book", BOOK, ask


@pytest.mark.parametrize("seed", range(20))
def test_the_model_answers_like_the_scripts(redis_server: TestRedis, seed: int) -> None:
    random, model = Random(seed), RedisModel(lambda: NOW_MS)
    client = redis_server.client()
    for _ in range(60):
        name, keys, ask = random.choice((acquire, acquire, respond, give_back, book))(random)
        argument = orjson.dumps(ask)
        text = (SCRIPTS / f"{name}.lua").read_text()
        real = client.register_script(text)(keys=keys, args=[argument])
        ours = model.run(name, argument)
        if name == "acquire" and real[0] > 0:
            # The milliseconds that are left differ by the time that the real server took.
            assert real[1] == ours[1]
            assert abs(real[0] - ours[0]) < LONG_MS / 2
        else:
            assert real == ours
        if client.pttl("b:pause") >= 0:
            client.delete("b:pause")
        model._delete("b:pause")
