"""Store the symbols with their rules and prices, and how far their history was read."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from exchanges import clock
from exchanges.fields import ExactDecimalField
from exchanges.instrument_rules import InstrumentRules
from exchanges.known_prices import KnownPrice, PriceSource, mid_of
from exchanges.models.accounts import Environment, ExchangeAccount


class Instrument(models.Model):
    """One tradable symbol of one environment, as exchangeInfo describes it."""

    exchange = models.CharField(_("exchange"), max_length=32, default="binance")
    environment = models.CharField(_("environment"), max_length=16, choices=Environment)
    symbol = models.CharField(_("symbol"), max_length=32)
    base_asset = models.CharField(_("base asset"), max_length=32)
    quote_asset = models.CharField(_("quote asset"), max_length=32)
    status = models.CharField(_("status"), max_length=32)
    order_types = models.JSONField(_("order types"), default=list)
    filters = models.JSONField(
        _("filters"), default=list, help_text=_("The filters as exchangeInfo lists them.")
    )
    quote_precision = models.PositiveSmallIntegerField(_("quote precision"), default=8)
    quote_order_quantity_allowed = models.BooleanField(_("quote quantity allowed"), default=True)
    updated_at = models.DateTimeField(_("updated at"), default=clock.now)

    class Meta:
        ordering = ("symbol",)
        verbose_name = _("instrument")
        verbose_name_plural = _("instruments")
        constraints: ClassVar = [
            # Also the index behind the gate's look-up.
            models.UniqueConstraint(
                fields=["exchange", "environment", "symbol"], name="instrument_unique_symbol"
            )
        ]
        indexes: ClassVar = [
            # gate: is the quote asset money?
            models.Index(
                fields=["exchange", "environment", "base_asset", "quote_asset"],
                name="instrument_by_assets",
            )
        ]

    def __str__(self) -> str:
        return self.symbol

    @property
    def rules(self) -> InstrumentRules:
        return InstrumentRules(
            symbol=self.symbol,
            base_asset=self.base_asset,
            quote_asset=self.quote_asset,
            status=self.status,
            order_types=frozenset(self.order_types),
            filters=_by_type(self.filters),
            quote_precision=self.quote_precision,
            quote_order_quantity_allowed=self.quote_order_quantity_allowed,
        )


def _by_type(filters: Any) -> dict[str, Any]:
    """Return filters by type, from exchangeInfo's list or from a dict that is by type already."""
    if isinstance(filters, dict):
        return dict(filters)
    return {item["filterType"]: item for item in filters}


@lru_cache(maxsize=4096)
def instrument_rules(instrument_id: int, updated_at: datetime) -> InstrumentRules:
    """Return the parsed rules of one version of an instrument, so that placing parses no JSON."""
    return Instrument.objects.get(pk=instrument_id).rules


class LastPrice(models.Model):
    """The last trade on a symbol at the time of our last query."""

    exchange = models.CharField(max_length=32)
    environment = models.CharField(max_length=16, choices=Environment)
    symbol = models.CharField(max_length=32)
    price = ExactDecimalField()
    traded_at = models.DateTimeField(help_text="The exchange's time of the trade.")
    asked_at = models.DateTimeField(help_text="When we asked for it, by our clock.")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["exchange", "environment", "symbol"], name="last_price_unique_symbol"
            )
        ]

    def __str__(self) -> str:
        return f"{self.symbol} {self.price}"

    @property
    def known(self) -> KnownPrice:
        return KnownPrice(self.price, self.traded_at, PriceSource.LAST_TRADE)


class MidPrice(models.Model):
    """The best bid and ask of a symbol at the time of our last query."""

    exchange = models.CharField(max_length=32)
    environment = models.CharField(max_length=16, choices=Environment)
    symbol = models.CharField(max_length=32)
    bid = ExactDecimalField()
    ask = ExactDecimalField()
    asked_at = models.DateTimeField(help_text="When we asked for them, by our clock.")

    class Meta:
        constraints: ClassVar = [
            # Also the index behind the gate's look-up.
            models.UniqueConstraint(
                fields=["exchange", "environment", "symbol"], name="mid_price_unique_symbol"
            )
        ]

    def __str__(self) -> str:
        return f"{self.symbol} {self.bid} {self.ask}"

    @property
    def known(self) -> KnownPrice:
        return KnownPrice(mid_of(self.bid, self.ask), self.asked_at, PriceSource.MID)


class SymbolCatchUp(models.Model):
    """Until when our book has the order history of one symbol, and how far it was read.

    A database restored from a backup lacks orders that the exchange has. Nothing is sent on a
    symbol before its history has been read again.
    """

    account = models.ForeignKey(
        ExchangeAccount, on_delete=models.CASCADE, related_name="catch_ups", db_index=False
    )
    symbol = models.CharField(max_length=32)
    caught_up_at = models.DateTimeField(null=True, help_text="When the last complete read began.")
    read_until = models.BigIntegerField(
        null=True,
        help_text="Exchange order ID up to which our book has every order since the first read.",
    )
    own_read_until = models.BigIntegerField(
        null=True, help_text="The same, for our own orders only."
    )
    looked_at = models.DateTimeField(
        null=True, help_text="When the last comparison looked at this symbol, whatever came of it."
    )
    failed_looks = models.PositiveSmallIntegerField(
        default=0, help_text="How many looks in a row have failed. The pauses grow with it."
    )

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "symbol"], name="catch_up_unique_symbol")
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.symbol}"
