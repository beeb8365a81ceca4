"""Store which book this is, and since when it must not be trusted."""

from __future__ import annotations

from django.db import models

from exchanges import clock


class BookIdentity(models.Model):
    """The one book of this database. `orders.book_identity` keeps it."""

    ROW = 1

    id = models.PositiveSmallIntegerField(primary_key=True, default=ROW)
    token = models.UUIDField(null=True)
    distrusted_at = models.DateTimeField(
        null=True, help_text="When we last noticed that the database had gone back in time."
    )
    reason = models.TextField(blank=True, default="")
    updated_at = models.DateTimeField(default=clock.now)

    def __str__(self) -> str:
        return str(self.token or "")
