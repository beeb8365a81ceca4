"""Limit how long a session waits, with psycopg connections that give up waiting.

PostgreSQL's own limits end a statement, a wait for a lock and a forgotten transaction. They don't
help against a database, proxy or network that swallows packets, so the connection limits its
waiting by itself, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from select import POLLIN, poll
from time import monotonic
from typing import Any, TypeVar

import psycopg
from django.core.exceptions import ImproperlyConfigured
from psycopg import errors
from psycopg.abc import PQGen

Answer = TypeVar("Answer")

#: A person who waits for a page gives up sooner than a task. After this the page says 503.
POOL_WAIT_SECONDS = 3.0
_POOL_IDLE_SECONDS = 60.0


class TooFewLeft(psycopg.OperationalError):
    """The connections that are left are reserved for halts."""


class AnswerTimeout(psycopg.OperationalError):
    """The database did not answer in time. The connection is closed: its answer may still come."""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Every limit of a session, from the environment. 0 turns a limit off."""

    connect_seconds: int = 5
    statement_ms: int = 15_000
    lock_ms: int = 5_000
    idle_in_transaction_ms: int = 10_000
    tcp_user_ms: int = 10_000
    answer_seconds: float = 20.0
    pool_size: int = 8
    reserved: int = 5

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> SessionLimits:
        """Return the limits. Raise ImproperlyConfigured, which names the bad variable."""
        usual = cls()
        statement_ms = _whole(env, "DATABASE_STATEMENT_TIMEOUT_MS", usual.statement_ms)
        answer_seconds = _seconds(
            env, "DATABASE_ANSWER_TIMEOUT_SECONDS", statement_ms / 1000 + 5 if statement_ms else 0.0
        )
        if 0 < answer_seconds <= statement_ms / 1000:
            raise ImproperlyConfigured(
                f"DATABASE_ANSWER_TIMEOUT_SECONDS ({answer_seconds:g}) must be longer than"
                f" DATABASE_STATEMENT_TIMEOUT_MS ({statement_ms} ms): the database ends a slow"
                " statement itself, and says so."
            )
        return cls(
            # libpq takes 1 for 2, and 0 for no limit, which would let a thread hang.
            connect_seconds=_whole(
                env, "DATABASE_CONNECT_TIMEOUT_SECONDS", usual.connect_seconds, least=2
            ),
            statement_ms=statement_ms,
            lock_ms=_whole(env, "DATABASE_LOCK_TIMEOUT_MS", usual.lock_ms),
            idle_in_transaction_ms=_whole(
                env, "DATABASE_IDLE_IN_TRANSACTION_TIMEOUT_MS", usual.idle_in_transaction_ms
            ),
            tcp_user_ms=_whole(env, "DATABASE_TCP_USER_TIMEOUT_MS", usual.tcp_user_ms),
            answer_seconds=answer_seconds,
            pool_size=_whole(env, "DATABASE_POOL_SIZE", usual.pool_size, least=1),
            reserved=_whole(env, "DATABASE_RESERVED_CONNECTIONS", usual.reserved),
        )

    def libpq(self) -> dict[str, Any]:
        """Return the limits that the client's library keeps."""
        return {
            "connect_timeout": self.connect_seconds,
            "tcp_user_timeout": self.tcp_user_ms,
            "keepalives": 1,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
        }

    def session(self) -> dict[str, str]:
        """Return the settings that every session makes at its start.

        Start-up options would do the same, but PgBouncer refuses them.
        """
        return {
            "statement_timeout": str(self.statement_ms),
            "lock_timeout": str(self.lock_ms),
            "idle_in_transaction_session_timeout": str(self.idle_in_transaction_ms),
            "synchronous_commit": "on",
        }

    def pool(self) -> dict[str, Any]:
        """Return the arguments of the web process's pool."""
        return {
            "min_size": 1,
            "max_size": self.pool_size,
            "timeout": POOL_WAIT_SECONDS,
            "max_idle": _POOL_IDLE_SECONDS,
            # Pauses grow with each failed try, so a short limit finds a restarted database sooner.
            "reconnect_timeout": POOL_WAIT_SECONDS,
            "connection_class": BoundedConnection,
        }


def _whole(env: Mapping[str, str], name: str, default: int, *, least: int = 0) -> int:
    text = env.get(name, "").strip() or str(default)
    # int() takes `1_000` and other alphabets' digits. PostgreSQL's own limit is 31 bits.
    if not (text.isascii() and text.isdecimal()) or not least <= int(text) < 2**31:
        raise ImproperlyConfigured(f"{name} must be a whole number from {least}, not {text!r}.")
    return int(text)


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name, "").strip() or str(default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise ImproperlyConfigured(f"{name} must be a number of seconds from 0, not {text!r}.")
    return seconds


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that waits at most `answer_seconds` for an answer. None waits without end."""

    answer_seconds: float | None = None
    answered_at: float = 0.0

    def wait(
        self, gen: PQGen[Answer], interval: float = 0.1, timeout: float | None = None
    ) -> Answer:
        """Return the answer. Close the connection and raise AnswerTimeout if none comes in time."""
        if timeout is not None or self.answer_seconds is None:
            answer = super().wait(gen, interval=interval, timeout=timeout)
        else:
            limit = self.answer_seconds
            try:
                answer = super().wait(gen, interval=interval, timeout=limit)
            except errors._WaitTimeout:  # noqa: SLF001  psycopg has no public name for it
                self.close()
                raise AnswerTimeout(f"the database did not answer within {limit:g} s") from None
        self.answered_at = monotonic()
        return answer

    def has_news(self) -> bool:
        """Return whether an unexpected message came: usually the server's last words."""
        if self.closed:
            return True
        watch = poll()
        watch.register(self.pgconn.socket, POLLIN)
        return bool(watch.poll(0))

    @contextmanager
    def waiting_at_most(self, seconds: float | None) -> Iterator[None]:
        """Change the limit for a while. None waits without end."""
        usual, self.answer_seconds = self.answer_seconds, seconds
        try:
            yield
        finally:
            self.answer_seconds = usual
