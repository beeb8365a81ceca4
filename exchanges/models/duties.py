"""Store the last run of each duty, so that one that stands still is seen."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _


class DutyRun(models.Model):
    """When a duty last ran to its end, by the database's clock: for all accounts or for one."""

    duty = models.CharField(_("duty"), max_length=64)
    account = models.ForeignKey(
        "exchanges.ExchangeAccount",
        on_delete=models.CASCADE,
        null=True,
        db_index=False,
        related_name="duty_runs",
        verbose_name=_("account"),
        help_text=_("Empty if the run was for all accounts."),
    )
    ran_at = models.DateTimeField(_("ran at"))

    class Meta:
        ordering = ("duty", "account")
        verbose_name = _("duty")
        verbose_name_plural = _("duties")
        constraints: ClassVar = [
            # Also the index behind the gate's look-up.
            models.UniqueConstraint(
                fields=["duty", "account"], name="duty_run_unique", nulls_distinct=False
            )
        ]

    def __str__(self) -> str:
        return f"{self.duty}: {self.ran_at}"
