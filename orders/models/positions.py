"""Store positions, and how far the fills are added to them."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from exchanges import clock
from exchanges.fields import ExactDecimalField
from exchanges.models import ExchangeAccount


class Position(models.Model):
    """The holding of one traded symbol as of the account's `PositionCursor`, and its last price.

    `positions.store` is the only writer. Its readers add the fills since the cursor.
    """

    account = models.ForeignKey(
        ExchangeAccount,
        on_delete=models.PROTECT,
        related_name="positions",
        db_index=False,  # the unique key begins with it
        verbose_name=_("account"),
    )
    symbol = models.CharField(_("symbol"), max_length=32)
    base_asset = models.CharField(_("asset"), max_length=32)
    quote_asset = models.CharField(_("quote asset"), max_length=32)
    quantity = ExactDecimalField(_("quantity"), default=0)
    cost = ExactDecimalField(_("cost"), default=0)
    # Two columns, and the key in `recent`, keep their old spelling, so an upgrade stops no worker.
    realized = ExactDecimalField(_("realized result"), default=0, db_column="realised")
    fees = models.JSONField(_("commissions in other assets"), default=dict)  # asset -> decimal text
    trades = models.PositiveIntegerField(_("trades"), default=0)
    day = models.DateField(null=True)  # UTC day of the last trade, and its results
    day_realized = ExactDecimalField(default=0, db_column="day_realised")
    day_fees = models.JSONField(default=dict)
    # The same with the fills up to the cursor's `recent_fill_id`. `start` is the `folded_fill_id`
    # that it continues from, amounts are decimal text. Null if there is no such fill.
    recent = models.JSONField(null=True)
    last_price = ExactDecimalField(_("last price"), null=True)
    fee_prices = models.JSONField(default=dict)  # by asset of `fees`, if it has a price
    priced_at = models.DateTimeField(_("priced at"), null=True)

    class Meta:
        ordering = ("account", "symbol")
        verbose_name = _("position")
        verbose_name_plural = _("positions")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "symbol"], name="position_unique_symbol"),
        ]

    def __str__(self) -> str:
        return f"{self.base_asset} {self.symbol}"


class PositionCursor(models.Model):
    """The progress of adding an account's fills to its positions.

    Up to `folded_fill_id` they are in the positions for good. Up to `recent_fill_id` they are in
    `Position.recent`, which is thrown away if a late fill shows that it is incomplete: if there are
    not `recent_count` fills between the two, or one that follows was traded before
    `recent_traded_at`.
    """

    account = models.OneToOneField(
        ExchangeAccount, on_delete=models.CASCADE, primary_key=True, related_name="+"
    )
    folded_fill_id = models.BigIntegerField(default=0)
    seen_fill_id = models.BigIntegerField(default=0)  # the next `folded_fill_id`
    seen_at = models.DateTimeField(default=clock.now)
    recent_fill_id = models.BigIntegerField(default=0)
    recent_count = models.IntegerField(default=0)
    recent_traded_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.account_id}: {self.folded_fill_id}"


class ResultSample(models.Model):
    """The result of the day and the exposure of an account in five minutes, for one quote asset.

    The result is net and by UTC day, the exposure is the value of all positions at the last prices,
    without their signs. Null: a price or a commission was unknown.
    """

    account = models.ForeignKey(
        ExchangeAccount, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    at = models.DateTimeField(help_text="Beginning of the five minutes.")
    quote_asset = models.CharField(max_length=32)
    realized = ExactDecimalField(null=True)
    unrealized = ExactDecimalField(null=True)
    exposure = ExactDecimalField(null=True)

    class Meta:
        default_permissions = ()  # the overview shows them with the positions
        constraints: ClassVar = [
            # overview.day: WHERE account IN (...) AND at >= midnight
            models.UniqueConstraint(
                fields=["account", "at", "quote_asset"], name="result_sample_unique"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.quote_asset} {self.at:%Y-%m-%d %H:%M}"
