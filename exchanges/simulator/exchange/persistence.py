"""Save the exchange across restarts: one file with its engine and market, replaced as a whole.

The file is written after changes, at most once a second, and at the end, so a kill loses about a
second. With a long history writing takes long and happens less often. Keys, faults and limits are
not in the file.

The file is our own pickle. Read it only from a directory that only we can write to.
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

from exchanges.simulator.engine.engine import Engine
from exchanges.simulator.engine.events import Event
from exchanges.simulator.exchange.clock import ServerClock
from exchanges.simulator.exchange.market_maker import MarketMaker

log = logging.getLogger(__name__)

# Raise the version whenever a pickled class moves or changes its fields.
HEADER_PREFIX = b"simulator state "
HEADER = HEADER_PREFIX + b"4\n"
OTHER_VERSION = (
    "another version of the simulator saved this file, so it cannot be read. Delete it to start "
    "with an empty exchange, and start with an empty database where the back office traded on it"
)
SAVE_SECONDS = 1.0
# Saving may take at most this fraction of the time.
LOAD_SHARE = 0.1
ID_LENGTH = 22
_ALPHABET = ascii_letters + digits


class StateError(Exception):
    """Signal a file that isn't ours or comes from another version."""


class _Writer(pickle.Pickler):
    """Leave out the clock and the generator of ids, which belong to the process."""

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
    """Return a generator of ids that no earlier run made. A seeded one would start again."""
    generator = SystemRandom()
    return lambda: "".join(generator.choices(_ALPHABET, k=ID_LENGTH))


def dump(engine: Engine, market: MarketMaker) -> bytes:
    buffer = io.BytesIO()
    buffer.write(HEADER)
    _Writer(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump((engine, market))
    return buffer.getvalue()


def load(data: bytes, clock: ServerClock) -> tuple[Engine, MarketMaker]:
    """Return the saved engine and market. Raise StateError if the data can't be read."""
    if not data.startswith(HEADER):
        old = data.startswith(HEADER_PREFIX)
        raise StateError(OTHER_VERSION if old else "it is not a state file of the simulator")
    try:
        engine, market = _Reader(io.BytesIO(data[len(HEADER) :]), clock).load()
        engine.truth()
    except Exception as error:
        raise StateError(f"it cannot be read: {error}") from error
    return engine, market


class StateFile:
    """Keep the file up to date with an exchange."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._changed = False

    def read(self, clock: ServerClock) -> tuple[Engine, MarketMaker] | None:
        """Return the saved engine and market, or None if there is no file yet.

        Raises StateError if the file can't be read.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        return load(data, clock)

    def note(self, events: list[Event]) -> None:
        """Note that an account changed, so that there is something to save."""
        del events
        self._changed = True

    def write(self, data: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(self.path.name + ".new")
        beside.write_bytes(data)
        beside.replace(self.path)

    async def keep(self, current: Callable[[], bytes]) -> None:
        """Save the result of `current` after every change."""
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
