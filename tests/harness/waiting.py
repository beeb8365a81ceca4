"""Wait for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(
    condition: Callable[[], T], *, timeout: float = 20.0, every: float = 0.02, what: str = ""
) -> T:
    """Return the first true value of `condition()`.

    Raise TimeoutError with `what` (or the condition) and the last value.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"not within {timeout} s: {what or condition.__qualname__}; last value: {value!r}"
            )
        time.sleep(every)
