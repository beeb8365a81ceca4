"""Keep the exchange's time: the machine's clock plus an offset, to rehearse a skewed exchange."""

from __future__ import annotations

import time


class ServerClock:
    """Return times in microseconds or milliseconds since the epoch.

    `offset_us` moves the time of the exchange and leaves the machine's clock alone.
    """

    __slots__ = ("offset_us",)

    def __init__(self) -> None:
        self.offset_us = 0

    def now_us(self) -> int:
        return time.time_ns() // 1000 + self.offset_us

    def now_ms(self) -> int:
        return self.now_us() // 1000
