"""`make run` as a new user sees it: from an empty folder to filled orders, and back to nothing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from backoffice import embedded
from tests.harness.processes import ROOT, ChildProcess
from tests.harness.waiting import wait_for

PARTS = ("manage.py", "backoffice", "exchanges", "orders", "examples", "locale")
ALL_CHILDREN = {"redis", "simulator", "worker-1", "worker-2", "web", "beat", "listener", "orchestrator"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the project without any data."""
    copy = tmp_path / "project"
    copy.mkdir()
    for part in filter(Path.exists, (ROOT / name for name in PARTS)):
        if part.is_dir():
            shutil.copytree(part, copy / part.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(part, copy / part.name)
    return copy


@pytest.fixture
def make_run(folder: Path) -> Iterator[ChildProcess]:
    unset = ("DATABASE_URL", "REDIS_URL", "DJANGO_ALLOW_ASYNC_UNSAFE", "SECRET_KEY")
    env = {name: value for name, value in os.environ.items() if name not in unset and not name.startswith("EXCHANGE_")}
    env |= {"PORT": str(embedded.free_port()), "SIMULATOR_PORT": str(embedded.free_port())}
    child = ChildProcess(
        "make run",
        [sys.executable, "-m", "backoffice.run"],
        env=env,
        log=folder.parent / "terminal.log",
        ready="The back office is ready",
        cwd=folder,
    )
    yield child
    child.stop()


def processes_in(folder: Path) -> list[str]:
    """Command lines of the processes that work in the folder or below."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve(strict=True).is_relative_to(folder):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # it ended meanwhile, or is not ours to look at
    return found


def filled_orders(folder: Path) -> set[str]:
    with sqlite3.connect(folder / "var" / "backoffice.sqlite3") as connection:
        return {row[0] for row in connection.execute("SELECT intent_id FROM orders_order WHERE status = 'FILLED'")}


def interrupt(child: ChildProcess) -> float:
    """Ctrl-C; how many seconds it then took to end."""
    started = time.monotonic()
    embedded.signal_group(child.running, signal.SIGINT)
    child.running.wait(30)
    return time.monotonic() - started


def log_in(url: str, name: str, password: str) -> requests.Response:
    session = requests.Session()
    session.get(f"{url}/admin/login/", timeout=10)
    form = {"username": name, "password": password, "csrfmiddlewaretoken": session.cookies["csrftoken"]}
    return session.post(f"{url}/admin/login/?next=/admin/", data=form, timeout=10)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for left-over processes in /proc")
@pytest.mark.long
def test_make_run__trades_stops_continues_and_leaves_nothing(folder: Path, make_run: ChildProcess) -> None:
    make_run.start(wait=False)
    make_run.wait_until_ready(timeout=120)
    url = re.search(r"(http://\S+)/admin/", make_run.output())[1]  # type: ignore[index]
    logins = re.findall(r"^ +(admin|trader|viewer) +(\S+)", make_run.output(), re.MULTILINE)
    assert len(logins) == 3
    for name, password in logins:
        page = log_in(url, name, password)
        assert page.status_code == 200
        assert "/admin/login/" not in page.url, f"{name} cannot log in"
    assert {log.stem for log in (folder / "var/log").glob("*.log")} >= ALL_CHILDREN
    wait_for(lambda: filled_orders(folder), timeout=60, what="the demo bot's first order is filled")

    assert interrupt(make_run) < 10
    assert make_run.running.returncode == 0
    assert processes_in(folder) == []
    before = filled_orders(folder)

    make_run.start(wait=False)
    make_run.wait_until_ready(timeout=120)
    assert re.findall(r"^ +(admin|trader|viewer) +(\S+)", make_run.output(), re.MULTILINE) == logins
    wait_for(lambda: filled_orders(folder) > before, timeout=60, what="the old orders are there, and new ones come")

    os.kill(make_run.pid, signal.SIGKILL)
    make_run.running.wait()
    wait_for(lambda: not processes_in(folder), timeout=20, what="every child of the killed supervisor has ended")
