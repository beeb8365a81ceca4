"""Run real processes of the back office: workers, beat, the user-stream listener."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from django.db import connection

from backoffice.local import embedded
from tests.harness.forked import Forked
from tests.harness.waiting import wait_for

ROOT = Path(__file__).resolve().parent.parent.parent


def database_url() -> str:
    """Return the URL under which another process reaches this test's database."""
    settings = connection.settings_dict
    user, port, folder = (settings[name] for name in ("USER", "PORT", "HOST"))
    return f"postgres://{user}@:{port}/{folder}/{settings['NAME']}"


def web_argv(port: int) -> list[str]:
    """Return the arguments of Python that serve the back office as production does."""
    argv = ["-m", "uvicorn", "backoffice.asgi:application", "--host", embedded.HOST]
    return [*argv, "--lifespan", "off", "--timeout-graceful-shutdown", "1", "--port", str(port)]


class ChildProcess:
    """One of our programs in its own process group. `ready` is the log text that shows it runs.

    Unless it is `fresh`, it begins as a fork of a process that knows the libraries (`forked`).
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        ready: str,
        cwd: Path = ROOT,
        fresh: bool = True,
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.env = dict(env)
        self.log = log
        self.ready = ready
        self.cwd = cwd
        self.fresh = fresh
        self.process: Forked | subprocess.Popen[bytes] | None = None
        self._log_from = 0

    @property
    def running(self) -> Forked | subprocess.Popen[bytes]:
        assert self.process is not None, f"{self.name} was never started"
        return self.process

    @property
    def pid(self) -> int:
        return self.running.pid

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        assert not self.is_alive, f"{self.name} runs already"
        self._log_from = self.log.stat().st_size if self.log.exists() else 0
        # coverage.py measures only processes that begin as such.
        is_measured = "COVERAGE_PROCESS_CONFIG" in os.environ
        start = embedded.spawn if self.fresh or is_measured else Forked
        self.process = start(self.argv, log=self.log, env=self.env, cwd=self.cwd)
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self, *, timeout: float = 60.0) -> None:
        wait_for(self._is_ready, timeout=timeout, what=f"{self.name} is ready")

    def output(self) -> str:
        """Return the log since the last start."""
        return (
            self.log.read_bytes()[self._log_from :].decode(errors="replace")
            if self.log.exists()
            else ""
        )

    def kill(self) -> None:
        """Send SIGKILL, so nothing is cleaned up."""
        self._signal(signal.SIGKILL)
        self.running.wait()

    def pause(self) -> None:
        """Send SIGSTOP: the process freezes where it is and keeps its connections open."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self, *, patience: float = 10.0) -> None:
        """Send SIGTERM, and SIGKILL after `patience` seconds. Do nothing if it isn't running."""
        if self.process is not None:
            embedded.stop(self.process, patience=patience)

    def restart(self) -> None:
        self.stop()
        self.start()

    def _signal(self, signal_number: int) -> None:
        embedded.signal_group(self.running, signal_number)

    def _is_ready(self) -> bool:
        is_alive = self.is_alive
        if self.ready in self.output():
            return True
        if not is_alive:
            raise RuntimeError(
                f"{self.name} ended before it was ready:\n{embedded.tail(self.log, 40)}"
            )
        return False


class ProcessFactory:
    """Start the back office's processes on one test's servers, and stop them all."""

    def __init__(self, directory: Path, env: Mapping[str, str]) -> None:
        self.directory = directory
        self.env = dict(env)
        self.started: list[ChildProcess] = []

    def worker(
        self,
        name: str = "worker",
        *,
        queues: str = "",
        options: Sequence[str] = ("--pool", "threads", "--concurrency", "4"),
        env: Mapping[str, str] | None = None,
        wait: bool = True,
        fresh: bool = False,
    ) -> ChildProcess:
        """Start a Celery worker, for all queues unless `queues` names some."""
        argv = [
            "worker",
            "--hostname",
            f"{name}@%h",
            "--without-gossip",
            "--without-mingle",
            *options,
        ]
        argv += ["-Q", queues] if queues else []
        return self._start(name, argv, "ready.", env, wait, fresh=fresh)

    def beat(
        self, name: str = "beat", *, env: Mapping[str, str] | None = None, wait: bool = True
    ) -> ChildProcess:
        return self._start(name, ["beat"], "beat: Starting...", env, wait)

    def command(
        self,
        *argv: str,
        name: str = "",
        ready: str = "",
        env: Mapping[str, str] | None = None,
        wait: bool = True,
    ) -> ChildProcess:
        """Run `manage.py ARGV` in the background: `command("listen_user_stream", ready="…")`."""
        return self._run(name or argv[0], [sys.executable, "manage.py", *argv], ready, env, wait)

    def program(
        self, name: str, *argv: str, ready: str = "", env: Mapping[str, str] | None = None
    ) -> ChildProcess:
        """Run `python ARGV` in the background: `program("bot", "examples/orchestrator.py")`."""
        return self._run(name, [sys.executable, *argv], ready, env, True)

    def _start(
        self,
        name: str,
        celery_argv: Sequence[str],
        ready: str,
        env: Mapping[str, str] | None,
        wait: bool,
        *,
        fresh: bool = False,
    ) -> ChildProcess:
        celery = str(Path(sys.executable).with_name("celery"))
        argv = [celery, "-A", "backoffice", *celery_argv]
        return self._run(name, argv, ready, env, wait, fresh=fresh)

    def _run(
        self,
        name: str,
        argv: Sequence[str],
        ready: str,
        env: Mapping[str, str] | None,
        wait: bool,
        *,
        fresh: bool = False,
    ) -> ChildProcess:
        environment = os.environ | {"DATABASE_URL": database_url()} | self.env | dict(env or {})
        environment.pop("DJANGO_ALLOW_ASYNC_UNSAFE", None)  # for the browser in this process only
        log = self.directory / f"{name}.log"
        child = ChildProcess(name, argv, env=environment, log=log, ready=ready, fresh=fresh)
        self.started.append(child)
        child.start(wait=wait)
        return child

    def logs(self) -> dict[str, str]:
        """Return the tail of each process's log, for the report of a failed test."""
        return {child.name: embedded.tail(child.log, 60) for child in self.started}

    def stop_all(self) -> None:
        for child in self.started:
            if child.is_alive:
                embedded.signal_group(child.running, signal.SIGTERM)  # all at once,
        for child in self.started:
            child.stop()  # then wait for each
