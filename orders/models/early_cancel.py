"""Remember cancels that came before their orders."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from exchanges import clock
from exchanges.models import ExchangeAccount


class EarlyCancel(models.Model):
    """A cancel of an intent that wasn't recorded yet: the message may have overtaken its submit."""

    account = models.ForeignKey(
        ExchangeAccount, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    intent_id = models.CharField(max_length=64)
    requested_by = models.CharField(max_length=150, blank=True, default="")
    reason = models.TextField(blank=True, default="")
    at = models.DateTimeField(default=clock.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["account", "intent_id"], name="early_cancel_unique_intent"
            )
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.intent_id}"
