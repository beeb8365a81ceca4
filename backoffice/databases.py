"""Read Django's database settings from the environment, also for the tests and benchmarks."""

from __future__ import annotations

import os
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

from backoffice.postgres.sessions import SessionLimits
from backoffice.tuning import is_on

_FORM = "postgres://user:password@host:5432/name"
_serves_web = False


def serve_web() -> None:
    """Give this process a pool. Call it before the settings are read.

    The web server answers each request in a thread of its own. Kept connections would pile up
    there until the database refuses more, even for a halt.
    """
    global _serves_web
    _serves_web = True


def database_settings(url: str, limits: SessionLimits | None = None) -> dict[str, Any]:
    """Return Django's settings for `postgres://…` (a socket folder as `postgres:////folder/name`).

    Raise ImproperlyConfigured, in one sentence that names the fix, for anything else, and for a
    limit in the environment that isn't a number.
    """
    if not url:
        raise ImproperlyConfigured(
            f"DATABASE_URL is not set: set it to a PostgreSQL database, {_FORM},"
            " or start the demo with `make run`, which brings its own."
        )
    if not url.startswith(("postgres://", "postgresql://")):
        raise ImproperlyConfigured(
            f"DATABASE_URL must name a PostgreSQL database, {_FORM}: no other database works."
        )
    limits = limits or SessionLimits.from_env(os.environ)
    try:
        database: dict[str, Any] = environ.Env.db_url_config(url)
    except ValueError:  # its text may show the password
        raise ImproperlyConfigured(f"DATABASE_URL is not a well-formed URL, {_FORM}.") from None
    several = _several_hosts(url)
    database |= several
    database["ENGINE"] = "backoffice.postgres"
    # Outside the web process a connection lives as long as it is healthy.
    is_kept = is_on("kept_connections") and not _serves_web
    database["CONN_MAX_AGE"] = None if is_kept else 0
    database["CONN_HEALTH_CHECKS"] = True
    # A replica among several servers answers, but takes no orders.
    usual = {"target_session_attrs": "read-write"} if several else {}
    options = {**usual, **limits.libpq(), **database.get("OPTIONS", {})}  # the URL's own win
    options |= {"session": limits.session(), "answer_seconds": limits.answer_seconds}
    options["reserved"] = limits.reserved
    if _serves_web:
        options["pool"] = limits.pool()
    database["OPTIONS"] = options
    return database


def _several_hosts(url: str) -> dict[str, str]:
    """Return host and port of each server if the URL names several, separated by commas.

    `django-environ` leaves out a missing port, and libpq would take a later host's port for it.
    """
    netloc = url.partition("://")[2].partition("?")[0].partition("/")[0]
    pairs = [host.partition(":") for host in netloc.rpartition("@")[2].split(",")]
    if len(pairs) == 1:
        return {}
    ports = [port or "5432" for _, _, port in pairs]
    if not all(host for host, _, _ in pairs) or not all(map(str.isdecimal, ports)):
        raise ImproperlyConfigured(
            "DATABASE_URL names several servers, and one of them isn't well-formed:"
            " write postgres://user:password@one:5432,two:5432/name."
        )
    return {"HOST": ",".join(host for host, _, _ in pairs), "PORT": ",".join(ports)}
