"""Listen to the back office's log: it counts the rare places, and names what must not happen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog

from tests.simulation.scheduler import Scheduler

# A log line with a traceback is a failure that nobody foresaw.
_EXPECTED_FAILURES: frozenset[str] = frozenset()


class Ears:
    """The log of one run."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.events: Counter[str] = Counter()
        self.failures: list[str] = []

    def __call__(
        self, logger: Any, method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        name = str(event.get("event"))
        self.events[name] += 1
        error = event.get("exc_info")
        if error and name not in _EXPECTED_FAILURES:
            self.failures.append(_described(name, event, error))
        if self.scheduler.story is not None and method in ("warning", "error"):
            said = {k: v for k, v in event.items() if k not in ("event", "exc_info", "stack")}
            self.scheduler.story.append(
                f"{self.scheduler.seconds:10.4f} log          {name} {said}"
            )
        raise structlog.DropEvent


def _described(name: str, event: MutableMapping[str, Any], error: Any) -> str:
    import sys
    import traceback

    found = error if isinstance(error, BaseException) else sys.exc_info()[1]
    lines = traceback.format_exception(found) if found is not None else []
    words = {key: value for key, value in event.items() if key not in ("event", "exc_info")}
    return f"log {name} {words}: {''.join(lines)[-1800:]}"


@contextmanager
def listening(ears: Ears) -> Iterator[None]:
    """Let every logger of this process end here. Loggers keep the list, so it is changed."""
    processors = structlog.get_config()["processors"]
    before = list(processors)
    processors[:] = [ears]
    try:
        yield
    finally:
        processors[:] = before
