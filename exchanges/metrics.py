"""Counters of all processes together, in one Redis hash. Counting never raises, and it is no record.

While Redis is away counts are dropped, and it is left alone for `PAUSE_SECONDS`: a call to the exchange must not wait
for its statistics. A Redis that lost its data starts from zero, as a Prometheus counter may.
"""

from __future__ import annotations

import atexit
import json
import os
import threading
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING

from django.conf import settings

from exchanges import clock

if TYPE_CHECKING:
    from redis import Redis

KEY = "backoffice:counters"
TIMEOUT_SECONDS = 0.2
PAUSE_SECONDS = 5.0

Labels = tuple[tuple[str, str], ...]

_paused_until = 0.0


def count(name: str, **labels: str) -> None:
    """Add one to the counter of this name and these labels."""
    global _paused_until
    if clock.monotonic() < _paused_until:
        return
    try:
        _redis(settings.REDIS_URL).hincrby(KEY, counter(name, **labels), 1)
    except Exception:  # noqa: BLE001  statistics may not disturb what they count
        _paused_until = clock.monotonic() + PAUSE_SECONDS


FLUSH_SECONDS = 0.5

_pending: Counter[str] = Counter()
_pending_lock = threading.Lock()
_is_flush_due = False


def count_soon(field: str) -> None:
    """Add one to a counter (`counter`), together with all others of this half second."""
    global _is_flush_due
    with _pending_lock:
        _pending[field] += 1
        if _is_flush_due:
            return
        _is_flush_due = True
    timer = threading.Timer(FLUSH_SECONDS, flush)
    timer.daemon = True
    timer.start()


@atexit.register
def flush() -> None:
    """Write what `count_soon` holds back."""
    global _is_flush_due, _paused_until
    with _pending_lock:
        counts = dict(_pending)
        _pending.clear()
        _is_flush_due = False
    if not counts or clock.monotonic() < _paused_until:
        return
    try:
        pipeline = _redis(settings.REDIS_URL).pipeline(transaction=False)
        for field, number in counts.items():
            pipeline.hincrby(KEY, field, number)
        pipeline.execute()
    except Exception:  # noqa: BLE001  as above
        _paused_until = clock.monotonic() + PAUSE_SECONDS


def _forget_pending() -> None:
    """In a forked child: what its parent counted, its parent writes; and the timer is not here."""
    global _is_flush_due, _pending_lock
    _pending_lock = threading.Lock()
    _pending.clear()
    _is_flush_due = False


os.register_at_fork(after_in_child=_forget_pending)


def read_counters() -> dict[tuple[str, Labels], int]:
    """Every counter: (name, sorted labels) -> count. Empty while Redis is away."""
    flush()
    try:
        stored = _redis(settings.REDIS_URL).hgetall(KEY)
        return {_parsed(str(field)): int(value) for field, value in stored.items()}
    except Exception:  # noqa: BLE001  as above
        return {}


def counter(name: str, **labels: str) -> str:
    """The counter's field in the hash `KEY`, for a script that counts on its way."""
    return json.dumps([name, sorted(labels.items())], separators=(",", ":"))


def _parsed(field: str) -> tuple[str, Labels]:
    name, labels = json.loads(field)
    return name, tuple((label, value) for label, value in labels)


@lru_cache(maxsize=4)
def _redis(url: str) -> Redis:
    # Imported on first use: it costs 0.1 s. The pool is safe across threads and forks.
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
