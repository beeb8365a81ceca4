"""Hold PostgreSQL's commits, to catch a process between its commit and its next step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.db import connection

from tests.harness.waiting import wait_for

_LOCK = 7_420_017
_HELD = f"FROM pg_locks WHERE locktype = 'advisory' AND objid = {_LOCK} AND NOT granted"
_WAITING = f"SELECT count(*) {_HELD}"


class HeldCommits:
    """Let transactions that inserted into the table wait in their COMMIT until `release`."""

    def __init__(self, table: str) -> None:
        self.table = table
        self._holder = psycopg.connect(_dsn(), autocommit=True)
        self._holder.execute(f"SELECT pg_advisory_lock({_LOCK})")
        self._holder.execute(
            f"CREATE OR REPLACE FUNCTION hold_commit() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN PERFORM pg_advisory_xact_lock_shared({_LOCK}); RETURN NULL; END $$"
        )
        self._holder.execute(
            f"CREATE CONSTRAINT TRIGGER hold_commit AFTER INSERT ON {table}"
            " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hold_commit()"
        )

    def wait_for_one(self) -> None:
        """Wait until a process stands in its COMMIT."""
        wait_for(lambda: self._count(_WAITING), what=f"a commit to {self.table} is held")

    def abort(self) -> None:
        """End the sessions that stand in their COMMIT, which undoes their transactions."""
        self._holder.execute(f"SELECT pg_terminate_backend(pid) {_HELD}")
        wait_for(lambda: not self._count(_WAITING), what="the held commits are undone")

    def release(self) -> None:
        self._holder.execute("SELECT pg_advisory_unlock_all()")

    def close(self) -> None:
        self.release()
        self._holder.execute(f"DROP TRIGGER IF EXISTS hold_commit ON {self.table}")
        self._holder.close()

    def _count(self, statement: str) -> int:
        row = self._holder.execute(statement).fetchone()
        return 0 if row is None else int(row[0])


def _dsn() -> str:
    settings = connection.settings_dict
    where = f"host={settings['HOST']} port={settings['PORT']}"
    return f"{where} user={settings['USER']} dbname={settings['NAME']}"


@contextmanager
def held_commits(table: str) -> Iterator[HeldCommits]:
    held = HeldCommits(table)
    try:
        yield held
    finally:
        held.close()
