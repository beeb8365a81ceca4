"""Choose how safe a commit must be."""

from __future__ import annotations

from django.conf import settings
from django.db import connection


def commit_asynchronously() -> None:
    """Don't wait for the disk when this transaction commits.

    For data that the exchange sends again if a crash of the database loses it.
    """
    if not settings.UNFLUSHED_COMMITS:
        return
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit = off")
