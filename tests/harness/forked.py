"""Start our programs as children of a process that has imported their libraries already.

Importing Django, Celery and ccxt takes a process a second of CPU, and the suite starts hundreds of
processes. So one process imports the libraries, none of our own modules and no settings, and each
program begins as a fork of it: with its own environment, folder, log, session and process group.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

from backoffice.local.embedded import die_with_parent

LIBRARIES = (
    "tests.harness.forked",
    "django.core.management",
    "django.db.backends.postgresql.base",
    "django.db.models",
    "django.forms",
    "celery.bin.celery",
    "celery.worker.consumer",
    "celery.concurrency.thread",
    "celery.concurrency.prefork",
    "kombu.transport.redis",
    "ccxt",
    "webauthn",
    "uvicorn",
    "requests",
    "structlog",
    "orjson",
)


class Forked:
    """One program, with the part of `subprocess.Popen` that the suite uses."""

    def __init__(
        self, argv: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.args = list(argv)
        self._process = _context().Process(
            target=_run, args=(self.args, str(log), dict(env), str(cwd))
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status. Raise `subprocess.TimeoutExpired` if it still runs."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


@cache
def _context() -> ForkServerContext:
    context = get_context("forkserver")
    context.set_forkserver_preload(list(LIBRARIES))
    return context


def _run(argv: Sequence[str], log: str, env: Mapping[str, str], cwd: str) -> None:
    """Become the program, in the child."""
    os.setsid()
    die_with_parent(signal.SIGTERM, parent=os.getppid())()
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for target, source in ((0, nothing), (1, output), (2, output)):
        os.dup2(source, target)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    program, *arguments = argv
    if program == sys.executable and arguments[0] == "-m":
        sys.argv, sys.path[0] = arguments[1:], cwd
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif program == sys.executable and arguments[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *arguments[2:]], cwd
        exec(arguments[1], {"__name__": "__main__"})
    elif program == sys.executable:
        sys.argv, sys.path[0] = arguments, str(Path(cwd, arguments[0]).parent)
        runpy.run_path(arguments[0], run_name="__main__")
    else:
        sys.argv, sys.path[0] = list(argv), str(Path(program).parent)
        runpy.run_module(Path(program).name, run_name="__main__", alter_sys=True)
