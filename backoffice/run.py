"""The whole back office in the foreground on embedded parts: what `make run` starts.

One supervisor, one list of children, each in a process group of its own with its log in `var/log/`. A child that ends
is named and started again with a growing pause; one that keeps ending ends the stack with exit status 1. SIGINT or
SIGTERM stops everything; on Linux nothing outlives even a killed supervisor.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import environ

from backoffice import demo
from backoffice.embedded import (
    HOST,
    RedisServer,
    StartFailed,
    free_port,
    port_is_taken,
    redis_answers,
    signal_group,
    spawn,
    tail,
)

ROOT = Path(__file__).resolve().parent.parent
VAR = ROOT / "var"
LOGS = VAR / "log"
#: Addresses and keys of the running stack, read by settings.py so that `manage.py` in another terminal finds it.
RUN_ENV = VAR / "run.env"

#: Threads share one process's memory and exchange connections; measured as fast as prefork at a third of the memory.
WORKER_OPTIONS = ("--pool", "threads", "--concurrency", "8", "--without-gossip", "--without-mingle")

LONGEST_PAUSE = 30.0
FAILURES_TO_GIVE_UP = 5  # within
FAILURE_WINDOW = 120.0
READY_WITHIN = 120.0
STOP_WITHIN = 5.0  # the back office; then 2 s for the servers below it


@dataclass
class Child:
    """A program to keep running. A `server` is what the others stand on: it starts first and stops last."""

    name: str
    argv: list[str]
    is_server: bool = False
    process: subprocess.Popen[bytes] | None = None
    failures: deque[float] = field(default_factory=deque)
    start_at: float = 0.0
    log_from: int = 0  # where in the log its present run begins

    @property
    def log(self) -> Path:
        return LOGS / f"{self.name}.log"


class Stopped(Exception):
    """Somebody asked us to stop."""


class Supervisor:
    """Starts children, restarts the ones that end, stops them all."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = dict(env)
        self.children: list[Child] = []
        self.stop_requests = 0

    def request_stop(self, _signal_number: int, _frame: object) -> None:
        self.stop_requests += 1

    def add(self, child: Child) -> None:
        self.children.append(child)
        self._start(child)

    def run_once(self, name: str, argv: list[str]) -> None:
        """Run a program to its end. StartFailed, with its last words, if it fails."""
        log = LOGS / f"{name}.log"
        process = spawn(argv, log=log, env=self.env, cwd=ROOT, death_signal=signal.SIGKILL)
        try:
            self.wait_for(lambda: process.poll() is not None, name)
        finally:
            signal_group(process, signal.SIGKILL)
        if process.returncode:
            raise StartFailed(f"{name} failed (exit status {process.returncode}):\n{tail(log)}")

    def wait_for(self, condition: Callable[[], bool], what: str, *, within: float = READY_WITHIN) -> None:
        """Watch over the children until the condition holds."""
        deadline = time.monotonic() + within
        while not condition():
            self.watch()
            if time.monotonic() > deadline:
                raise StartFailed(f"{what} did not get ready within {within:.0f} s")
            time.sleep(0.1)

    def watch(self) -> None:
        """One round: Stopped if we were asked to, StartFailed if a child cannot be kept running."""
        if self.stop_requests:
            raise Stopped
        now = time.monotonic()
        for child in self.children:
            if child.process is None:
                if now >= child.start_at:
                    self._start(child)
            elif child.process.poll() is not None:
                self._note_failure(child, now)

    def _start(self, child: Child) -> None:
        death_signal = signal.SIGTERM if child.is_server else signal.SIGKILL  # servers save their data
        child.log_from = child.log.stat().st_size if child.log.exists() else 0
        child.process = spawn(child.argv, log=child.log, env=self.env, cwd=ROOT, death_signal=death_signal)

    def _note_failure(self, child: Child, now: float) -> None:
        assert child.process is not None
        signal_group(child.process, signal.SIGKILL)
        story = f"{child.name} ended (exit status {child.process.returncode}); the end of {_short(child.log)}:"
        story += f"\n{_indent(tail(child.log, start=child.log_from))}"
        child.process = None
        child.failures.append(now)
        while child.failures[0] < now - FAILURE_WINDOW:
            child.failures.popleft()
        if len(child.failures) >= FAILURES_TO_GIVE_UP:
            raise StartFailed(f"{story}\n{child.name} ended {len(child.failures)} times: giving up")
        pause = min(LONGEST_PAUSE, 2.0 ** (len(child.failures) - 1))
        child.start_at = now + pause
        say(f"{story}\nStarting {child.name} again in {pause:.0f} s.")

    def stop(self) -> None:
        """First the back office, all at once, then the servers it stands on. Whoever dawdles is killed."""
        self._stop([child for child in self.children if not child.is_server], STOP_WITHIN)
        self._stop([child for child in self.children if child.is_server], 2.0)

    def _stop(self, children: list[Child], patience: float) -> None:
        running = [child.process for child in children if child.process is not None]
        for process in running:
            signal_group(process, signal.SIGTERM)
        deadline = time.monotonic() + patience
        asked = self.stop_requests
        while any(process.poll() is None for process in running) and time.monotonic() < deadline:
            if self.stop_requests > asked:  # an impatient second Ctrl-C
                break
            time.sleep(0.05)
        for process in running:
            signal_group(process, signal.SIGKILL)
            process.wait()


# -- The stack -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Addresses:
    web: int
    simulator: int
    redis_url: str
    owns_redis: bool

    @property
    def web_url(self) -> str:
        return f"http://{HOST}:{self.web}"

    @property
    def simulator_url(self) -> str:
        return f"http://{HOST}:{self.simulator}"


def read_addresses(env: Mapping[str, str]) -> Addresses:
    """Where everything listens. StartFailed names the variable that must change."""
    web, simulator = _port(env, "PORT", 8000), _port(env, "SIMULATOR_PORT", 9080)
    if web == simulator:
        raise StartFailed(f"PORT and SIMULATOR_PORT are both {web}: set one of them to another port")
    for name, port in (("PORT", web), ("SIMULATOR_PORT", simulator)):
        if port_is_taken(port):
            raise StartFailed(
                f"port {port} is taken by another program: choose another with {name}, say"
                f" `make run {name}={free_port()}`"
            )
    redis_url = env.get("REDIS_URL", "")
    if not redis_url:
        return Addresses(web, simulator, f"redis://{HOST}:{free_port()}/0", owns_redis=True)
    parts = urllib.parse.urlsplit(redis_url)
    if not redis_answers(parts.hostname or "localhost", parts.port or 6379):
        raise StartFailed(
            f"REDIS_URL names {parts.hostname}:{parts.port or 6379}, where no Redis answers: start it,"
            " or unset REDIS_URL to use an embedded one"
        )
    return Addresses(web, simulator, redis_url, owns_redis=False)


def _port(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise StartFailed(f"{name} must be a port number from 1 to 65535, not {text!r}")
    return int(text)


def stack_env(addresses: Addresses) -> dict[str, str]:
    """What the children, and `manage.py` in another terminal, need to find each other."""
    return {"REDIS_URL": addresses.redis_url, **demo.exchange_variables(addresses.simulator_url)}


def start(supervisor: Supervisor, addresses: Addresses) -> None:
    """Everything in its order; returns when the back office says that it is ready."""
    python, manage = sys.executable, [sys.executable, "manage.py"]
    celery = [python, "-m", "celery", "-A", "backoffice"]
    if addresses.owns_redis:
        redis = RedisServer(VAR / "redis", port=urllib.parse.urlsplit(addresses.redis_url).port or 0, keep_data=True)
        redis.directory.mkdir(parents=True, exist_ok=True)
        supervisor.add(Child("redis", redis.argv(), is_server=True))
        supervisor.wait_for(lambda: redis_answers(HOST, redis.port), "the Redis-compatible server")
    supervisor.add(Child("simulator", demo.simulator_argv(addresses.simulator, VAR), is_server=True))
    supervisor.run_once("migrate", [*manage, "migrate", "--noinput"])
    supervisor.wait_for(lambda: _answers(f"{addresses.simulator_url}/api/v3/ping"), "the exchange simulator")
    supervisor.run_once("seed", [python, "-m", "backoffice.demo"])
    uvicorn = [python, "-m", "uvicorn", "backoffice.asgi:application", "--host", HOST, "--port", str(addresses.web)]
    supervisor.add(Child("worker", [*celery, "worker", *WORKER_OPTIONS]))
    supervisor.add(Child("web", [*uvicorn, "--timeout-graceful-shutdown", "2", "--no-access-log"]))
    supervisor.add(Child("beat", [*celery, "beat"]))
    supervisor.add(Child("listener", [*manage, "listen_user_stream"]))
    supervisor.wait_for(lambda: _answers(f"{addresses.web_url}/readyz"), f"{addresses.web_url}/readyz")
    supervisor.add(Child("orchestrator", [python, "examples/orchestrator.py"]))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310  (our own http address)  # nosec B310
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def welcome(addresses: Addresses, seconds: float) -> str:
    logins = "\n".join(f"    {login.name:<8} {login.password:<16} {login.may}" for login in demo.read_logins(VAR))
    return f"""
The back office is ready ({seconds:.0f} s).

  Admin      {addresses.web_url}/admin/
{logins}
  Exchange   {addresses.simulator_url} (simulator; it keeps its orders in var/)
  Health     {addresses.web_url}/readyz, {addresses.web_url}/metrics
  Logs       {_short(LOGS)}/
  Orders     a demo bot sends some; send more from another terminal:
             .venv/bin/python manage.py send_orders examples/orders.csv --account {demo.ACCOUNT} --wait

Ctrl-C stops everything. The data stays in var/; `make run` continues with it.
"""


# -- The command ---------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    print(text, flush=True)


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _lock() -> TextIO:
    """Hold `var/run.lock`; two stacks on the same data would take each other's Redis and simulator for their own."""
    lock = (VAR / "run.lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StartFailed(
            "`make run` is running already in this folder: stop it first (Ctrl-C in its terminal)"
        ) from None
    return lock


def _keep_previous_logs() -> None:
    LOGS.mkdir(parents=True, exist_ok=True)
    for log in LOGS.glob("*.log"):
        log.replace(log.with_suffix(".log.1"))


def _write_run_env(variables: Mapping[str, str]) -> None:
    RUN_ENV.touch(mode=0o600)
    RUN_ENV.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))


def main() -> int:
    VAR.mkdir(exist_ok=True)
    started_at = time.monotonic()
    if (ROOT / ".env").exists():
        environ.Env.read_env(str(ROOT / ".env"))
    try:
        with _lock():
            RUN_ENV.unlink(missing_ok=True)  # left by a killed run: nothing of it is true any more
            addresses = read_addresses(os.environ)
            variables = stack_env(addresses)
            return _run(addresses, variables, started_at)
    except StartFailed as error:
        say(f"make run: {error}")
        return 1


def _run(addresses: Addresses, variables: Mapping[str, str], started_at: float) -> int:
    supervisor = Supervisor(os.environ | {"LOG_JSON": "off"} | dict(variables))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, supervisor.request_stop)
    _keep_previous_logs()
    _write_run_env(variables)
    say("Starting the back office ...")
    try:
        start(supervisor, addresses)
        say(welcome(addresses, time.monotonic() - started_at))
        while True:
            supervisor.watch()
            time.sleep(0.2)
    except Stopped:
        say("\nStopping ...")
        return 0
    finally:
        supervisor.stop()
        RUN_ENV.unlink(missing_ok=True)
        say("Stopped.")


if __name__ == "__main__":
    sys.exit(main())
