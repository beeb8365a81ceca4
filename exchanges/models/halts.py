"""Store halts: of everything, and of a symbol or a strategy. An account holds its own state."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from exchanges import clock


class TradingHalt(models.Model):
    """The halt of everything: one row, which also binds accounts made later."""

    ROW = 1

    id = models.PositiveSmallIntegerField(primary_key=True, default=ROW)
    is_halted = models.BooleanField(_("halted"), default=False)
    reason = models.TextField(_("reason"), blank=True, default="")
    changed_at = models.DateTimeField(_("changed at"), default=clock.now)
    changed_by = models.CharField(_("changed by"), max_length=150, blank=True, default="")

    class Meta:
        verbose_name = _("global halt")
        verbose_name_plural = _("global halt")
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(id=1), name="trading_halt_is_one_row")
        ]

    def __str__(self) -> str:
        return "halted" if self.is_halted else "active"


class ScopedHalt(models.Model):
    """A symbol or a strategy that sends nothing new, on one account or (empty) on all.

    The row is the halt: resuming deletes it, and the journal keeps the story.
    """

    account = models.ForeignKey(
        "exchanges.ExchangeAccount",
        on_delete=models.CASCADE,
        related_name="scoped_halts",
        db_index=False,  # the unique key begins with it
        verbose_name=_("account"),
        null=True,
        blank=True,
    )
    symbol = models.CharField(_("symbol"), max_length=32, blank=True, default="")
    strategy = models.CharField(_("strategy"), max_length=64, blank=True, default="")
    reason = models.TextField(_("reason"))
    halted_by = models.CharField(_("halted by"), max_length=150)
    halted_at = models.DateTimeField(_("halted at"), default=clock.now)

    class Meta:
        ordering = ("-halted_at", "-id")
        verbose_name = _("scoped halt")
        verbose_name_plural = _("scoped halts")
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=~Q(symbol="", strategy=""), name="scoped_halt_has_a_scope"
            ),
            models.UniqueConstraint(
                fields=["account", "symbol", "strategy"], name="scoped_halt_unique_scope"
            ),
        ]

    def __str__(self) -> str:
        return " ".join(filter(None, [self.strategy, self.symbol]))
