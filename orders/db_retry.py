"""Distinguish an absent database from an error of ours, and repeat interrupted transactions."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import structlog
from django.db import DatabaseError, Error, InterfaceError, OperationalError, connection

from exchanges import clock

log = structlog.get_logger(__name__)
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
_REPEAT_FOR_SECONDS = 8.0

_AWAY_CLASSES = frozenset(
    {
        "08",  # the connection failed
        "53",  # too many clients, disk full, out of memory
        "58",  # a system error of the server, say a failed write
    }
)
_AWAY_STATES = frozenset(
    {
        "25006",  # read-only: a standby that isn't promoted yet, or a primary that was demoted
        "25P03",  # it ended our session, which stood still in a transaction,
        "25P04",  # or whose transaction took too long
        "26000",  # a connection pooler gave us another session: our prepared statement isn't there
        # A restore is under way, or new code began before its migration: a schema, table, column
        # or function isn't there yet, or its privileges aren't.
        "3F000",
        "42501",
        "42703",
        "42883",
        "42P01",
        "40001",  # others were faster,
        "40003",  # the fate of the statement is unknown,
        "40P01",  # or locked in another order
        "55P03",  # the lock wasn't free in time
        "57014",  # the statement took too long
        "57P01",  # shutdown by an administrator,
        "57P02",  # after a crash,
        "57P03",  # not up yet,
        "57P04",  # our database was dropped, to be restored,
        "57P05",  # idle for too long
    }
)
_STALE_PLAN = "RevalidateCachedQuery"


class RowGone(OperationalError):
    """The database went back in time, and lost the row that this process was working on.

    The work must begin again: its intent then finds the order at the exchange, if there is one.
    """


def is_database_away(error: BaseException | None) -> bool:
    """Return whether the same work may succeed a moment later, on a new connection.

    True for a database that is lost, refuses, shuts down, has no room, is read-only or doesn't
    answer in time, or has no such table yet, however Django wraps it. False for errors of the data
    and of the statement's text.
    """
    if not isinstance(error, Error):
        return False
    own = error.__cause__
    state = getattr(own, "sqlstate", None)
    if state is not None:
        return state[:2] in _AWAY_CLASSES or state in _AWAY_STATES or _is_stale_plan(own)
    # Without a word of the server's own: the connection is lost, refused, closed or silent. libpq
    # reports some losses as the plain DatabaseError.
    return isinstance(error, OperationalError | InterfaceError) or type(error) is DatabaseError


def _is_stale_plan(error: BaseException | None) -> bool:
    """Return whether a migration has changed the columns behind a prepared statement.

    The name of the server's function is the evidence: the message depends on the server's language,
    and the code covers all that PostgreSQL doesn't support.
    """
    diagnosis = getattr(error, "diag", None)
    return getattr(diagnosis, "source_function", None) == _STALE_PLAN


def with_db_retry(
    work: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Run `work(*args, **kwargs)`, one transaction, and run it again for some seconds while the
    database is away.

    `work` must be safe to repeat even if it committed and only the answer was lost. All our writes
    are compare-and-swaps or unique inserts. Inside a caller's transaction there is nothing to
    repeat, so the error passes.
    """
    give_up_at = clock.monotonic() + _REPEAT_FOR_SECONDS
    for pause in _PAUSES:
        try:
            return work(*args, **kwargs)
        except RowGone:
            raise  # The same row won't come back.
        except Error as error:
            if connection.in_atomic_block or not is_database_away(error):
                raise
            connection.close()
            if clock.monotonic() + pause > give_up_at:
                raise
            log.warning("database_away", error=type(error).__name__, retry_in=pause)
            clock.sleep(pause)
    return work(*args, **kwargs)
