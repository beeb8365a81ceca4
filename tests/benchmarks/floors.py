"""Measure the floors: the steps that every placement needs, each by itself, back to back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import requests
from redis import Redis

from tests.benchmarks.figures import percentile
from tests.benchmarks.traffic import BareExchange

TIMES = 200


def floors(
    exchange_url: str, bare: BareExchange, redis_url: str, connection: psycopg.Connection
) -> dict[str, float]:
    """Return the median of each step in milliseconds."""
    session, redis = requests.Session(), Redis.from_url(redis_url)
    connection.autocommit = True
    connection.execute("CREATE TABLE IF NOT EXISTS bench_floor (id bigserial, at timestamptz)")

    def insert() -> None:
        connection.execute("INSERT INTO bench_floor (at) VALUES (now())")

    steps: dict[str, Callable[[], object]] = {
        "HTTP: GET /api/v3/time": lambda: session.get(f"{exchange_url}/api/v3/time", timeout=5),
        "bare ccxt: create_order": lambda: bare.place(1, None),
        "Redis: PING": redis.ping,
        "PostgreSQL: SELECT 1": lambda: connection.execute("SELECT 1"),
        "PostgreSQL: INSERT and commit": insert,
    }
    found = {name: _median(step) for name, step in steps.items()}
    session.close()
    redis.close()
    return found


def _median(step: Callable[[], object]) -> float:
    took: list[float] = []
    for _ in range(TIMES):
        began = time.perf_counter()
        step()
        took.append((time.perf_counter() - began) * 1000)
    return percentile(sorted(took), 50)


class Steal:
    """The share of the machine's time that its host gave to others, since this began (Linux)."""

    #: Above this a run says nothing about the program.
    SOUND_PERCENT = 5.0

    def __init__(self) -> None:
        self._before = _times()

    def percent(self) -> float:
        now = _times()
        passed = [after - before for after, before in zip(now, self._before, strict=True)]
        total = sum(passed)
        return 100 * passed[_STEAL] / total if total else 0.0


_STEAL = 7  # user nice system idle iowait irq softirq steal


def _times() -> list[int]:
    first = Path("/proc/stat").read_text().partition("\n")[0]
    return [int(ticks) for ticks in first.split()[1:9]]
