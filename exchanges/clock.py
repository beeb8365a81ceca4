"""Read the time of day and wait, in one place, so that a simulation can replace both."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> datetime:
    """Return our time, aware UTC."""
    return datetime.now(UTC)


def now_ms() -> int:
    """Return our time in whole milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def monotonic() -> float:
    """Return seconds that only grow, for ages and timeouts."""
    return time.monotonic()


def sleep(seconds: float) -> None:
    """Wait. Callers keep it short, and hold no lock and no transaction."""
    time.sleep(seconds)
