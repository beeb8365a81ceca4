"""Rules that ask for a second person before an order is sent or a change takes effect."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from exchanges import clock
from exchanges.fields import ExactDecimalField
from exchanges.models import ExchangeAccount
from exchanges.types import plain


class ReviewKind(models.TextChoices):
    """The kinds of act that may need a second person."""

    ORDER = "order", _("an order")
    RESUME = "resume", _("resuming trading")
    LIMIT = "limit", _("a looser limit")
    GRANT = "grant", _("an account grant")
    LIVE = "live", _("a live account")
    RULE = "rule", _("a narrower rule")
    KEY = "key", _("resuming despite an unsafe key")


class ReviewRule(models.Model):
    """A second person must agree to such an act. An empty field means any."""

    kind = models.CharField(
        _("kind of act"),
        max_length=16,
        choices=ReviewKind,
        default=ReviewKind.ORDER,
        help_text=_("Symbol, strategy and value are for orders only."),
    )
    account = models.ForeignKey(
        ExchangeAccount,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("account"),
        help_text=_("Empty: every account."),
    )
    symbol = models.CharField(_("symbol"), max_length=32, blank=True, default="")
    strategy = models.CharField(_("strategy"), max_length=64, blank=True, default="")
    notional_above = ExactDecimalField(
        _("value above"),
        null=True,
        blank=True,
        help_text=_("In the quote asset of the order. Empty: every order."),
    )
    created_at = models.DateTimeField(_("created at"), default=clock.now, editable=False)

    class Meta:
        ordering = ("kind", "account", "symbol", "strategy")
        verbose_name = _("rule for a second person")
        verbose_name_plural = _("rules for a second person")
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(kind=ReviewKind.ORDER) | Q(symbol="", strategy="", notional_above=None),
                name="review_rule_of_orders_only",
            ),
        ]

    def __str__(self) -> str:
        parts = (self.kind, self.account, self.symbol, self.strategy)
        words = [str(part) for part in parts if part]
        if self.notional_above is not None:
            words.append(f"> {plain(self.notional_above)}")
        return " ".join(words)

    def covers(self, other: ReviewRule) -> bool:
        """Return whether this rule asks wherever the other one does."""
        above, others = self.notional_above, other.notional_above
        return (
            self.kind == other.kind
            and self.account_id in (None, other.account_id)
            and self.symbol in ("", other.symbol)
            and self.strategy in ("", other.strategy)
            and (above is None or (others is not None and above <= others))
        )
