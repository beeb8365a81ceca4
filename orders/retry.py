"""A transaction that survives the loss of its connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import structlog
from django.db import InterfaceError, OperationalError, connection

from exchanges import clock

log = structlog.get_logger(__name__)
Result = TypeVar("Result")

_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)


def durable(work: Callable[[], Result]) -> Result:
    """Run one transaction; where the database connection is lost, open a new one and run it again, for some seconds.

    `work` must be safe to repeat even if its commit went through and only the answer was lost: all our writes are
    compare-and-swaps or unique inserts. Inside a caller's transaction there is nothing to repeat: the error passes.
    """
    for pause in _PAUSES:
        try:
            return work()
        except (OperationalError, InterfaceError) as error:
            if connection.in_atomic_block:
                raise
            log.warning("database_connection_lost", error=type(error).__name__, retry_in=pause)
            connection.close()
            clock.sleep(pause)
    return work()
