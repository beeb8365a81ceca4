"""Check the supervisor behind `make run`, with small children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backoffice.local import embedded
from backoffice.local import supervisor as supervision
from backoffice.local.embedded import StartFailed
from backoffice.local.supervisor import Child, Supervisor
from tests.harness.waiting import wait_for

FOREVER = "import time; time.sleep(600)"


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(os.environ, folder=tmp_path, logs=tmp_path / "log")
    yield supervisor
    supervisor.stop()


def python(code: str, *args: str) -> list[str]:
    return [sys.executable, "-c", code, *args]


def is_running(pid: int) -> bool:
    """Return whether the process exists and isn't an uncollected zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_watch__starts_an_ended_child_again_and_names_it(
    supervisor: Supervisor,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervision, "LONGEST_PAUSE", 0.0)
    marker = tmp_path / "ran"
    dies_once = "import pathlib, sys, time; m = pathlib.Path(sys.argv[1])\n"
    dies_once += "first = not m.exists(); m.touch()\n"
    dies_once += "if first: sys.exit('the first run failed')\ntime.sleep(600)"
    child = Child("worker", python(dies_once, str(marker)))
    supervisor.add(child)
    first = child.process

    supervisor.wait_for(lambda: child.process not in (first, None), "the second run")

    assert child.process is not None
    assert child.process.poll() is None
    output = capsys.readouterr().out
    assert "worker ended (exit status 1); the end of log/worker.log" in output
    assert "the first run failed" in output


def test_watch__shows_of_the_log_what_belongs_to_the_run_that_ended(
    supervisor: Supervisor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "LONGEST_PAUSE", 0.0)
    supervisor.add(Child("beat", python("raise SystemExit('no schedule')")))
    with pytest.raises(StartFailed) as failure:
        supervisor.wait_for(lambda: False, "never")
    assert str(failure.value).count("no schedule") == 1
    assert capsys.readouterr().out.count("no schedule") == 4


@pytest.mark.long
def test_watch__gives_up_on_a_child_that_keeps_ending(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "LONGEST_PAUSE", 0.0)
    supervisor.add(Child("beat", python("raise SystemExit('no schedule')")))
    with pytest.raises(
        StartFailed, match=r"(?s)beat ended \(exit status 1\).*no schedule.*5 times: giving up"
    ):
        supervisor.wait_for(lambda: False, "never")


def test_run_once__shows_why_a_step_failed(supervisor: Supervisor) -> None:
    with pytest.raises(StartFailed, match=r"(?s)migrate failed \(exit status 1\).*no such table"):
        supervisor.run_once("migrate", python("raise SystemExit('no such table')"))


def test_run_once__that_refuses_is_one_line(supervisor: Supervisor) -> None:
    code = (
        f"import sys; print('much before'); print('move var/ away'); sys.exit({embedded.REFUSED})"
    )
    with pytest.raises(StartFailed) as failure:
        supervisor.run_once("prepare", python(code))
    assert str(failure.value) == "move var/ away"


def test_add_server__returns_when_it_is_ready(supervisor: Supervisor, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    child = Child("redis", python(f"open({str(ready)!r}, 'w')\n{FOREVER}"))
    supervisor.add_server(child, ready.exists, "the server")
    assert ready.exists()
    assert child.is_server
    assert child.process is not None
    assert child.process.poll() is None


def test_add_server__that_says_in_one_line_why_it_ended_is_quoted(supervisor: Supervisor) -> None:
    """An exchange that can't read the state of an older version is started once, not five times."""
    line = "simulator: var/simulator.state: it is of an older version"
    with pytest.raises(StartFailed) as failure:
        supervisor.add_server(
            Child("simulator", python(f"raise SystemExit({line!r})")), lambda: False, "the exchange"
        )
    assert str(failure.value) == line


def test_add_server__that_ended_shows_its_last_words(supervisor: Supervisor) -> None:
    with pytest.raises(StartFailed, match=r"(?s)redis failed \(exit status 1\):\n.*ZeroDivision"):
        supervisor.add_server(Child("redis", python("1 / 0")), lambda: False, "the server")


def test_add_server__that_ends_while_it_is_asked_is_not_started_again(
    supervisor: Supervisor,
) -> None:
    child = Child("server", python("import sys; sys.exit('no')"))

    def is_ready() -> bool:
        assert child.process is not None
        child.process.wait(10)
        return False

    with pytest.raises(StartFailed, match="no"):
        supervisor.add_server(child, is_ready, "the server")
    assert not child.failures


def test_wait_for__names_what_is_not_ready(supervisor: Supervisor) -> None:
    with pytest.raises(StartFailed, match="the exchange did not get ready within 0 s"):
        supervisor.wait_for(lambda: False, "the exchange", within=0.3)


def test_stop__kills_the_whole_group_of_a_child_that_ignores_the_request(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "STOP_WITHIN", 0.3)
    pids = tmp_path / "pids"
    stubborn = (
        "import os, pathlib, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"grandchild = subprocess.Popen([sys.executable, '-c', {FOREVER!r}])\n"
        "pathlib.Path(sys.argv[1]).write_text(f'{os.getpid()} {grandchild.pid} ')\n"
        "time.sleep(600)"
    )
    supervisor.add(Child("worker", python(stubborn, str(pids))))
    wait_for(lambda: pids.exists() and pids.read_text().endswith(" "), what="both processes run")

    supervisor.stop()

    for pid in map(int, pids.read_text().split()):
        wait_for(lambda pid=pid: not is_running(pid), what=f"process {pid} is gone")  # type: ignore[misc]


def test_stop__ends_servers_last(supervisor: Supervisor, tmp_path: Path) -> None:
    order = tmp_path / "order"
    last_words = (
        "import signal, sys, time\n"
        "def end(*_):\n    open(sys.argv[1], 'a').write(sys.argv[2] + ' '); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\nprint('up', flush=True)\ntime.sleep(600)"
    )
    supervisor.add(Child("redis", python(last_words, str(order), "redis"), is_server=True))
    supervisor.add(Child("worker", python(last_words, str(order), "worker")))
    wait_for(
        lambda: all(
            "up" in embedded.tail(tmp_path / f"log/{name}.log") for name in ("redis", "worker")
        ),
        what="both run",
    )

    supervisor.stop()

    assert order.read_text() == "worker redis "


def test_stop__sends_each_child_its_own_signal(supervisor: Supervisor, tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    code = (
        "import pathlib, signal, sys, time\n"
        "def end(number, _):\n    pathlib.Path(sys.argv[1]).write_text(str(number)); sys.exit()\n"
        "for number in (signal.SIGINT, signal.SIGTERM):\n    signal.signal(number, end)\n"
        "print('up', flush=True)\ntime.sleep(600)"
    )
    database = Child("postgres", python(code, str(heard)), stop_signal=signal.SIGINT)
    log = tmp_path / "log/postgres.log"
    supervisor.add_server(database, lambda: "up" in embedded.tail(log), "the database")

    supervisor.stop()

    assert heard.read_text() == str(int(signal.SIGINT))


@pytest.mark.skipif(
    sys.platform != "linux", reason="the kernel of Linux tells children of their parent's death"
)
def test_supervisor__that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys, time\nfrom backoffice.local.supervisor import Child, Supervisor\n"
        f"child = Child('worker', [sys.executable, '-c', {FOREVER!r}])\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "Supervisor(os.environ, folder=folder, logs=folder).add(child)\n"
        "print(child.process.pid, flush=True)\ntime.sleep(600)"
    )
    parent = subprocess.Popen(python(program, str(tmp_path)), stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child_pid = int(parent.stdout.readline())
    assert is_running(child_pid)

    parent.send_signal(signal.SIGKILL)
    parent.wait()

    wait_for(lambda: not is_running(child_pid), what="the child is gone")
