"""Price a commission's asset in a position's quote asset, directly or by two legs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal

from exchanges.types import EXACT

PriceOf = Callable[[str], Decimal | None]

# Assets that most other assets trade against.
LEGS = ("USDT", "USDC", "FDUSD", "BTC", "ETH", "BNB")
_DIGITS = Decimal("1e-18")
_ONE = Decimal(1)


def symbols_for(asset: str, quote: str) -> set[str]:
    """Return the symbols that may price the asset in the quote asset."""
    pairs = [(asset, quote)]
    pairs += [pair for leg in LEGS for pair in ((asset, leg), (leg, quote))]
    return {name for one, other in pairs if one != other for name in (one + other, other + one)}


def fee_price(asset: str, quote: str, price_of: PriceOf) -> Decimal | None:
    """Return the asset's price in the quote asset. None: no pair and no two legs have a price."""
    direct = _pair(asset, quote, price_of)
    if direct is not None:
        return direct
    return _first(_two_legs(asset, leg, quote, price_of) for leg in LEGS)


def _two_legs(asset: str, leg: str, quote: str, price_of: PriceOf) -> Decimal | None:
    first, second = _pair(asset, leg, price_of), _pair(leg, quote, price_of)
    if first is None or second is None:
        return None
    return EXACT.multiply(first, second).quantize(_DIGITS, context=EXACT)


def _pair(one: str, other: str, price_of: PriceOf) -> Decimal | None:
    """Return the price of one asset in another one, from either pair."""
    price = price_of(one + other)
    if price is not None:
        return price
    inverse = price_of(other + one)
    if inverse is None or not inverse:
        return None
    return EXACT.divide(_ONE, inverse).quantize(_DIGITS, context=EXACT)


def _first(prices: Iterable[Decimal | None]) -> Decimal | None:
    return next((price for price in prices if price is not None), None)
