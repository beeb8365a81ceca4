"""The exchange's clock: the machine's, shifted by a settable offset so that a skewed exchange can be rehearsed."""

from __future__ import annotations

import time


class ServerClock:
    """Microseconds since the epoch. `offset_us` moves the exchange's time, not the machine's."""

    __slots__ = ("offset_us",)

    def __init__(self) -> None:
        self.offset_us = 0

    def now_us(self) -> int:
        return time.time_ns() // 1000 + self.offset_us

    def now_ms(self) -> int:
        return self.now_us() // 1000
