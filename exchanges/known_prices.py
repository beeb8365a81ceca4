"""Choose the price that stands for the market of a symbol. Pure, but for one setting."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from django.conf import settings

from exchanges.types import EXACT

# A mid that misses so many of its readings isn't fresh.
_MISSED_READINGS = 3


class PriceSource(StrEnum):
    """The origin of a known price. Attempts store it."""

    MID = "mid"
    LAST_TRADE = "last_trade"


@dataclass(frozen=True, slots=True)
class KnownPrice:
    """A price of the market and its time: when we asked for a mid, when a trade happened."""

    price: Decimal
    at: datetime
    source: PriceSource


def mid_of(bid: Decimal, ask: Decimal) -> Decimal:
    """Return the price halfway between bid and ask, with all its digits."""
    return EXACT.divide(EXACT.add(bid, ask), Decimal(2))


def market_price(
    mid: KnownPrice | None, last_trade: KnownPrice | None, now: datetime
) -> KnownPrice | None:
    """Return a fresh mid, otherwise the newer of the two."""
    fresh_for = timedelta(seconds=_MISSED_READINGS * settings.MID_INTERVAL_SECONDS)
    if mid is not None and now - mid.at <= fresh_for:
        return mid
    known = [price for price in (mid, last_trade) if price is not None]
    return max(known, key=lambda price: price.at, default=None)
