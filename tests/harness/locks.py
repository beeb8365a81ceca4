"""Look for sessions of the database that wait for a lock."""

from __future__ import annotations

from django.db import connection


def is_anybody_blocked() -> bool:
    """Return True if a session waits for a lock. Works inside a transaction, too."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])
