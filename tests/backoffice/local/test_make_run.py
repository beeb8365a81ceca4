"""`make run` as a new user sees it: from an empty folder to filled orders, and back to nothing."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from backoffice.local import embedded
from tests.harness.processes import ROOT, ChildProcess
from tests.harness.waiting import wait_for

PARTS = ("manage.py", "backoffice", "exchanges", "orders", "examples", "locale")
ALL_CHILDREN = {
    "postgres",
    "redis",
    "simulator",
    "worker-1",
    "worker-2",
    "worker-3",
    "web",
    "beat",
    "listener",
    "orchestrator",
    "habits",
}


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
def of_others() -> Iterator[socket.socket]:
    """Listen in the place of a foreign database and Redis. Nothing of ours may connect."""
    with socket.socket() as listening:
        listening.bind((embedded.HOST, 0))
        listening.listen()
        listening.setblocking(False)
        yield listening


def environment() -> dict[str, str]:
    """That of a terminal in which nothing is set."""
    unset = ("DATABASE_URL", "REDIS_URL", "DJANGO_ALLOW_ASYNC_UNSAFE", "SECRET_KEY")
    return {
        name: value
        for name, value in os.environ.items()
        if name not in unset and not name.startswith("EXCHANGE_")
    }


@pytest.fixture
def make_run(folder: Path, of_others: socket.socket) -> Iterator[ChildProcess]:
    address = f"{embedded.HOST}:{of_others.getsockname()[1]}"
    theirs = {
        "DATABASE_URL": f"postgres://eva:secret@{address}/orders",
        "REDIS_URL": f"redis://{address}/0",
        "CELERY_BROKER_URL": f"redis://{address}/1",
        "CELERY_RESULT_BACKEND": f"redis://{address}/2",
    }
    lines = [f"{name}={value}\n" for name, value in theirs.items()]
    (folder / ".env").write_text("".join(lines) + "SECRET_KEY=of-somebody\n")
    env = environment() | theirs | {"PGHOSTADDR": "127.0.0.2"}
    env |= {"PORT": str(embedded.free_port()), "SIMULATOR_PORT": str(embedded.free_port())}
    child = ChildProcess(
        "make run",
        [sys.executable, "-m", "backoffice.local.run"],
        env=env,
        log=folder.parent / "terminal.log",
        ready="The back office is ready",
        cwd=folder,
    )
    yield child
    child.stop()


def processes_in(folder: Path) -> dict[int, str]:
    """Command lines of the processes that work in the folder or below, by their ids."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve(strict=True).is_relative_to(folder):
                command = (process / "cmdline").read_text().replace("\0", " ")
                found[int(process.name)] = command
        except OSError:
            continue  # it ended meanwhile, or is not ours to look at
    return found


def filled_orders(folder: Path) -> set[str]:
    """The intents of the filled orders, as a program in a second terminal sees them."""
    query = (
        "from orders.models import Order\n"
        "print(*Order.objects.filter(status='FILLED').values_list('intent_id', flat=True))"
    )
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "--verbosity", "0", "-c", query],
        cwd=folder,
        env=environment() | {"DJANGO_SETTINGS_MODULE": "backoffice.settings"},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def interrupt(child: ChildProcess) -> float:
    """Ctrl-C; how many seconds it then took to end."""
    started = time.monotonic()
    embedded.signal_group(child.running, signal.SIGINT)
    child.running.wait(30)
    return time.monotonic() - started


def log_in(url: str, name: str, password: str) -> requests.Response:
    session = requests.Session()
    session.get(f"{url}/admin/login/", timeout=10)
    form = {
        "username": name,
        "password": password,
        "csrfmiddlewaretoken": session.cookies["csrftoken"],
    }
    return session.post(f"{url}/admin/login/?next=/admin/", data=form, timeout=10)


def logins(make_run: ChildProcess) -> list[tuple[str, str]]:
    return re.findall(r"^ +(admin|trader|viewer) +(\S+)", make_run.output(), re.MULTILINE)


def start(make_run: ChildProcess) -> None:
    make_run.start(wait=False)
    make_run.wait_until_ready(timeout=120)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for left-over processes in /proc")
@pytest.mark.long
def test_make_run__trades_stops_continues_and_leaves_nothing(
    folder: Path, make_run: ChildProcess, of_others: socket.socket
) -> None:
    start(make_run)
    url = re.search(r"(http://\S+)/admin/", make_run.output())[1]  # type: ignore[index]
    first_logins = logins(make_run)
    assert len(first_logins) == 3
    for name, password in first_logins:
        page = log_in(url, name, password)
        assert page.status_code == 200
        assert "/admin/login/" not in page.url, f"{name} cannot log in"
    assert {log.stem for log in (folder / "var/log").glob("*.log")} >= ALL_CHILDREN
    wait_for(lambda: filled_orders(folder), timeout=60, what="the demo bot's first order is filled")
    before = filled_orders(folder)

    assert interrupt(make_run) < 10
    assert make_run.running.returncode == 0
    assert processes_in(folder) == {}
    assert not (folder / "var" / "run.env").exists()
    assert not (folder / "var" / "postgres" / "socket").is_symlink()

    start(make_run)
    assert logins(make_run) == first_logins
    wait_for(
        lambda: filled_orders(folder) > before,
        timeout=60,
        what="the old orders are there, and new ones come",
    )

    os.kill(make_run.pid, signal.SIGKILL)
    make_run.running.wait()
    wait_for(
        lambda: not processes_in(folder),
        timeout=20,
        what="every child of the killed supervisor has ended",
    )
    with pytest.raises(BlockingIOError):
        of_others.accept()


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.long
def test_make_run__recovers_when_everything_was_killed(
    folder: Path, make_run: ChildProcess, of_others: socket.socket
) -> None:
    start(make_run)
    wait_for(lambda: filled_orders(folder), timeout=60, what="the demo bot's first order is filled")
    before, first_logins = filled_orders(folder), logins(make_run)

    for pid in processes_in(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    make_run.running.wait()
    assert (folder / "var/postgres/data/postmaster.pid").exists()
    assert (folder / "var/run.env").exists()

    start(make_run)
    assert logins(make_run) == first_logins
    wait_for(
        lambda: filled_orders(folder) > before,
        timeout=60,
        what="the old orders are there, and new ones come",
    )
    assert interrupt(make_run) < 10
    assert processes_in(folder) == {}
    with pytest.raises(BlockingIOError):
        of_others.accept()


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.long
def test_make_run__with_an_unreadable_state_of_the_simulator_is_one_clear_line(
    folder: Path, make_run: ChildProcess
) -> None:
    (folder / "var").mkdir()
    (folder / "var" / "simulator.state").write_bytes(b"simulator state 0\nof long ago")
    make_run.start(wait=False)
    assert make_run.running.wait(60) == 1
    said = [line for line in make_run.output().splitlines() if line]
    assert [line for line in said if "simulator" in line] == [said[-1]]
    assert said[-1].startswith("make run: ")
    assert "simulator.state" in said[-1]
    assert "Traceback" not in make_run.output()
    assert processes_in(folder) == {}
