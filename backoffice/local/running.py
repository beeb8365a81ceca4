"""Find the `make run` that is running in this folder.

A running demo holds a lock on `var/run.lock` and has written its addresses and keys to
`var/run.env`. So `manage.py` in another terminal finds the demo, and ignores the file that a killed
demo has left.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

_LOOK_SECONDS = 1.0  # settings that look for a demo hold the lock for a moment


def env_files(root: Path) -> list[Path]:
    """Return the files to read variables from, the one that wins first.

    While a demo runs, its own file comes before `.env`, so a second terminal talks to the demo.
    Otherwise `.env` stands alone.
    """
    files = [run_env(root / "var")] if is_running(root / "var") else []
    return [file for file in (*files, root / ".env") if file.is_file()]


def run_env(var: Path) -> Path:
    """Return the file with the addresses and keys of the running demo."""
    return var / "run.env"


def is_running(var: Path) -> bool:
    """Return whether a demo runs on the data in `var`."""
    try:
        with (var / "run.lock").open() as lock:
            return not _take(lock, fcntl.LOCK_SH)
    except OSError:
        return False


def hold(var: Path) -> TextIO | None:
    """Take the lock until the file is closed. Return None if another demo has it.

    Two demos on the same data would take each other's database and simulator for their own.
    """
    lock = (var / "run.lock").open("a")
    deadline = time.monotonic() + _LOOK_SECONDS
    while not _take(lock, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            lock.close()
            return None
        time.sleep(0.05)
    return lock


def write_run_env(var: Path, variables: Mapping[str, str]) -> None:
    """Store the addresses and keys of this demo for the second terminal."""
    file = run_env(var)
    file.touch(mode=0o600)
    file.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))


def _take(lock: TextIO, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
