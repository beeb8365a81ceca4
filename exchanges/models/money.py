"""Store balances and the money that orders reserve."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from exchanges import clock
from exchanges.fields import ExactDecimalField
from exchanges.models.accounts import ExchangeAccount


class Balance(models.Model):
    """Free and locked amount of one asset, by the exchange's last report."""

    account = models.ForeignKey(
        ExchangeAccount, on_delete=models.PROTECT, related_name="balances", db_index=False
    )
    asset = models.CharField(_("asset"), max_length=32)
    free = ExactDecimalField(_("free"), default=0)
    locked = ExactDecimalField(_("locked"), default=0)
    reserved = ExactDecimalField(
        _("reserved"),
        default=0,
        help_text=_("Sum of the reservations. They cover orders that `free` doesn't reflect yet."),
    )
    updated_at = models.DateTimeField(
        _("updated at"), help_text=_("The exchange's time of these amounts.")
    )

    class Meta:
        ordering = ("account", "asset")
        verbose_name = _("balance")
        verbose_name_plural = _("balances")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "asset"], name="balance_unique_asset")
        ]

    def __str__(self) -> str:
        return f"{self.asset}: {self.free} / {self.locked}"


class Reservation(models.Model):
    """Money that one request may spend, held back until the exchange's balances show it."""

    account = models.ForeignKey(
        ExchangeAccount, on_delete=models.CASCADE, related_name="reservations", db_index=False
    )
    asset = models.CharField(max_length=32)
    reference = models.CharField(max_length=64, help_text="Client order ID of the request.")
    amount = ExactDecimalField()
    due_at = models.DateTimeField(
        null=True, help_text="From this exchange time on, the exchange's amounts include it."
    )
    created_at = models.DateTimeField(default=clock.now)

    class Meta:
        indexes: ClassVar = [
            # reservations.hand_over, release: WHERE account = ? AND reference = ?
            models.Index(fields=["account", "reference"], name="reservation_reference"),
            # reservations.release_shown: WHERE account = ? AND due_at IS NOT NULL
            models.Index(
                fields=["account"], name="reservation_due", condition=Q(due_at__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount} {self.asset} {self.reference}"
