"""Check amounts against the filters of a symbol, and round them to its steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Decimal
from typing import Any

from exchanges.types import EXACT, OrderType, Side, Unreadable, plain

# The figures of filters that we use.
_FIGURES = {
    "LOT_SIZE": ("minQty", "maxQty", "stepSize"),
    "MARKET_LOT_SIZE": ("minQty", "maxQty", "stepSize"),
    "PRICE_FILTER": ("minPrice", "maxPrice", "tickSize"),
    "PERCENT_PRICE": ("multiplierUp", "multiplierDown"),
    "PERCENT_PRICE_BY_SIDE": (
        "bidMultiplierUp",
        "bidMultiplierDown",
        "askMultiplierUp",
        "askMultiplierDown",
    ),
    "MIN_NOTIONAL": ("minNotional",),
    "NOTIONAL": ("minNotional", "maxNotional"),
}
_MOST_DIGITS = 30


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken filter: `code` is the exchange's name for it, `text` holds both numbers."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class InstrumentRules:
    """Trading rules of one symbol, from an `exchangeInfo` row. Zero or absent: no such rule."""

    symbol: str
    base_asset: str
    quote_asset: str
    status: str
    order_types: frozenset[str]
    filters: Mapping[str, Mapping[str, Any]]
    quote_precision: int = 8
    quote_order_quantity_allowed: bool = True

    @classmethod
    def from_exchange(cls, row: Mapping[str, Any]) -> InstrumentRules:
        """Read one element of exchangeInfo's `symbols`. Unknown fields and filters are harmless.

        Raise ValueError, TypeError or ArithmeticError if a figure that we use can't be read.
        """
        rules = cls(
            symbol=str(row["symbol"]),
            base_asset=str(row["baseAsset"]),
            quote_asset=str(row["quoteAsset"]),
            status=str(row["status"]),
            order_types=frozenset(row.get("orderTypes") or ()),
            filters={str(item["filterType"]): item for item in row.get("filters") or ()},
            quote_precision=int(row.get("quoteAssetPrecision") or row.get("quotePrecision") or 8),
            quote_order_quantity_allowed=bool(row.get("quoteOrderQtyMarketAllowed", True)),
        )
        rules._require_sense(row.get("orderTypes"))
        return rules

    def _require_sense(self, order_types: Any) -> None:
        """Raise an error for what would fail later, in the middle of placing an order."""
        if not isinstance(order_types, list | None):
            raise TypeError("orderTypes")
        if not all(isinstance(name, str) for name in self.order_types):
            raise TypeError("orderTypes")
        if not 0 <= self.quote_precision <= _MOST_DIGITS:
            raise ValueError("quoteAssetPrecision")
        for filter_type, names in _FIGURES.items():
            for name in names:
                figure = self.figure(filter_type, name)
                if not figure.is_finite() or abs(figure.adjusted()) > _MOST_DIGITS:
                    raise ValueError(f"{filter_type}: {name}")

    @property
    def is_trading(self) -> bool:
        return self.status == "TRADING"

    @property
    def is_paused(self) -> bool:
        """Return whether trading is interrupted for a while. Orders can wait until it resumes."""
        return self.status in ("HALT", "BREAK")

    def figure(self, filter_type: str, name: str) -> Decimal:
        """Return one number of one filter, zero where the filter or the number is absent."""
        value = self.filters.get(filter_type, {}).get(name)
        return Decimal(str(value)) if value not in (None, "") else Decimal(0)

    def quantize_quantity(self, quantity: Decimal, *, is_market: bool) -> Decimal:
        """Round down to the lot step (plain multiples of it, as the exchange checks)."""
        for filter_type in ("LOT_SIZE", "MARKET_LOT_SIZE") if is_market else ("LOT_SIZE",):
            quantity = _to_multiple(quantity, self.figure(filter_type, "stepSize"), ROUND_DOWN)
        return quantity

    def quantize_quote_quantity(self, quote_quantity: Decimal) -> Decimal:
        """Round a quote amount down to the precision that the exchange accepts for it."""
        return _to_multiple(quote_quantity, Decimal(1).scaleb(-self.quote_precision), ROUND_DOWN)

    def quantize_price(self, price: Decimal, side: Side) -> Decimal:
        """Round to the tick, never to a worse price for us: a buy down, a sell up."""
        rounding = ROUND_FLOOR if side is Side.BUY else ROUND_CEILING
        return _to_multiple(price, self.figure("PRICE_FILTER", "tickSize"), rounding)

    def check(
        self,
        *,
        side: Side,
        order_type: OrderType,
        quantity: Decimal | None,
        quote_quantity: Decimal | None = None,
        price: Decimal | None = None,
        stop_price: Decimal | None = None,
        reference_price: Decimal | None = None,
    ) -> Violation | None:
        """Return the first filter that rounded amounts break, or None.

        `reference_price` replaces the price of a MARKET order, and the average price that the
        percent filters use. Without it the exchange does those checks.
        """
        is_market = price is None
        checks = (
            self._check_quantity("LOT_SIZE", quantity),
            self._check_quantity(
                "MARKET_LOT_SIZE", quantity if order_type is OrderType.MARKET else None
            ),
            self._check_price(price, "price"),
            self._check_price(stop_price, "stop_price"),
            self._check_percent_price(side, price, reference_price),
            self._check_notional(
                price or reference_price, quantity, quote_quantity, is_market=is_market
            ),
        )
        return next((violation for violation in checks if violation is not None), None)

    def _check_quantity(self, filter_type: str, quantity: Decimal | None) -> Violation | None:
        if quantity is None or filter_type not in self.filters:
            return None
        low, high = self.figure(filter_type, "minQty"), self.figure(filter_type, "maxQty")
        return _outside(filter_type, "quantity", quantity, low, high) or _off_step(
            filter_type, "quantity", quantity, self.figure(filter_type, "stepSize")
        )

    def _check_price(self, price: Decimal | None, name: str) -> Violation | None:
        if price is None:
            return None
        low, high = self.figure("PRICE_FILTER", "minPrice"), self.figure("PRICE_FILTER", "maxPrice")
        return _outside("PRICE_FILTER", name, price, low, high) or _off_step(
            "PRICE_FILTER", name, price, self.figure("PRICE_FILTER", "tickSize")
        )

    def _check_percent_price(
        self, side: Side, price: Decimal | None, reference_price: Decimal | None
    ) -> Violation | None:
        if price is None or reference_price is None:
            return None
        prefix = "bid" if side is Side.BUY else "ask"
        for filter_type, up, down in (
            ("PERCENT_PRICE", "multiplierUp", "multiplierDown"),
            ("PERCENT_PRICE_BY_SIDE", f"{prefix}MultiplierUp", f"{prefix}MultiplierDown"),
        ):
            high = EXACT.multiply(reference_price, self.figure(filter_type, up))
            low = EXACT.multiply(reference_price, self.figure(filter_type, down))
            if violation := _outside(filter_type, "price", price, low, high):
                return violation
        return None

    def _check_notional(
        self,
        price: Decimal | None,
        quantity: Decimal | None,
        quote_quantity: Decimal | None,
        *,
        is_market: bool,
    ) -> Violation | None:
        if quote_quantity is not None:
            notional = quote_quantity
        elif price is not None and quantity is not None:
            notional = EXACT.multiply(price, quantity)
        else:
            return None
        for filter_type, low_name, high_name, low_flag, high_flag in (
            ("MIN_NOTIONAL", "minNotional", "", "applyToMarket", ""),
            ("NOTIONAL", "minNotional", "maxNotional", "applyMinToMarket", "applyMaxToMarket"),
        ):
            rule = self.filters.get(filter_type, {})
            low = (
                self.figure(filter_type, low_name)
                if not is_market or rule.get(low_flag)
                else Decimal(0)
            )
            high = (
                self.figure(filter_type, high_name)
                if not is_market or rule.get(high_flag)
                else Decimal(0)
            )
            if violation := _outside(filter_type, "notional", notional, low, high):
                return violation
        return None


@dataclass(frozen=True, slots=True)
class ExchangeInfo:
    """Instruments and limits (rows of `rateLimits`) from one exchangeInfo."""

    instruments: tuple[InstrumentRules, ...]
    rate_limits: tuple[Mapping[str, Any], ...] = ()
    unreadable: tuple[Unreadable, ...] = ()


def _to_multiple(value: Decimal, step: Decimal, rounding: str) -> Decimal:
    if step <= 0:
        return value
    steps = EXACT.divide(value, step).to_integral_value(rounding=rounding, context=EXACT)
    return EXACT.multiply(steps, step)


# The digits of every step that exchanges have used, say 0.01, 0.02, 0.25 and 0.05.
_STEP_DIGITS = (Decimal(1), Decimal(2), Decimal("2.5"), Decimal(5), Decimal(25))


def may_be_rounded(value: Decimal, rounded: Decimal, rounding: str) -> bool:
    """Return whether `rounded` is `value` on the grid of some step.

    A symbol's step may have been another one when an amount was sent.
    """
    if value == rounded:
        return True
    if rounded <= 0:
        return False
    last_digit = Decimal(1).scaleb(int(rounded.normalize().as_tuple().exponent))
    steps = (EXACT.multiply(last_digit, digits) for digits in _STEP_DIGITS)
    return any(_to_multiple(value, step, rounding) == rounded for step in steps)


def _outside(code: str, name: str, value: Decimal, low: Decimal, high: Decimal) -> Violation | None:
    if low > 0 and value < low:
        return Violation(code, f"{name} {plain(value)} is below the minimum {plain(low)}")
    if high > 0 and value > high:
        return Violation(code, f"{name} {plain(value)} is above the maximum {plain(high)}")
    return None


def _off_step(code: str, name: str, value: Decimal, step: Decimal) -> Violation | None:
    if step > 0 and EXACT.remainder(value, step) != 0:
        return Violation(code, f"{name} {plain(value)} is not a multiple of {plain(step)}")
    return None
