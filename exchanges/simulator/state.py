"""The exchange's memory across restarts: one file with its engine and market, replaced as a whole.

Written when something changed, at most once a second, and when it ends, so a kill loses about a second; with a long
history, whose writing takes long, less often. Keys, faults and limits are not in it.
The file is our own pickle: read it only from where only we can write.
"""

from __future__ import annotations

import asyncio
import io
import logging
import pickle  # nosec B403
import types
from collections.abc import Callable
from pathlib import Path
from random import SystemRandom
from string import ascii_letters, digits
from typing import Any

from exchanges.simulator.clock import ServerClock
from exchanges.simulator.engine import Engine
from exchanges.simulator.market import MarketMaker
from exchanges.simulator.model import Event

log = logging.getLogger(__name__)

HEADER = b"simulator state 1\n"
SAVE_SECONDS = 1.0
# Saving may take at most this share of the time.
LOAD_SHARE = 0.1
ID_LENGTH = 22
_ALPHABET = ascii_letters + digits


class StateError(Exception):
    """The file is not one of ours, or of another version."""


class _Writer(pickle.Pickler):
    """The clock and the generator of ids belong to the process, not to the state."""

    def persistent_id(self, obj: Any) -> str | None:
        if isinstance(obj, ServerClock):
            return "clock"
        if isinstance(obj, types.FunctionType) and obj.__name__ == "<lambda>":
            return "ids"
        return None


class _Reader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, clock: ServerClock) -> None:
        super().__init__(file)
        self._clock = clock

    def persistent_load(self, name: Any) -> Any:
        return self._clock if name == "clock" else _new_ids()


def _new_ids() -> Callable[[], str]:
    """Ids that no earlier run can have given: a seeded series would begin again."""
    generator = SystemRandom()
    return lambda: "".join(generator.choices(_ALPHABET, k=ID_LENGTH))


def dump(engine: Engine, market: MarketMaker) -> bytes:
    buffer = io.BytesIO()
    buffer.write(HEADER)
    _Writer(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump((engine, market))
    return buffer.getvalue()


def load(data: bytes, clock: ServerClock) -> tuple[Engine, MarketMaker]:
    if not data.startswith(HEADER):
        raise StateError("it is not a simulator's state of this version")
    try:
        engine, market = _Reader(io.BytesIO(data[len(HEADER) :]), clock).load()
        engine.truth()
    except Exception as error:
        raise StateError(f"it cannot be read: {error}") from error
    return engine, market


class StateFile:
    """Keeps the file up to date with an exchange."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._changed = False

    def read(self, clock: ServerClock) -> tuple[Engine, MarketMaker] | None:
        """What was saved, or None when there is no file yet."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        return load(data, clock)

    def note(self, events: list[Event]) -> None:
        """Something happened to an account, so there is something to save."""
        del events
        self._changed = True

    def write(self, data: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(self.path.name + ".new")
        beside.write_bytes(data)
        beside.replace(self.path)

    async def keep(self, current: Callable[[], bytes]) -> None:
        """Save what `current` gives whenever something changed."""
        loop = asyncio.get_running_loop()
        pause = SAVE_SECONDS
        while True:
            await asyncio.sleep(pause)
            if not self._changed:
                continue
            self._changed = False
            started = loop.time()
            data = current()
            pause = max(SAVE_SECONDS, (loop.time() - started) / LOAD_SHARE)
            try:
                await asyncio.to_thread(self.write, data)
            except OSError:
                self._changed = True
                log.exception("cannot save the state to %s", self.path)
