"""Listen to PostgreSQL on one connection, whatever the number of open pages, and ring them all.

Everything here runs in the web server's event loop. Whoever opens the first page starts the
listener, and it ends a moment after the last page has gone.
"""

from __future__ import annotations

import asyncio
import random
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakKeyDictionary

import psycopg
import structlog
from asgiref.sync import sync_to_async
from django.db import DatabaseError, connection, connections

from backoffice.people.sessions import live_sessions

log = structlog.get_logger(__name__)

CHANNEL: Final = "desk"
#: Messages to a page besides the topics.
BEAT: Final = "beat"
LISTENING: Final = "listening"
LOST: Final = "lost"
ENDED: Final = "ended"

BEAT_SECONDS = 5.0
#: Changes that came right after a bell rang none. This is how soon they ring after all.
ECHO_SECONDS = 0.25
#: A page fetches at most four times a second, so more bells are of no use to it.
REST_SECONDS = 0.2
ANSWER_SECONDS = 3.0
LINGER_SECONDS = 5.0
RETRY_SECONDS = (0.5, 1.5)

_UNRUNG = "SELECT last_value FROM desk_unrung"


@dataclass(eq=False)
class Guest:
    """One open stream: the messages that it hasn't sent yet, each once."""

    session_key: str
    messages: dict[str, None] = field(default_factory=dict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, message: str) -> None:
        self.messages[message] = None
        self._news.set()

    async def told(self) -> list[str]:
        """Wait for messages, and take them."""
        await self._news.wait()
        self._news.clear()
        taken, self.messages = list(self.messages), {}
        return taken


class Bell:
    """The pages that listen in one event loop, and the task that rings them."""

    def __init__(self) -> None:
        self.guests: set[Guest] = set()
        self.is_listening = False
        self._task: asyncio.Task[None] | None = None
        self._unrung = -1

    @contextmanager
    def guest(self, session_key: str) -> Any:
        """Register a stream for as long as the context lasts."""
        guest = Guest(session_key)
        self.guests.add(guest)
        if self.is_listening:
            guest.tell(LISTENING)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
        try:
            yield guest
        finally:
            self.guests.discard(guest)

    def _tell(self, messages: Iterable[str]) -> None:
        for message in messages:
            for guest in self.guests:
                guest.tell(message)

    async def _run(self) -> None:
        while True:
            try:
                await self._listen()
            except (OSError, TimeoutError, psycopg.Error) as error:
                log.warning("desk_bell_lost", error=type(error).__name__)
            finally:
                self._set_listening(False)
            if not self.guests:
                return
            await asyncio.sleep(random.uniform(*RETRY_SECONDS))

    def _set_listening(self, is_listening: bool) -> None:
        if self.is_listening != is_listening:
            self.is_listening = is_listening
            self._tell([LISTENING if is_listening else LOST])

    async def _listen(self) -> None:
        """Listen and ring until the connection fails or the last page is gone."""
        async with asyncio.timeout(ANSWER_SECONDS):
            own = await psycopg.AsyncConnection.connect(**_connection_parameters())
        try:
            await own.execute(f"LISTEN {CHANNEL}")
            self._unrung = await _unrung(own)
            self._set_listening(True)
            await self._ring(own)
        finally:
            with suppress(OSError, psycopg.Error):
                await own.close()

    async def _ring(self, own: psycopg.AsyncConnection[Any]) -> None:
        now = asyncio.get_running_loop().time
        beat_at, is_echo_due, empty_since = now(), False, now()
        while self.guests or now() - empty_since < LINGER_SECONDS:
            if self.guests:
                empty_since = now()
            if now() >= beat_at:
                is_echo_due |= await self._has_unrung(own)  # the answer shows that it lives
                self._tell([BEAT])
                await self._end_streams()
                beat_at = now() + BEAT_SECONDS
            patience = ECHO_SECONDS if is_echo_due else max(beat_at - now(), 0.05)
            topics = {bell.payload async for bell in own.notifies(timeout=patience, stop_after=1)}
            if not topics and is_echo_due:
                is_echo_due = await self._has_unrung(own)
                topics = {"orders"} if is_echo_due else set()
            if topics:
                is_echo_due = True
                self._tell(sorted(topics))
                await asyncio.sleep(REST_SECONDS)

    async def _has_unrung(self, own: psycopg.AsyncConnection[Any]) -> bool:
        """Return whether orders have changed without a bell since the last call."""
        before, self._unrung = self._unrung, await _unrung(own)
        return self._unrung != before

    async def _end_streams(self) -> None:
        """End the streams whose person is signed out, or may no longer sign in."""
        keys = {guest.session_key for guest in self.guests}
        if not keys:
            return
        try:
            alive = await sync_to_async(_live_sessions, thread_sensitive=False)(keys)
        except DatabaseError as error:
            log.warning("desk_sessions_unknown", error=type(error).__name__)
            return
        for guest in self.guests:
            if guest.session_key not in alive:
                guest.tell(ENDED)


async def _unrung(own: psycopg.AsyncConnection[Any]) -> int:
    async with asyncio.timeout(ANSWER_SECONDS):
        row = await (await own.execute(_UNRUNG)).fetchone()
    assert row is not None
    return int(row[0])


def _live_sessions(keys: set[str]) -> set[str]:
    try:
        return live_sessions(keys)
    finally:
        connections.close_all()  # this thread is shared, and its connection would stay open


def _connection_parameters() -> dict[str, Any]:
    """Return Django's own parameters, without its parts for connections that block."""
    parameters = connection.get_connection_params()
    for name in ("context", "cursor_factory", "pool"):
        parameters.pop(name, None)
    return {**parameters, "autocommit": True, "application_name": "desk-bell"}


_bells: WeakKeyDictionary[AbstractEventLoop, Bell] = WeakKeyDictionary()


def bell() -> Bell:
    """Return the bell of the running event loop: a web process has one."""
    return _bells.setdefault(asyncio.get_running_loop(), Bell())


async def messages(session_key: str) -> AsyncIterator[list[str]]:
    """Yield the messages for one stream, until its session has ended."""
    with bell().guest(session_key) as guest:
        while True:
            told = await guest.told()
            yield told
            if ENDED in told:
                return
