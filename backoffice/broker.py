"""Treat a demoted Redis primary as a lost connection, so that Celery connects to the new one."""

from __future__ import annotations

from kombu.transport import redis


def reconnect_after_demotion() -> None:
    """Add the refusal to write to the errors after which Celery connects again.

    A primary that became a replica after a failover answers READONLY to every write. Celery's own
    transport would keep the connection forever, although the name may lead to the new primary.
    """
    refused: type[Exception] = redis.exceptions.ReadOnlyError  # type: ignore[attr-defined]
    errors = redis.Transport.connection_errors
    if refused not in errors:
        redis.Transport.connection_errors = (*errors, refused)
