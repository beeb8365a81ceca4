"""Check which known price stands for the market."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from pytest_django.fixtures import Settings

from exchanges.known_prices import KnownPrice, PriceSource, market_price, mid_of

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def known(source: PriceSource, seconds: float | None) -> KnownPrice | None:
    if seconds is None:
        return None
    return KnownPrice(Decimal(1), NOW - timedelta(seconds=seconds), source)


@pytest.mark.parametrize(
    ("mid_age", "trade_age", "source"),
    [
        (None, None, None),
        (None, 900, PriceSource.LAST_TRADE),
        (900, None, PriceSource.MID),
        (30, 1, PriceSource.MID),  # the last trade may be on either side of the spread
        (31, 30, PriceSource.LAST_TRADE),
        (31, 32, PriceSource.MID),
    ],
)
def test_market_price__is_a_fresh_mid_or_the_newer_price(
    settings: Settings, mid_age: float | None, trade_age: float | None, source: PriceSource | None
) -> None:
    settings.MID_INTERVAL_SECONDS = 10
    mid, trade = known(PriceSource.MID, mid_age), known(PriceSource.LAST_TRADE, trade_age)
    found = market_price(mid, trade, NOW)
    assert (found and found.source) == source


def test_mid_of__keeps_every_digit() -> None:
    bid = Decimal("12345678901234567890.123456789012345678")
    ask = Decimal("12345678901234567890.123456789012345679")
    assert mid_of(bid, ask) == Decimal("12345678901234567890.1234567890123456785")
