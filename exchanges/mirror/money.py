"""Distinguish money from other assets, by the instruments that the exchange lists."""

from __future__ import annotations

from django.conf import settings

from exchanges.models import Instrument


def money_assets(exchange: str, environment: str) -> frozenset[str]:
    """Return the assets that count as money: `MONEY_ASSETS` if it is set, else by the instruments.

    A quote asset is money if bitcoin is priced in it (USDT, EUR, USD1), or if it is itself priced
    in nothing (MXN). So a coin that others are priced in (ETH, BNB) isn't money, and a currency
    that the exchange lists tomorrow needs no setting. `orders.gate.facts` has the same rule in its
    statement.
    """
    if settings.MONEY_ASSETS:
        return frozenset(settings.MONEY_ASSETS)
    rows = Instrument.objects.filter(exchange=exchange, environment=environment)
    pairs = set(rows.order_by().values_list("base_asset", "quote_asset"))
    bases = {base for base, _ in pairs}
    return frozenset(
        quote for _, quote in pairs if ("BTC", quote) in pairs or quote not in {*bases, "BTC"}
    )
