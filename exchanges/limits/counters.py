"""Count things for all processes together, in one Redis hash. Counting never raises.

Counts are dropped while Redis is away, and Redis is left alone for `PAUSE_SECONDS`: a call to the
exchange must not wait for its statistics. A Redis that lost its data starts from zero, as a
Prometheus counter may.
"""

from __future__ import annotations

import atexit
import json
import os
import threading
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache

from exchanges import clock
from exchanges.limits.redis import client

KEY = "backoffice:counters"
PAUSE_SECONDS = 5.0

Labels = tuple[tuple[str, str], ...]

_paused_until = 0.0


def count(name: str, **labels: str) -> None:
    """Add one to the counter with this name and these labels."""
    global _paused_until
    if clock.monotonic() < _paused_until:
        return
    try:
        client().hincrby(KEY, counter(name, **labels), 1)
    except Exception:  # noqa: BLE001  statistics must not disturb the work that they count
        _paused_until = clock.monotonic() + PAUSE_SECONDS


FLUSH_SECONDS = 0.5

_pending: Counter[str] = Counter()
_pending_lock = threading.Lock()
_is_flush_due = False


def count_soon(field: str) -> None:
    """Add one to the counter in this field (see `counter`), together with all others of 0.5 s."""
    _add_soon({field: 1})


def _add_soon(amounts: Mapping[str, int]) -> None:
    global _is_flush_due
    with _pending_lock:
        _pending.update(amounts)
        if _is_flush_due:
            return
        _is_flush_due = True
    timer = threading.Timer(FLUSH_SECONDS, flush)
    timer.daemon = True
    timer.start()


# Upper edges of a histogram's buckets, in seconds, and Prometheus's text of each.
EDGES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BEYOND = "+Inf"
SUM_SUFFIX = "_sum_us"


def observe(name: str, seconds: float, *, stage: str) -> None:
    """Add an observation to the histogram of this name and stage, with others of 0.5 s.

    Stored are one counter for each bucket (not cumulative), and the sum in microseconds.
    """
    bucket = next((repr(edge) for edge in EDGES if seconds <= edge), BEYOND)
    _add_soon(
        {
            _stage_counter(name, stage, bucket): 1,
            _stage_counter(name + SUM_SUFFIX, stage, ""): round(seconds * 1e6),
        }
    )


@lru_cache(maxsize=512)
def _stage_counter(name: str, stage: str, bucket: str) -> str:
    labels = {"stage": str(stage)} | ({"le": bucket} if bucket else {})
    return counter(name, **labels)


@atexit.register
def flush() -> None:
    """Write the counts that `count_soon` has collected."""
    global _is_flush_due, _paused_until
    with _pending_lock:
        counts = dict(_pending)
        _pending.clear()
        _is_flush_due = False
    if not counts or clock.monotonic() < _paused_until:
        return
    try:
        pipeline = client().pipeline(transaction=False)
        for field, number in counts.items():
            pipeline.hincrby(KEY, field, number)
        pipeline.execute()
    except Exception:  # noqa: BLE001  as above
        _paused_until = clock.monotonic() + PAUSE_SECONDS


def _forget_pending() -> None:
    """Drop the parent's counts in a forked child: the parent writes them, and has the timer."""
    global _is_flush_due, _pending_lock
    _pending_lock = threading.Lock()
    _pending.clear()
    _is_flush_due = False


os.register_at_fork(after_in_child=_forget_pending)


def read_counters() -> dict[tuple[str, Labels], int]:
    """Return every counter as (name, sorted labels) -> count. Empty while Redis is away."""
    flush()
    try:
        stored = client().hgetall(KEY)
        return {_parse(str(field)): int(value) for field, value in stored.items()}
    except Exception:  # noqa: BLE001  as above
        return {}


def counter(name: str, **labels: str) -> str:
    """Return the counter's field in the hash `KEY`, for a script that counts as it runs."""
    return json.dumps([name, sorted(labels.items())], separators=(",", ":"))


def _parse(field: str) -> tuple[str, Labels]:
    name, labels = json.loads(field)
    return name, tuple((label, value) for label, value in labels)
