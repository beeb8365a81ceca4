"""Read an account again after an event that could not be read or applied.

What it said is lost: an order may have changed, or a balance. So the account's figures are in doubt
until a later reading has succeeded. Each one costs request weight, so the pauses grow while such
events keep coming.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from django.conf import settings

from exchanges import clock
from exchanges.errors import GatewayError

log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0


class ReadAgain:
    """Repeat the reading of one account, some time after it was asked for, until it succeeds."""

    def __init__(self, account_name: str, read: Callable[[], Awaitable[None]]) -> None:
        self._account_name = account_name
        self._read = read
        self._is_wanted = False
        self._pause = FIRST_PAUSE_SECONDS
        self._asked_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def ask(self) -> None:
        """Ask for a reading. Further events before it begins cost nothing."""
        now = clock.monotonic()
        if now - self._asked_at > 2 * LONGEST_PAUSE_SECONDS:
            self._pause = FIRST_PAUSE_SECONDS
        self._asked_at = now
        self._is_wanted = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while self._is_wanted:
            # Queries may not show yet what the event told.
            await asyncio.sleep(max(self._pause, settings.EXCHANGE_READ_LAG_MS / 1000))
            self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
            self._is_wanted = False
            try:
                await self._read()
            except GatewayError as error:
                self._is_wanted = True
                log.warning("not_read_again", account=self._account_name, error=str(error))
            except Exception:
                self._is_wanted = True
                log.exception("not_read_again", account=self._account_name)
