"""Measure the desk's pages over a large book: `python -m tests.benchmarks.desk ORDERS`.

The program fills the database of `DATABASE_URL`, asks for each page in this process, and prints one
JSON line: milliseconds of each page and filter (the best of four), and exported rows a second. The
times are those of the server, without the network and the browser.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import django
from django.test.utils import setup_test_environment

from backoffice.local.embedded import RedisServer, free_port
from backoffice.local.postgres import PostgresServer
from tests.harness.processes import ROOT

DESK = "/admin/"
TIMES = 4
EXPORTED = {"status": "CANCELED"}


@dataclass(frozen=True, slots=True)
class Desk:
    """Milliseconds of each page and of each filter of the orders, and exported rows a second."""

    orders: int
    pages: Mapping[str, float]
    filters: Mapping[str, float]
    exported_per_second: float


def measure_desk(say: Callable[[str], None], orders: int) -> Desk:
    """Start a database of its own, let a process fill and ask it, and return the figures."""
    say(f"filling a book of {orders:,} orders, and asking for its pages ...")
    with ExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="backoffice-desk-"))
        )
        directory.chmod(0o711)  # PostgreSQL may run as another user, below it
        server = PostgresServer(directory / "postgres")
        stack.callback(server.stop)
        server.start()
        server.create_database()
        redis = RedisServer(directory / "redis", port=free_port(), keep_data=False)
        stack.callback(redis.stop)
        redis.start()
        env = {**os.environ, "DATABASE_URL": server.url(), "REDIS_URL": redis.url}
        env |= {"DEBUG": "off", "PLAIN_HTTP": "on", "LOG_LEVEL": "WARNING"}
        program = [sys.executable, "-m", "tests.benchmarks.desk", str(orders)]
        told = subprocess.run(
            program, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, text=True
        )
        return Desk(orders, **json.loads(told.stdout.splitlines()[-1]))


def main(orders: int) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
    django.setup()
    setup_test_environment()
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.test import Client

    from tests.benchmarks.many_orders import LIST, PAGES, analyze, fill_book, filters

    call_command("migrate", verbosity=0)
    fill_book(orders)
    analyze()
    client = Client()
    client.force_login(User.objects.create_superuser("bench"))
    pages = {"desk": DESK, "orders": LIST, **PAGES}
    found = {
        "pages": {name: best_ms(client, address, {}) for name, address in pages.items()},
        "filters": {name: best_ms(client, LIST, query) for name, query in filters().items()},
        "exported_per_second": _exported_per_second(client, f"{LIST}export/csv/"),
    }
    print(json.dumps(found), flush=True)


def best_ms(client: Any, address: str, query: dict[str, str]) -> float:
    """Return the shortest of some times that the page took. Raise if it isn't answered."""
    times = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        answer = client.get(address, query)
        times.append((time.perf_counter() - begun) * 1000)
        if answer.status_code != 200:
            raise RuntimeError(f"{address} with {query} answered {answer.status_code}")
    return min(times)


def _exported_per_second(client: Any, address: str) -> float:
    begun = time.perf_counter()
    lines = b"".join(client.get(address, EXPORTED).streaming_content).count(b"\n") - 1
    return lines / (time.perf_counter() - begun)


if __name__ == "__main__":
    main(int(sys.argv[1]))
