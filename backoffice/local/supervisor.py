"""Keep a list of programs running in the foreground, and stop them all."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backoffice.local.embedded import REFUSED, StartFailed, signal_group, spawn, tail

LONGEST_PAUSE = 30.0
FAILURES_TO_GIVE_UP = 5  # within
FAILURE_WINDOW = 120.0
READY_WITHIN = 120.0
STOP_WITHIN = 5.0  # and
SERVERS_STOP_WITHIN = 4.0


class Stopped(Exception):
    """A signal asked us to stop."""


@dataclass
class Child:
    """A program to keep running. The others need a server, so it is stopped last."""

    name: str
    argv: list[str]
    is_server: bool = False
    is_starting: bool = False  # a server that ends now is not started again: its starter sees it
    user: str | None = None  # None: our own
    stop_signal: int = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = None
    failures: deque[float] = field(default_factory=deque)
    start_at: float = 0.0
    log_from: int = 0  # where in the log its present run begins


class Supervisor:
    """Start children, each with a log in `logs`.

    A child that ends is named and started again after a growing pause.
    """

    def __init__(self, env: Mapping[str, str], *, folder: Path, logs: Path) -> None:
        self.env = dict(env)
        self.folder = folder
        self.logs = logs
        self.children: list[Child] = []
        self.stop_requests = 0

    def obey_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.request_stop)

    def request_stop(self, _signal_number: int, _frame: object) -> None:
        self.stop_requests += 1

    def add(self, child: Child) -> None:
        self.children.append(child)
        self._start(child)

    def add_server(self, child: Child, is_ready: Callable[[], bool], what: str) -> None:
        """Start a server and wait until it's ready.

        Raise StartFailed, with its last words, if it ends before.
        """
        child.is_server = child.is_starting = True
        self.add(child)

        def ready_or_gone() -> bool:
            assert child.process is not None
            if child.process.poll() is None:
                return is_ready()
            words = tail(self._log(child.name), start=child.log_from)
            if "\n" not in words:
                raise StartFailed(words)
            raise StartFailed(self._last_words(child.name, child.process, child.log_from))

        self.wait_for(ready_or_gone, what)
        child.is_starting = False

    def run_once(self, name: str, argv: list[str]) -> None:
        """Run a program to its end. Raise StartFailed, with its last words, if it fails."""
        log = self._log(name)
        log_from = _size(log)
        process = spawn(argv, log=log, env=self.env, cwd=self.folder, death_signal=signal.SIGKILL)
        try:
            self.wait_for(lambda: process.poll() is not None, name)
        finally:
            signal_group(process, signal.SIGKILL)
        if process.returncode:
            raise StartFailed(self._last_words(name, process, log_from))

    def wait_for(
        self, condition: Callable[[], bool], what: str, *, within: float = READY_WITHIN
    ) -> None:
        """Watch over the children until the condition holds. Raise StartFailed if it's late."""
        deadline = time.monotonic() + within
        while not condition():
            self.watch()
            if time.monotonic() > deadline:
                raise StartFailed(f"{what} did not get ready within {within:.0f} s")
            time.sleep(0.1)

    def watch(self) -> None:
        """Look at each child once and start the ended ones again.

        Raise Stopped after a signal, and StartFailed if a child keeps ending.
        """
        if self.stop_requests:
            raise Stopped
        now = time.monotonic()
        for child in self.children:
            if child.process is None:
                if now >= child.start_at:
                    self._start(child)
            elif child.process.poll() is not None and not child.is_starting:
                self._note_failure(child, now)

    def stop(self) -> None:
        """Stop the programs all at once, then the servers. Kill those that are late."""
        self._stop([child for child in self.children if not child.is_server], STOP_WITHIN)
        self._stop([child for child in self.children if child.is_server], SERVERS_STOP_WITHIN)

    def _last_words(self, name: str, process: subprocess.Popen[bytes], log_from: int) -> str:
        """Return why a program ended: its own sentence if it refused, else the end of its log."""
        log = self._log(name)
        if process.returncode == REFUSED:
            return tail(log, 1, start=log_from)
        return f"{name} failed (exit status {process.returncode}):\n{tail(log, start=log_from)}"

    def _log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def _start(self, child: Child) -> None:
        log = self._log(child.name)
        child.log_from = _size(log)
        child.process = spawn(
            child.argv,
            log=log,
            env=self.env,
            cwd=self.folder,
            user=child.user,
            # Servers save their data.
            death_signal=child.stop_signal if child.is_server else signal.SIGKILL,
        )

    def _note_failure(self, child: Child, now: float) -> None:
        assert child.process is not None
        signal_group(child.process, signal.SIGKILL)
        log = self._log(child.name)
        end = "\n".join(f"    {line}" for line in tail(log, start=child.log_from).splitlines())
        shown = os.path.relpath(log, self.folder)
        status = child.process.returncode
        story = f"{child.name} ended (exit status {status}); the end of {shown}:\n{end}"
        child.process = None
        child.failures.append(now)
        while child.failures[0] < now - FAILURE_WINDOW:
            child.failures.popleft()
        if len(child.failures) >= FAILURES_TO_GIVE_UP:
            raise StartFailed(f"{story}\n{child.name} ended {len(child.failures)} times: giving up")
        pause = min(LONGEST_PAUSE, 2.0 ** (len(child.failures) - 1))
        child.start_at = now + pause
        print(f"{story}\nStarting {child.name} again in {pause:.0f} s.", flush=True)

    def _stop(self, children: list[Child], patience: float) -> None:
        running = [child.process for child in children if child.process is not None]
        for child in children:
            if child.process is not None:
                signal_group(child.process, child.stop_signal)
        deadline = time.monotonic() + patience
        asked = self.stop_requests
        while any(process.poll() is None for process in running) and time.monotonic() < deadline:
            if self.stop_requests > asked:  # an impatient second Ctrl-C
                break
            time.sleep(0.05)
        for process in running:
            signal_group(process, signal.SIGKILL)
            process.wait()


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0
