"""Store the limits of an account, their changes, and outages of placement."""

from __future__ import annotations

from typing import ClassVar

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from exchanges import clock
from exchanges.fields import ExactDecimalField
from exchanges.models import ExchangeAccount


class RiskLimit(models.Model):
    """The limits of one account, or of one symbol or strategy of it.

    An empty limit allows everything, and the tightest row wins. Amounts are in `currency` and count
    the symbols that are quoted in it. A temporary row (`until`) replaces the lasting one of its
    scope and currency and counts no more after its end (`orders.gate.limits.in_force`).
    """

    account = models.ForeignKey(
        ExchangeAccount,
        on_delete=models.PROTECT,
        related_name="risk_limits",
        verbose_name=_("account"),
        db_index=False,  # the unique key begins with it
    )
    symbol = models.CharField(
        _("symbol"),
        max_length=32,
        blank=True,
        default="",
        help_text=_("Leave empty for every symbol."),
    )
    strategy = models.CharField(
        _("strategy"),
        max_length=64,
        blank=True,
        default="",
        help_text=_("Leave empty for every strategy."),
    )
    currency = models.CharField(
        _("currency"),
        max_length=32,
        default="USDT",
        help_text=_("Quote asset of the amounts below."),
    )
    allowed_symbols = models.CharField(
        _("allowed symbols"),
        max_length=2000,
        blank=True,
        default="",
        help_text=_(
            "Symbols that may be traded, separated by spaces. Leave empty for every symbol."
        ),
    )
    max_order_notional = ExactDecimalField(_("notional per order"), null=True, blank=True)
    max_notional_per_day = ExactDecimalField(_("notional per day (UTC)"), null=True, blank=True)
    max_daily_loss = ExactDecimalField(
        _("realized loss per day (UTC)"),
        null=True,
        blank=True,
        help_text=_(
            "Net of commissions, by average cost. Counts the row's symbol, or all symbols of the"
            " account."
        ),
    )
    max_open_orders = models.PositiveIntegerField(_("open orders"), null=True, blank=True)
    max_orders_per_second = models.PositiveIntegerField(
        _("orders per second"), null=True, blank=True
    )
    max_orders_per_day = models.PositiveIntegerField(
        _("orders per day (UTC)"), null=True, blank=True
    )
    max_position = ExactDecimalField(
        _("position"),
        null=True,
        blank=True,
        help_text=_("In the base asset, including what open buys could add."),
    )
    max_price_distance = ExactDecimalField(
        _("price distance, %"),
        null=True,
        blank=True,
        help_text=_("Distance from the last trade, in either direction."),
    )
    max_price_age = models.PositiveIntegerField(
        _("price age, s"),
        default=60,
        help_text=_("Ignore the last trade if it is older than this."),
    )
    max_identical_orders = models.PositiveIntegerField(_("identical orders"), null=True, blank=True)
    identical_window = models.PositiveIntegerField(_("window for identical orders, s"), default=10)
    until = models.DateTimeField(
        _("until"),
        null=True,
        blank=True,
        help_text=_(
            "Leave empty for a lasting limit. A temporary limit replaces the lasting one of its"
            " scope and currency until then."
        ),
    )

    class Meta:
        verbose_name = _("risk limit")
        verbose_name_plural = _("risk limits")
        permissions: ClassVar = [("simulate_gate", _("Can ask what the gate would answer"))]
        constraints: ClassVar = [
            # The gate looks limits up by account with it, too.
            models.UniqueConstraint(
                fields=["account", "symbol", "strategy", "currency", "until"],
                nulls_distinct=False,  # one lasting row for each scope
                name="risk_limit_unique_scope",
            )
        ]

    def __str__(self) -> str:
        return " ".join(
            filter(None, [str(self.account), self.symbol, self.strategy, self.currency])
        )

    def clean(self) -> None:
        """Normalize names like those of orders, because `btc/usdt` would match no order."""
        self.symbol = self.symbol.replace("/", "").strip().upper()
        self.currency = self.currency.strip().upper()
        self.strategy = self.strategy.strip()
        if self.until is not None and self.until <= clock.now():
            raise ValidationError({"until": _now("The end of a limit must be in the future.")})


class RiskLimitChange(models.Model):
    """One change of limits: the actor, and the limits before and after. Append-only."""

    account = models.ForeignKey(
        ExchangeAccount, on_delete=models.PROTECT, related_name="+", verbose_name=_("account")
    )
    at = models.DateTimeField(_("at"), default=clock.now)
    actor = models.CharField(_("actor"), max_length=150)
    subject = models.CharField(_("subject"), max_length=255)
    before = models.JSONField(_("before"), default=dict)
    after = models.JSONField(_("after"), default=dict)

    class Meta:
        ordering = ("-id",)
        verbose_name = _("risk limit change")
        verbose_name_plural = _("risk limit changes")

    def __str__(self) -> str:
        return f"{self.subject} {self.at:%Y-%m-%d %H:%M:%S}"


class PlacementOutage(models.Model):
    """The time since which `auto_halt` has seen an account's breaker of placing open."""

    account = models.OneToOneField(
        ExchangeAccount, on_delete=models.CASCADE, primary_key=True, related_name="+"
    )
    since = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.account_id} {self.since:%Y-%m-%d %H:%M:%S}"
