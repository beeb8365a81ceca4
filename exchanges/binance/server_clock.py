"""Know the exchange's time of day: our clock plus a measured offset.

There is one `ServerClock` per REST host, shared by all threads of a process. The offset is measured
before its first use, when it is older than `MAX_AGE_SECONDS`, and when our clock was set or the
machine slept in between: then the time of day and the monotonic clock have drifted apart.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from exchanges import clock
from exchanges.errors import AccountError, GatewayError, NotSent

MAX_AGE_SECONDS = 60.0
USABLE_AGE_SECONDS = 600.0  # if it can't be measured again: crystals drift less than 50 ms by then
MAX_STEP_MS = 50
READINGS = 5


@dataclass(frozen=True, slots=True)
class _Clocks:
    wall_ms: int
    monotonic: float

    @property
    def wall_minus_monotonic_ms(self) -> float:
        return self.wall_ms - self.monotonic * 1000


@dataclass(frozen=True, slots=True)
class _Sample:
    offset_ms: int
    taken_at: float  # monotonic
    wall_minus_monotonic_ms: float

    @property
    def age(self) -> float:
        return clock.monotonic() - self.taken_at

    @property
    def clock_was_set(self) -> bool:
        return (
            abs(_read_clocks().wall_minus_monotonic_ms - self.wall_minus_monotonic_ms) > MAX_STEP_MS
        )


class ServerClock:
    """The clock of one exchange, safe to share among threads."""

    def __init__(self) -> None:
        self._sample: _Sample | None = None
        self._measuring = threading.Lock()

    def now_ms(self, ask: Callable[[], int]) -> int:
        """Return the exchange's time now. `ask` returns it in milliseconds.

        Raise `NotSent` if no offset is usable and `ask` fails.
        """
        sample = self._sample
        usable = (
            sample is not None and not sample.clock_was_set and sample.age <= USABLE_AGE_SECONDS
        )
        if sample is None or not usable or sample.age > MAX_AGE_SECONDS:
            sample = self._refreshed(ask, fallback=sample if usable else None)
        return clock.now_ms() + sample.offset_ms

    def measure(self, ask: Callable[[], int]) -> int:
        """Ask now, keep the offset, and return the exchange's own answer in milliseconds."""
        before = _read_clocks()
        server_ms = ask()
        after = _read_clocks()
        step_ms = after.wall_minus_monotonic_ms - before.wall_minus_monotonic_ms
        if abs(step_ms) <= MAX_STEP_MS:  # else our clock was set in between
            middle_ms = (before.wall_ms + after.wall_ms) // 2
            self._sample = _Sample(
                server_ms - middle_ms, after.monotonic, after.wall_minus_monotonic_ms
            )
        return server_ms

    def forget(self) -> None:
        """Measure before the next use, because the exchange refused our time."""
        self._sample = None

    def _refreshed(self, ask: Callable[[], int], *, fallback: _Sample | None) -> _Sample:
        # One thread measures. The others wait for it only if they have no usable offset.
        acquired = self._measuring.acquire(blocking=fallback is None)
        if not acquired and fallback is not None:
            return fallback
        try:
            return self._measured(ask, fallback)
        finally:
            self._measuring.release()

    def _measured(self, ask: Callable[[], int], fallback: _Sample | None) -> _Sample:
        known = self._sample
        if known is not None and known.age <= MAX_AGE_SECONDS and not known.clock_was_set:
            return known  # another thread was faster
        try:
            self.measure(ask)
        except GatewayError as error:
            if fallback is not None:
                return fallback
            if isinstance(error, NotSent | AccountError):
                raise
            # The request that needs the time has not been sent.
            raise NotSent(
                f"the exchange's clock can't be read: {error.message}",
                code=error.code,
                http_status=error.http_status,
            ) from None
        sample = self._sample
        if sample is None or sample.clock_was_set:
            raise NotSent("our clock is being set: the exchange's time is unknown")
        return sample


def _read_clocks() -> _Clocks:
    """Read both clocks at one moment.

    A pause between the two readings would look like a step: then read them again.
    """
    for _ in range(READINGS):
        before, wall_ms, after = clock.monotonic(), clock.now_ms(), clock.monotonic()
        if (after - before) * 1000 < MAX_STEP_MS / 10:
            break
    return _Clocks(wall_ms, after)


_clocks: dict[str, ServerClock] = {}


def clock_of(rest_url: str) -> ServerClock:
    """Return the clock of this host, which all threads of the process share."""
    return _clocks.setdefault(rest_url, ServerClock())


# A thread of the parent may have held a clock's lock.
os.register_at_fork(after_in_child=_clocks.clear)
