"""Help the simulator's tests: wait, read a refusal, start a process."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import requests


def until(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Wait until the condition is true. Return False if it takes too long."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def refusal(response: requests.Response) -> tuple[int, int, str]:
    body = response.json()
    return response.status_code, body["code"], body["msg"]


def start_process(*options: str) -> subprocess.Popen[str]:
    argv = [
        sys.executable,
        "-m",
        "exchanges.simulator",
        "--api-key",
        "k",
        "--api-secret",
        "s",
        *options,
    ]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
