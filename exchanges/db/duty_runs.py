"""Stamp the last run of a duty, by the database's clock, which all machines share."""

from __future__ import annotations

from collections.abc import Collection

from django.db import connection

# In the order of the accounts, so that two stamps at the same time wait instead of deadlocking.
_FOR_ACCOUNTS = """
INSERT INTO exchanges_dutyrun (duty, account_id, ran_at)
SELECT %s, a.id, statement_timestamp()
  FROM exchanges_exchangeaccount a WHERE a.id = ANY(%s) ORDER BY a.id
ON CONFLICT (duty, account_id) DO UPDATE SET ran_at = excluded.ran_at
"""
_FOR_ALL = """
INSERT INTO exchanges_dutyrun (duty, ran_at) VALUES (%s, statement_timestamp())
ON CONFLICT (duty, account_id) DO UPDATE SET ran_at = excluded.ran_at
"""


def stamp_run(duty: str) -> None:
    """Store that the duty has just run."""
    with connection.cursor() as cursor:
        cursor.execute(_FOR_ALL, [duty])


def stamp_runs(duty: str, account_ids: Collection[int]) -> None:
    """Store that the duty has just run for each of these accounts."""
    if account_ids:
        with connection.cursor() as cursor:
            cursor.execute(_FOR_ACCOUNTS, [duty, [*account_ids]])
