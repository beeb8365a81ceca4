"""Name the duties of the gate, and mark the messages of duties, which beat repeats anyway."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

HEADER = "repeated_every"
# The gate lets a live account trade only while these run for it.
HALT_RULES = "orders.apply_halt_rules"
SWEEP = "orders.sweep_account"


def queue_duty(queue: str) -> str:
    """Return the name under which the consuming of a queue is stamped."""
    return f"consume {queue}"


class HandOver(Exception):
    """Another queue's worker shall continue with this message. The body begins there again.

    `or_else` does the work here, if the broker doesn't take the message.
    """

    def __init__(self, queue: str, or_else: Callable[[], Any]) -> None:
        super().__init__(queue)
        self.queue = queue
        self.or_else = or_else


def repeated(seconds: float) -> dict[str, Any]:
    """Return the options of a message that is sent again every so many seconds.

    A worker that finds many of them does the duty once. `expires` would compare the clocks of two
    machines: a worker whose clock was some seconds ahead would never do the duty at all.
    """
    return {"headers": {HEADER: seconds}}
