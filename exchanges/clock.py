"""The one place that reads the time of day and waits, so that a simulation can replace both."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> datetime:
    """Our clock, aware UTC."""
    return datetime.now(UTC)


def now_ms() -> int:
    """Our clock, whole milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def monotonic() -> float:
    """Seconds that only grow; for ages and time-outs."""
    return time.monotonic()


def sleep(seconds: float) -> None:
    """Wait. Callers keep it short: no lock and no transaction is held meanwhile."""
    time.sleep(seconds)
