"""Share code among the drivers. It needs only the standard library.

Each driver runs in its own environment. It gets one JSON argument (addresses and keys) and exits
with 0 if every check passed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any

CONFIG: dict[str, str] = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
ENOUGH_SECONDS = 10.0


def control(method: str, name: str, body: Any = None) -> Any:
    """Call the simulator's control plane once."""
    request = urllib.request.Request(
        f"{CONFIG['rest_url']}/control/{name}",
        data=None if body is None else json.dumps(body).encode(),
        method=method,
    )
    with urllib.request.urlopen(request, timeout=ENOUGH_SECONDS) as response:
        return json.load(response)


def fault(action: str, **keys: Any) -> None:
    control("POST", "faults", {"action": action, **keys})


def truth_accepted(client_order_id: str) -> int:
    accounts = control("GET", "truth")["accounts"]
    return sum(
        rows["accepted_by_client_order_id"].get(client_order_id, 0) for rows in accounts.values()
    )


def raises(kind: type[BaseException], call: Callable[[], Any]) -> Any:
    """Return the error that a call must raise."""
    try:
        answer = call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} expected, got {answer!r}")


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + ENOUGH_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("waited in vain")
        time.sleep(0.02)


class Sweep:
    """Call one method after the other and report all failures, not only the first one."""

    def __init__(self, target: Any) -> None:
        self.target = target
        self.failures: list[str] = []

    def __call__(self, name: str, *args: Any, **keys: Any) -> Any:
        try:
            return getattr(self.target, name)(*args, **keys)
        except Exception as error:  # noqa: BLE001 - reported by `check`
            self.failures.append(f"{name} {args} {keys}: {type(error).__name__} {error}")
            return None

    async def wait(self, name: str, *args: Any, **keys: Any) -> Any:
        try:
            return await asyncio.wait_for(getattr(self.target, name)(*args, **keys), ENOUGH_SECONDS)
        except Exception as error:  # noqa: BLE001 - reported by `check`
            self.failures.append(f"{name} {args} {keys}: {type(error).__name__} {error}")
            return None

    def check(self) -> None:
        assert not self.failures, "\n".join(self.failures)


class Complaints(logging.Handler):
    """Collect a client's log messages about answers that don't fit its models."""

    def __init__(self, *words: str) -> None:
        super().__init__(logging.WARNING)
        self.words = words
        self.found: list[str] = []
        logging.getLogger().addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if any(word in text for word in self.words):
            self.found.append(text)

    def check(self) -> None:
        assert not self.found, self.found
