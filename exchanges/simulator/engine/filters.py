"""Compile the filters of a symbol, an exchange and an account, and check orders with them.

A filter on the order itself fails with -1013 before the engine. A filter on the account's open
orders belongs to the engine and fails with -2010. exchangeInfo shows filter types that are unknown
here, and the engine ignores them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from exchanges.simulator.engine.enums import MARKET_TYPES, OrderType, Side
from exchanges.simulator.engine.types import NO_ID, SCALE, EngineError, NewOrder, units

_T = TypeVar("_T")

REFUSED = -1013
REJECTED = -2010
AMEND_REJECTED = -2038

_TRAILING_ABOVE = frozenset(
    {
        (OrderType.STOP_LOSS, Side.BUY),
        (OrderType.STOP_LOSS_LIMIT, Side.BUY),
        (OrderType.TAKE_PROFIT, Side.SELL),
        (OrderType.TAKE_PROFIT_LIMIT, Side.SELL),
    }
)


def failure(name: str, code: int = REFUSED) -> EngineError:
    return EngineError(code, f"Filter failure: {name}")


def _amount(rule: Mapping[str, Any], key: str, default: str = "0") -> int:
    return units(str(rule.get(key, default)))


@dataclass(frozen=True, slots=True)
class Range:
    """Check a value's minimum, maximum and step, each unless it is 0.

    The step is a plain modulo and doesn't start at the minimum.
    """

    name: str
    minimum: int = 0
    maximum: int = 0
    step: int = 0

    def check(self, value: int) -> None:
        if (
            value < self.minimum
            or (self.maximum and value > self.maximum)
            or (self.step and value % self.step)
        ):
            raise failure(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class PercentPrice:
    """Check a price against the average price. The multipliers are in units."""

    name: str
    bid_up: int
    bid_down: int
    ask_up: int
    ask_down: int
    minutes: int

    def check(self, side: Side, price: int, reference: int) -> None:
        up, down = (
            (self.bid_up, self.bid_down) if side is Side.BUY else (self.ask_up, self.ask_down)
        )
        if not reference * down <= price * SCALE <= reference * up:
            raise failure(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notional:
    name: str
    minimum: int
    maximum: int
    min_to_market: bool
    max_to_market: bool
    minutes: int

    def check(self, exact: int, is_market: bool) -> None:
        """Check a notional. `exact` is price times quantity, both in units and not divided."""
        if exact < self.minimum * SCALE and (self.min_to_market or not is_market):
            raise failure(self.name)
        if self.maximum and exact > self.maximum * SCALE and (self.max_to_market or not is_market):
            raise failure(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailingDelta:
    min_above: int
    max_above: int
    min_below: int
    max_below: int

    def check(self, order_type: OrderType, side: Side, delta: int) -> None:
        above = (order_type, side) in _TRAILING_ABOVE
        low, high = (self.min_above, self.max_above) if above else (self.min_below, self.max_below)
        if not low <= delta <= high:
            raise failure("TRAILING_DELTA")


@dataclass(slots=True)
class OpenOrders:
    """Count an account's open orders, on a symbol or on the exchange."""

    orders: int = 0
    algo: int = 0
    iceberg: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOrderCaps:
    """Cap an account's open orders. -1 is no cap."""

    orders: int = NO_ID
    algo: int = NO_ID
    iceberg: int = NO_ID
    prefix: str = ""

    def check(self, counts: OpenOrders, is_algo: bool, is_iceberg: bool) -> None:
        if self.orders != NO_ID and counts.orders >= self.orders:
            raise failure(self.prefix + "MAX_NUM_ORDERS", REJECTED)
        if is_algo and self.algo != NO_ID and counts.algo >= self.algo:
            raise failure(self.prefix + "MAX_NUM_ALGO_ORDERS", REJECTED)
        if is_iceberg and self.iceberg != NO_ID and counts.iceberg >= self.iceberg:
            raise failure(self.prefix + "MAX_NUM_ICEBERG_ORDERS", REJECTED)


@dataclass(slots=True)
class SymbolFilters:
    """Check orders with all filters of one symbol.

    `average_price(minutes)` is called only if a filter needs it.
    """

    price: Range = Range("PRICE_FILTER")
    lot: Range = Range("LOT_SIZE")
    market_lot: Range = Range("MARKET_LOT_SIZE")
    percent: list[PercentPrice] = field(default_factory=list)
    notional: list[Notional] = field(default_factory=list)
    iceberg_parts: int = 0
    trailing: TrailingDelta | None = None
    caps: OpenOrderCaps = OpenOrderCaps()
    max_position: int = 0
    max_amends: int = NO_ID

    @property
    def average_minutes(self) -> set[int]:
        return {rule.minutes for rule in self.percent} | {rule.minutes for rule in self.notional}

    def check(self, request: NewOrder, average_price: Callable[[int], int]) -> None:
        """Check everything that depends only on the request and the market.

        Raises -1013 with the name of the filter.
        """
        if request.price is not None:
            self._check_price(request, request.price, average_price)
        if request.stop_price is not None:
            self.price.check(request.stop_price)
        market = request.order_type in MARKET_TYPES
        if request.quantity is not None:
            self.lot.check(request.quantity)
            if market:
                self.market_lot.check(request.quantity)
        for notional in self.notional:
            exact = _exact_notional(request, average_price, notional.minutes)
            if exact is not None:
                notional.check(exact, market)
        if request.iceberg_quantity:
            self._check_iceberg(request.quantity or 0, request.iceberg_quantity)
        if request.trailing_delta is not None and self.trailing is not None:
            self.trailing.check(request.order_type, request.side, request.trailing_delta)

    def _check_price(
        self, request: NewOrder, price: int, average_price: Callable[[int], int]
    ) -> None:
        self.price.check(price)
        for percent in self.percent:
            reference = average_price(percent.minutes)
            if reference:
                percent.check(request.side, price, reference)

    def _check_iceberg(self, quantity: int, iceberg_quantity: int) -> None:
        self.lot.check(iceberg_quantity)
        if self.iceberg_parts and -(-quantity // iceberg_quantity) > self.iceberg_parts:
            raise failure("ICEBERG_PARTS")

    def check_amendment(self, price: int, quantity: int, amendments: int) -> None:
        """Check the new quantity of an order that was amended `amendments` times before."""
        self.lot.check(quantity)
        if price:
            for notional in self.notional:
                notional.check(price * quantity, False)
        if self.max_amends != NO_ID and amendments >= self.max_amends:
            raise failure("MAX_NUM_ORDER_AMENDS", AMEND_REJECTED)

    def check_position(self, position: int) -> None:
        """Check the position that the account may reach.

        `position` is its free and locked base asset, plus its open BUY orders, plus the new order.
        """
        if self.max_position and position > self.max_position:
            raise failure("MAX_POSITION", REJECTED)


def _exact_notional(
    request: NewOrder, average_price: Callable[[int], int], minutes: int
) -> int | None:
    if request.quote_quantity is not None:
        return request.quote_quantity * SCALE
    if request.quantity is None:
        return None
    if request.price is not None:
        return request.price * request.quantity
    reference = average_price(minutes) or request.stop_price
    return reference * request.quantity if reference else None


def _percent_price(rule: Mapping[str, Any]) -> PercentPrice:
    up, down = _amount(rule, "multiplierUp"), _amount(rule, "multiplierDown")
    return PercentPrice(
        name="PERCENT_PRICE",
        bid_up=up,
        bid_down=down,
        ask_up=up,
        ask_down=down,
        minutes=int(rule["avgPriceMins"]),
    )


def _percent_price_by_side(rule: Mapping[str, Any]) -> PercentPrice:
    return PercentPrice(
        name="PERCENT_PRICE_BY_SIDE",
        bid_up=_amount(rule, "bidMultiplierUp"),
        bid_down=_amount(rule, "bidMultiplierDown"),
        ask_up=_amount(rule, "askMultiplierUp"),
        ask_down=_amount(rule, "askMultiplierDown"),
        minutes=int(rule["avgPriceMins"]),
    )


def _min_notional(rule: Mapping[str, Any]) -> Notional:
    applies = bool(rule.get("applyToMarket", False))
    return Notional(
        name="MIN_NOTIONAL",
        minimum=_amount(rule, "minNotional"),
        maximum=0,
        min_to_market=applies,
        max_to_market=False,
        minutes=int(rule["avgPriceMins"]),
    )


def _notional(rule: Mapping[str, Any]) -> Notional:
    return Notional(
        name="NOTIONAL",
        minimum=_amount(rule, "minNotional"),
        maximum=_amount(rule, "maxNotional"),
        min_to_market=bool(rule.get("applyMinToMarket", False)),
        max_to_market=bool(rule.get("applyMaxToMarket", False)),
        minutes=int(rule["avgPriceMins"]),
    )


def _range(name: str, rule: Mapping[str, Any], noun: str, step: str) -> Range:
    return Range(
        name,
        minimum=_amount(rule, f"min{noun}"),
        maximum=_amount(rule, f"max{noun}"),
        step=_amount(rule, step),
    )


def _trailing_delta(rule: Mapping[str, Any]) -> TrailingDelta:
    return TrailingDelta(
        min_above=int(rule["minTrailingAboveDelta"]),
        max_above=int(rule["maxTrailingAboveDelta"]),
        min_below=int(rule["minTrailingBelowDelta"]),
        max_below=int(rule["maxTrailingBelowDelta"]),
    )


_CAPS = {
    "MAX_NUM_ORDERS": ("orders", "maxNumOrders"),
    "MAX_NUM_ALGO_ORDERS": ("algo", "maxNumAlgoOrders"),
    "MAX_NUM_ICEBERG_ORDERS": ("iceberg", "maxNumIcebergOrders"),
}


def _caps(rules: Mapping[str, Mapping[str, Any]], prefix: str) -> OpenOrderCaps:
    found = {
        attribute: int(rules[prefix + name][key])
        for name, (attribute, key) in _CAPS.items()
        if prefix + name in rules
    }
    return OpenOrderCaps(
        orders=found.get("orders", NO_ID),
        algo=found.get("algo", NO_ID),
        iceberg=found.get("iceberg", NO_ID),
        prefix=prefix,
    )


def _some(
    rules: Mapping[str, Mapping[str, Any]], name: str, read: Callable[[Mapping[str, Any]], _T]
) -> list[_T]:
    return [read(rules[name])] if name in rules else []


def compile_filters(rules: Iterable[Mapping[str, Any]]) -> SymbolFilters:
    by_type = {str(rule["filterType"]): rule for rule in rules}

    nothing: dict[str, Any] = {}
    parts = by_type.get("ICEBERG_PARTS", nothing)
    trailing = by_type.get("TRAILING_DELTA")
    amends = by_type.get("MAX_NUM_ORDER_AMENDS", nothing)
    return SymbolFilters(
        price=_range("PRICE_FILTER", by_type.get("PRICE_FILTER", nothing), "Price", "tickSize"),
        lot=_range("LOT_SIZE", by_type.get("LOT_SIZE", nothing), "Qty", "stepSize"),
        market_lot=_range(
            "MARKET_LOT_SIZE", by_type.get("MARKET_LOT_SIZE", nothing), "Qty", "stepSize"
        ),
        percent=_some(by_type, "PERCENT_PRICE", _percent_price)
        + _some(by_type, "PERCENT_PRICE_BY_SIDE", _percent_price_by_side),
        notional=_some(by_type, "MIN_NOTIONAL", _min_notional)
        + _some(by_type, "NOTIONAL", _notional),
        iceberg_parts=int(parts.get("limit", 0)),
        trailing=_trailing_delta(trailing) if trailing is not None else None,
        caps=_caps(by_type, ""),
        max_position=_amount(by_type.get("MAX_POSITION", nothing), "maxPosition"),
        max_amends=int(amends.get("maxNumOrderAmends", NO_ID)),
    )


def compile_exchange_filters(rules: Iterable[Mapping[str, Any]]) -> OpenOrderCaps:
    """Compile the EXCHANGE_MAX_NUM_* rules of exchangeInfo's `exchangeFilters`."""
    return _caps({str(rule["filterType"]): rule for rule in rules}, "EXCHANGE_")


def check_assets(
    rules: Iterable[Mapping[str, Any]],
    request: NewOrder,
    base_asset: str,
    quote_asset: str,
    reference: int,
) -> None:
    """Check the MAX_ASSET rules of an account (`myFilters`).

    A rule on the base asset caps the quantity, one on the quote asset caps the notional.
    """
    for rule in rules:
        if rule["filterType"] != "MAX_ASSET":
            continue
        limit = _amount(rule, "limit")
        price = request.price or reference
        notional = request.quote_quantity or (request.quantity or 0) * price // SCALE
        quantity = request.quantity
        if quantity is None and price:
            quantity = notional * SCALE // price
        if (rule["asset"] == base_asset and (quantity or 0) > limit) or (
            rule["asset"] == quote_asset and notional > limit
        ):
            raise failure("MAX_ASSET")
