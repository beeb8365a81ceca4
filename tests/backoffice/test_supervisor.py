"""The supervisor behind `make run`, with small children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backoffice import embedded
from backoffice import supervisor as supervision
from backoffice.embedded import StartFailed
from backoffice.supervisor import Child, Supervisor
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
    """Whether the process exists and is no zombie that nobody has collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_watch__starts_an_ended_child_again_and_names_it(
    supervisor: Supervisor, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "LONGEST_PAUSE", 0.0)
    marker = tmp_path / "ran"
    dies_once = "import pathlib, sys, time; m = pathlib.Path(sys.argv[1]); first = not m.exists(); m.touch()\n"
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


def test_watch__gives_up_on_a_child_that_keeps_ending(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "LONGEST_PAUSE", 0.0)
    supervisor.add(Child("beat", python("raise SystemExit('no schedule')")))
    with pytest.raises(StartFailed, match=r"(?s)beat ended \(exit status 1\).*no schedule.*5 times: giving up"):
        supervisor.wait_for(lambda: False, "never")


def test_run_once__shows_why_a_step_failed(supervisor: Supervisor) -> None:
    with pytest.raises(StartFailed, match=r"(?s)migrate failed \(exit status 1\).*no such table"):
        supervisor.run_once("migrate", python("raise SystemExit('no such table')"))


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
        lambda: all("up" in embedded.tail(tmp_path / f"log/{name}.log") for name in ("redis", "worker")),
        what="both run",
    )

    supervisor.stop()

    assert order.read_text() == "worker redis "


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux tells children of their parent's death")
def test_supervisor__that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys, time\nfrom backoffice.supervisor import Child, Supervisor\n"
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
