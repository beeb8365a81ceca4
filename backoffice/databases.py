"""How Django's database settings follow from a URL: the same for the back office, its tests and its benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import environ


def database_settings(url: str) -> dict[str, Any]:
    """Django's settings for `sqlite:///…` or `postgres://…` (a socket folder as `postgres:////folder/name`)."""
    database: dict[str, Any] = environ.Env.db_url_config(url)
    database["CONN_MAX_AGE"] = None  # a connection lives as long as it is healthy; a new one costs 5 ms an order
    database["CONN_HEALTH_CHECKS"] = True
    options = database.setdefault("OPTIONS", {})
    if database["ENGINE"].endswith("sqlite3"):
        Path(database["NAME"]).parent.mkdir(parents=True, exist_ok=True)
        options.update(
            {
                "transaction_mode": "IMMEDIATE",  # DEFERRED fails with "database is locked" under several writers
                "timeout": 20,
                # FULL: a claim must be on disk before its order is sent.
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
            }
        )
    elif database["ENGINE"].endswith("postgresql"):
        # Our prepared statements find rows by their keys: planning them anew for each value gains nothing.
        options.setdefault("options", "-c synchronous_commit=on -c plan_cache_mode=force_generic_plan")
    return database
