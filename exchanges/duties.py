"""Name the duties of the gate, and send the messages of duties, which beat repeats anyway."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import structlog

log = structlog.get_logger(__name__)

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


def enqueue_each(task: Any, names: Iterable[str], *, every: float) -> int:
    """Send the task's message for each name, and return their number.

    If the broker is away, the others wait for the next time, `every` so many seconds.
    """
    sent = 0
    try:
        for name in names:
            task.apply_async((name,), **repeated(every))
            sent += 1
    except Exception as error:  # noqa: BLE001  whatever the broker's client raises
        log.warning("enqueue_failed", task=task.name, error=type(error).__name__)
    return sent
