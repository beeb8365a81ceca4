"""Store the differences between our book and the exchange."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from exchanges import clock
from exchanges.models import ExchangeAccount
from orders.models.order import Order


class BreakKind(models.TextChoices):
    """Name the kinds of differences between our book and the exchange."""

    LATE_EVIDENCE = (
        "LATE_EVIDENCE",
        _("an order we thought absent or closed exists at the exchange"),
    )
    DOUBLE_PLACEMENT = "DOUBLE_PLACEMENT", _("two attempts of one intent reached the exchange")
    DIFFERENT_ORDER = "DIFFERENT_ORDER", _("the exchange's order differs from ours")
    FILL_GAP = "FILL_GAP", _("fills don't add up")
    OVERFILL = "OVERFILL", _("filled more than ordered")
    UNKNOWN_STATUS = "UNKNOWN_STATUS", _("unknown exchange status")
    ACCOUNT_REFUSED = "ACCOUNT_REFUSED", _("the exchange rejects this account's API key")
    BALANCE_MISMATCH = "BALANCE_MISMATCH", _("locked balance that no open order explains")
    EXCHANGE_RESET = "EXCHANGE_RESET", _("the exchange knows none of our orders")
    CLIENT_ID_REUSED = "CLIENT_ID_REUSED", _("another order uses a client order ID of ours")
    NUMBERS_REUSED = "NUMBERS_REUSED", _("the exchange's numbers have begun again")
    UNREADABLE_EVENT = "UNREADABLE_EVENT", _("a stream event could not be read or applied")
    MISSING_AT_EXCHANGE = "MISSING_AT_EXCHANGE", _("the exchange doesn't know an open order")
    UNREADABLE_REPORT = "UNREADABLE_REPORT", _("a row of the exchange could not be read or stored")
    SYMBOL_GONE = "SYMBOL_GONE", _("the exchange doesn't know a symbol any more")
    SYMBOL_NOT_PERMITTED = "SYMBOL_NOT_PERMITTED", _("the account may not trade a symbol")
    HALTED_BY_RULE = "HALTED_BY_RULE", _("a rule halted the account")
    LOSS_UNKNOWN = "LOSS_UNKNOWN", _("today's loss is unknown, so buys are denied")


class Resolution(models.TextChoices):
    """Name the answers of a person who closes a break by hand."""

    MATCHES = "matches the exchange now", _("matches the exchange now")
    CORRECTED = "corrected by hand", _("corrected by hand")
    ACCEPTED = "accepted difference", _("accepted difference")
    DUPLICATE = "duplicate of another break", _("duplicate of another break")


class ReconciliationBreak(models.Model):
    """A difference that evidence can't repair: one open row for each cause."""

    account = models.ForeignKey(ExchangeAccount, on_delete=models.PROTECT, related_name="breaks")
    order = models.ForeignKey(
        Order, on_delete=models.PROTECT, null=True, blank=True, related_name="breaks"
    )
    kind = models.CharField(_("kind"), max_length=32, choices=BreakKind)
    subject = models.CharField(
        _("subject"),
        max_length=128,
        help_text=_("The subject of the break, such as a client order ID."),
    )
    details = models.JSONField(_("details"), default=dict)
    opened_at = models.DateTimeField(_("opened at"), default=clock.now)
    resolved_at = models.DateTimeField(_("resolved at"), null=True, blank=True)
    resolution = models.TextField(_("resolution"), blank=True, default="")

    class Meta:
        ordering = ("-opened_at",)
        verbose_name = _("reconciliation break")
        verbose_name_plural = _("reconciliation breaks")
        permissions: ClassVar = [
            ("close_break", _("Can close breaks by hand")),
            ("mark_symbol_gone", _("Can mark symbols as gone")),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["account", "kind", "subject"],
                condition=Q(resolved_at__isnull=True),
                name="break_one_per_cause",
            )
        ]
        indexes: ClassVar = [
            # desk: open breaks, newest first
            models.Index(
                fields=["-opened_at"], name="break_open", condition=Q(resolved_at__isnull=True)
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.subject}"
