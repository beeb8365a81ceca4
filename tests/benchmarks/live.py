"""Measure what open pages cost the placing path.

Bursts with and without open pages take turns. Pages that only listen hold a stream of bells each.
Pages that fetch also ask for the figures of the landing page after a bell, at most four times a
second, as a browser does.

`python -m tests.benchmarks.live PORT` is the browser of these pages. For each line `LISTENERS
FETCHERS` on its input it closes its pages, opens that many and prints a line.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import django
import requests

from backoffice.local.embedded import HOST, free_port
from tests.benchmarks.figures import Cell, Figures
from tests.benchmarks.parts import BackOffice
from tests.harness.processes import ROOT, ChildProcess, web_argv

LISTENERS = 50
FETCHERS = 3
KINDS = {"none": (0, 0), "listening": (LISTENERS, 0), "fetching": (LISTENERS, FETCHERS)}
BURST = 200
ROUNDS = 4
_FETCH_EVERY_SECONDS = 0.25
_READY = "pages open"


def measure_live(office: BackOffice, say: Callable[[str], None]) -> dict[str, Figures]:
    """Return the figures of bursts without pages, with listening ones and with fetching ones."""
    cells = {name: Cell() for name in KINDS}
    env, port = {**office.env, "PLAIN_HTTP": "on", "DATABASE_POOL_SIZE": "8"}, free_port()
    web = _web(office, env, port)
    browser: subprocess.Popen[str] | None = None
    try:
        web.start()
        browser = _browser(office, env, port)
        for number in range(ROUNDS):
            say(f"bursts with {LISTENERS} open pages, round {number + 1} of {ROUNDS} ...")
            for name, (listeners, fetchers) in KINDS.items():
                _open(browser, listeners, fetchers)
                office.measure(cells[name], BURST, None)
    finally:
        if browser is not None:
            browser.communicate(timeout=20)
        web.stop()
    return {name: cell.figures() for name, cell in cells.items()}


def _web(office: BackOffice, env: Mapping[str, str], port: int) -> ChildProcess:
    """Return the web server, not started, as production runs it."""
    return ChildProcess(
        "web",
        [sys.executable, *web_argv(port)],
        env=env,
        log=office.directory / "web.log",
        ready="running on",
    )


def _browser(office: BackOffice, env: Mapping[str, str], port: int) -> subprocess.Popen[str]:
    program = [sys.executable, "-m", "tests.benchmarks.live", str(port)]
    with (office.directory / "browser.log").open("wb") as log:
        return subprocess.Popen(
            program,
            cwd=ROOT,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


def _open(browser: subprocess.Popen[str], listeners: int, fetchers: int) -> None:
    assert browser.stdin is not None
    assert browser.stdout is not None
    browser.stdin.write(f"{listeners} {fetchers}\n")
    browser.stdin.flush()
    if browser.stdout.readline().strip() != _READY:
        raise RuntimeError("the browser of the open pages ended: see browser.log")


def live_text(live: dict[str, Figures]) -> str:
    """Return a line for each kind of bursts."""
    lines = [f"{'pages':<12}{'orders/s':>10}{'p50':>10}{'CPU':>8}{'DB CPU':>8}"]
    for name, figures in live.items():
        lines.append(
            f"{name:<12}{figures.orders_per_second:>10.0f}{figures.p50:>10.1f}"
            f"{figures.worker_cpu_ms:>8.2f}{figures.database_cpu_ms:>8.2f}"
        )
    return "\n".join(lines)


class _Pages:
    """Open pages of one signed-in person."""

    def __init__(self, port: int) -> None:
        from django.contrib.auth.models import User

        from tests.harness.web import session_of

        self._port = port
        self._key = session_of(User.objects.create_superuser("bench"))

    def open(self, stack: ExitStack, listeners: int, fetchers: int) -> None:
        """Open the pages until the stack closes. Return once each has heard the server."""
        from tests.harness.web import Stream

        streams = [stack.enter_context(Stream(self._port, self._key)) for _ in range(listeners)]
        for stream in streams:
            stream.expect("beat", timeout=60)
        ended = threading.Event()
        for stream in streams[:fetchers]:
            thread = threading.Thread(target=self._fetch, args=(stream, ended))
            thread.start()
            stack.callback(thread.join)
        stack.callback(ended.set)

    def _fetch(self, stream: Any, ended: threading.Event) -> None:
        from django.conf import settings

        address, seen = f"http://{HOST}:{self._port}/admin/live/now/", stream.count("orders")
        cookies = {settings.SESSION_COOKIE_NAME: self._key}
        with requests.Session() as session:
            while not ended.wait(_FETCH_EVERY_SECONDS):
                if (rung := stream.count("orders")) > seen:
                    seen = rung
                    session.get(address, cookies=cookies, timeout=30).raise_for_status()


def main(port: int) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
    django.setup()
    pages, stack = _Pages(port), ExitStack()
    with stack:
        for line in sys.stdin:
            listeners, fetchers = map(int, line.split())
            stack.close()
            pages.open(stack, listeners, fetchers)
            print(_READY, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
