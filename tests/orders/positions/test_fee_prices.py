"""Price commissions directly, by the inverse pair, or by two legs."""

from __future__ import annotations

from decimal import Decimal

import pytest

from orders.positions.fee_prices import fee_price, symbols_for

PRICES = {
    "BNBUSDT": Decimal(600),
    "BTCUSDT": Decimal(60000),
    "EURUSDT": Decimal("1.25"),
    "USDTTRY": Decimal(40),
}


@pytest.mark.parametrize(
    ("asset", "quote", "price"),
    [
        ("BNB", "USDT", "600"),
        ("USDT", "EUR", "0.8"),
        ("BNB", "EUR", "480"),
        ("BNB", "TRY", "24000"),
        ("BNB", "BTC", "0.01"),
        ("XYZ", "USDT", None),
        ("BNB", "PLN", None),
    ],
)
def test_fee_price__by_a_pair_or_two_legs_or_unknown(
    asset: str, quote: str, price: str | None
) -> None:
    found = fee_price(asset, quote, PRICES.get)
    if price is None:
        assert found is None
        return
    assert found is not None
    assert abs(found - Decimal(price)) < Decimal("1e-12")
    assert {"BNBEUR", "EURUSDT", "BNBUSDT"} <= symbols_for("BNB", "EUR")
