"""Count the attempts of one kind within its window."""

from __future__ import annotations

from django.db import models


class AttemptCount(models.Model):
    """One counter: of an address, of a person at an address, or of all people."""

    bucket = models.CharField(primary_key=True, max_length=64)
    begun_at = models.DateTimeField()
    attempts = models.PositiveIntegerField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.bucket}: {self.attempts}"
