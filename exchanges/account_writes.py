"""Write an account's stamps, and hold up claims for a halt."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime
from typing import TypeVar

import structlog
from django.db import OperationalError, connection, transaction

from exchanges import acts
from exchanges.models import AccountSync, ExchangeAccount, TradingHalt

log = structlog.get_logger(__name__)

T = TypeVar("T")

PATIENCE_MS = 2000
PATIENCE_AGAIN_MS = 500
TRIES = 4
_LOCK_NOT_AVAILABLE = "55P03"

# The transactions that hold a lock on these tables. A plain read (AccessShareLock) blocks no
# writer, and a claim that only waits for us has no lock yet.
_HOLDERS = """
SELECT DISTINCT l.pid, s.xact_start
  FROM pg_locks l JOIN pg_stat_activity s ON s.pid = l.pid
 WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND l.relation = ANY(%s::regclass[]) AND l.granted
   AND l.mode <> 'AccessShareLock' AND l.pid <> pg_backend_pid()
"""


def ahead_of_claims(write: Callable[[], T]) -> T:
    """Do `write` in a transaction that waits for the running claims and holds up later ones.

    Each claim shares a lock on the halt's row and on its account's row. A new claim may share them
    while an UPDATE already waits, so an unbroken stream of claims would keep a halt waiting. A
    table lock queues. A session that is still in the way after 2 s stands still (its process was
    stopped, or its host is gone), so it is ended, and its claim rolls back: it has sent nothing.
    """
    for tries_left in reversed(range(TRIES)):
        before = _holders()
        patience_ms = PATIENCE_MS if tries_left == TRIES - 1 else PATIENCE_AGAIN_MS
        try:
            with transaction.atomic():
                _lock_out_claims(patience_ms)
                done = write()
                _set_lock_timeout("DEFAULT")  # for the rest of a caller's transaction
                return done
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", None) != _LOCK_NOT_AVAILABLE or not tries_left:
                raise
        _end_sessions(before & _holders())  # they were in the way all the time
    raise AssertionError("the last try returns or raises")


def _lock_out_claims(patience_ms: int) -> None:
    _set_lock_timeout(f"'{patience_ms}ms'")
    with connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {TradingHalt._meta.db_table} IN EXCLUSIVE MODE")  # noqa: SLF001


def _set_lock_timeout(value: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = {value}")


def _holders() -> set[tuple[int, datetime]]:
    """Return process ID and begin of each transaction that a halt has to wait for."""
    tables = [TradingHalt._meta.db_table, ExchangeAccount._meta.db_table]  # noqa: SLF001
    with connection.cursor() as cursor:
        cursor.execute(_HOLDERS, [[*tables, *acts.locked_tables()]])
        return {(pid, began_at) for pid, began_at in cursor.fetchall()}


def _end_sessions(sessions: set[tuple[int, datetime]]) -> None:
    if not sessions:
        return
    pids = [pid for pid, _ in sessions]
    log.warning("sessions_ended_for_a_halt", pids=pids)
    with connection.cursor() as cursor:
        for pid in pids:
            cursor.execute("SELECT pg_terminate_backend(%s, 1000)", [pid])


def mark_synced(account: ExchangeAccount, at: datetime) -> None:
    """Store that open orders have been compared as of `at`."""
    stamp(account, last_synced_at=at)


def stamp(account: ExchangeAccount, **moments: datetime | None) -> None:
    """Store these times beside the account's row, which only decisions of people change."""
    stamp_all([account.pk], **moments)


def stamp_all(account_ids: Collection[int], **moments: datetime | None) -> None:
    """Store the same times for several accounts."""
    AccountSync.objects.bulk_create(
        [AccountSync(account_id=account_id, **moments) for account_id in account_ids],
        update_conflicts=True,
        update_fields=[*moments],
        unique_fields=["account"],
    )
