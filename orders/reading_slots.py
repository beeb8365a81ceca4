"""Let readings use most threads of a worker, and leave the others to its short duties.

A reading waits for the exchange. If readings took every thread of `duties`, the halt rules and the
notices would wait behind them. A prefork child has one thread, so there the number of children
decides.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

# A message that finds no free slot goes to the end of its queue. This wait bounds how often.
WAIT_SECONDS = 0.02


class ReadingSlots:
    """Count the readings of a process. Without a limit, every reading has a slot."""

    def __init__(self) -> None:
        self._free: threading.BoundedSemaphore | None = None

    def share(self, threads: int | None) -> None:
        """Give readings three of four threads, and at least one."""
        self._free = (
            None if threads is None else threading.BoundedSemaphore(max(1, threads * 3 // 4))
        )

    @contextmanager
    def one(self) -> Iterator[bool]:
        """Take a slot for the block. Yield False if there is none."""
        free = self._free
        if free is None:
            yield True
        elif free.acquire(timeout=WAIT_SECONDS):
            try:
                yield True
            finally:
                free.release()
        else:
            yield False


slots = ReadingSlots()
