"""A firm's own limits on one order: pure checks, each with its code and a text that holds both figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from decimal import Decimal

from exchanges.types import EXACT, InstrumentRules, Side, plain
from orders.risk import Denial, Figures

# An order at the market's price may spend more than the last trade says: so much more is counted and held back.
MARKET_MARGIN = Decimal("1.05")
_LAST_DIGIT = Decimal("1e-18")
# A last trade that was asked for longer ago than this is asked for anew.
PRICE_ASKED_WITHIN = timedelta(seconds=5)
# What such an order may spend is worked out from a last trade that was asked for within this time.
PRICE_KNOWN_FOR = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Limits:
    """One row of limits (`models.RiskLimit`); None is unlimited. `id` is None for the built-in ones."""

    id: int | None = None
    currency: str = ""
    allowed_symbols: str = ""
    max_order_notional: Decimal | None = None
    max_notional_per_day: Decimal | None = None
    max_daily_loss: Decimal | None = None
    max_open_orders: int | None = None
    max_orders_per_second: int | None = None
    max_orders_per_day: int | None = None
    max_position: Decimal | None = None
    max_price_distance: Decimal | None = None
    max_price_age: int = 60
    max_identical_orders: int | None = None
    identical_window: int = 10
    symbol: str = ""
    strategy: str = ""

    @property
    def is_about_money(self) -> bool:
        return self.is_about_notional or self.max_daily_loss is not None

    @property
    def is_about_notional(self) -> bool:
        return self.max_order_notional is not None or self.max_notional_per_day is not None

    @property
    def needs_usage(self) -> bool:
        """Whether it counts what was sent before, which takes a lock and a further reading."""
        counted = (
            self.max_notional_per_day,
            self.max_daily_loss,
            self.max_open_orders,
            self.max_orders_per_second,
            self.max_orders_per_day,
            self.max_position,
            self.max_identical_orders,
        )
        return any(limit is not None for limit in counted)


# For each of these that no row of a live account sets.
LIVE_DEFAULTS = Limits(
    max_order_notional=Decimal(1000),
    max_open_orders=50,
    max_orders_per_second=5,
    max_price_distance=Decimal(5),
    max_identical_orders=5,
)


@dataclass(frozen=True, slots=True)
class LastTrade:
    price: Decimal
    traded_at: datetime
    asked_at: datetime


@dataclass(frozen=True, slots=True)
class Usage:
    """What was sent before under one row of limits; `position` with what open buys may add."""

    open_orders: int = 0
    orders_this_second: int = 0
    orders_today: int = 0
    notional_today: Decimal = Decimal(0)
    loss_today: Decimal = Decimal(0)  # realised; negative where it is a gain
    position: Decimal = Decimal(0)
    identical_orders: int = 0


def with_live_defaults(rows: Sequence[Limits], *, in_money: bool) -> list[Limits]:
    """The rows, and the built-in limits for whatever none of them sets.

    A built-in amount is one of money: a thousand BTC an order is no safe limit. Without `in_money`, where the symbol is
    quoted in something else, it is in no currency of the order, and somebody has to set one.
    """
    left = {
        field.name: getattr(LIVE_DEFAULTS, field.name)
        for field in fields(Limits)
        if field.name.startswith("max_")
        and field.name != "max_price_age"
        and all(getattr(row, field.name) is None for row in rows)
    }
    return [*rows, Limits(**left, currency="" if in_money else "money")]


def needs_price(limits: Sequence[Limits], figures: Figures) -> bool:
    """Whether the last trade is needed: to measure a price by, or for what a market order may cost."""
    if any(row.max_price_distance is not None for row in limits) and _own_price(figures) is not None:
        return True
    if figures.quote_quantity is not None and any(row.max_position is not None for row in limits):
        return True
    is_open_ended = _own_price(figures) is None and figures.quote_quantity is None
    return is_open_ended and any(row.is_about_notional for row in limits)


def notional_of(figures: Figures, last: LastTrade | None) -> Decimal | None:
    """What the order is worth in quote. One that takes the market's price is counted at the price that sets it off, or
    at that of the last trade, times `MARKET_MARGIN`.
    """
    if figures.quote_quantity is not None:
        return figures.quote_quantity
    price = figures.price
    if price is None and (expected := figures.stop_price or (last.price if last else None)) is not None:
        price = EXACT.multiply(expected, MARKET_MARGIN)
    if price is None or figures.quantity is None:
        return None
    return EXACT.multiply(price, figures.quantity)


def market_spending(figures: Figures, last: LastTrade | None) -> Decimal | None:
    """What an order at the market's price may spend, with `MARKET_MARGIN`: quote by a buy, base by a sale for an amount
    of quote. None: the last trade is needed, and not known.
    """
    if figures.side is Side.BUY:
        return notional_of(figures, last)
    if figures.quote_quantity is None or last is None:
        return None
    sold = EXACT.divide(EXACT.multiply(figures.quote_quantity, MARKET_MARGIN), last.price)
    return sold.quantize(_LAST_DIGIT, context=EXACT)


def _own_price(figures: Figures) -> Decimal | None:
    return figures.price or figures.stop_price


def check_limits(
    limits: Sequence[Limits], rules: InstrumentRules, figures: Figures, last: LastTrade | None, now: datetime
) -> Denial | None:
    """What the order by itself must keep to; `check_usage` looks at what was sent before it."""
    for row in limits:
        allowed = row.allowed_symbols.upper().replace(",", " ").replace("/", "").split()
        if allowed and rules.symbol not in allowed:
            return Denial("SYMBOL_NOT_ALLOWED", f"{rules.symbol} is not among the allowed {' '.join(allowed)}")
    return _check_money(limits, rules, figures, last) or _check_distances(limits, figures, last, now)


def _check_money(
    limits: Sequence[Limits], rules: InstrumentRules, figures: Figures, last: LastTrade | None
) -> Denial | None:
    about_money = [row for row in limits if row.is_about_money]
    in_currency = [row for row in about_money if row.currency in ("", rules.quote_asset)]
    if about_money and not in_currency:
        have = ", ".join(sorted({row.currency for row in about_money}))
        return Denial("LIMIT_CURRENCY", f"limits are set in {have}, none in {rules.quote_asset}")
    notional = notional_of(figures, last)
    if notional is None and any(row.is_about_notional for row in in_currency):
        return Denial("PRICE_UNKNOWN", f"no trade on {rules.symbol} is known to value the order by")
    for row in in_currency:
        if denial := _over("LIMIT_ORDER_NOTIONAL", "notional", notional, row.max_order_notional, rules.quote_asset):
            return denial
    return None


def _check_distances(
    limits: Sequence[Limits], figures: Figures, last: LastTrade | None, now: datetime
) -> Denial | None:
    denials = (_check_distance(row, figures, last, now) for row in limits)
    return next((denial for denial in denials if denial is not None), None)


def _check_distance(row: Limits, figures: Figures, last: LastTrade | None, now: datetime) -> Denial | None:
    price = _own_price(figures)
    if row.max_price_distance is None or price is None:
        return None
    if last is None:
        return Denial("PRICE_UNKNOWN", "no trade is known to measure the price by")
    age = (now - last.traded_at).total_seconds()
    if age > row.max_price_age:
        return Denial("PRICE_TOO_OLD", f"the last trade is {age:.0f} s old, at most {row.max_price_age} s are allowed")
    distance = EXACT.divide(EXACT.multiply(abs(price - last.price), Decimal(100)), last.price)
    if distance <= row.max_price_distance:
        return None
    text = f"price {plain(price)} is {plain(round(distance, 4))} % away from the last trade at {plain(last.price)}"
    return Denial("LIMIT_PRICE_DISTANCE", f"{text}, at most {plain(row.max_price_distance)} % are allowed")


def check_usage(
    row: Limits, usage: Usage, rules: InstrumentRules, figures: Figures, last: LastTrade | None
) -> Denial | None:
    """What was sent before under this row, with this order on top."""
    day = None
    if row.currency in ("", rules.quote_asset):
        day = EXACT.add(usage.notional_today, notional_of(figures, last) or Decimal(0))
    position = None
    if figures.side is Side.BUY:
        position = EXACT.add(usage.position, _bought(figures, last) or Decimal(0))
    checks = (
        _over("LIMIT_OPEN_ORDERS", "open orders", usage.open_orders + 1, row.max_open_orders),
        _over(
            "LIMIT_ORDERS_PER_SECOND", "orders in this second", usage.orders_this_second + 1, row.max_orders_per_second
        ),
        _over("LIMIT_ORDERS_PER_DAY", "orders today", usage.orders_today + 1, row.max_orders_per_day),
        _over("LIMIT_NOTIONAL_PER_DAY", "notional today", day, row.max_notional_per_day, rules.quote_asset),
        _over("LIMIT_POSITION", "position", position, row.max_position, rules.base_asset),
        _over("LIMIT_REPEATED_ORDER", "identical orders", usage.identical_orders + 1, row.max_identical_orders),
    )
    if denial := next((denial for denial in checks if denial is not None), None):
        return denial
    return check_loss(row, usage.loss_today) if row.currency in ("", rules.quote_asset) else None


def check_loss(row: Limits, loss: Decimal) -> Denial | None:
    """A day's loss stops buys and sells alike: what is meant to close a position may lose more."""
    if row.max_daily_loss is None or loss <= row.max_daily_loss:
        return None
    allowed = f"at most {plain(row.max_daily_loss)} {row.currency} are allowed"
    return Denial("LIMIT_DAILY_LOSS", f"the realised loss of today is {plain(loss)}, {allowed}")


def _bought(figures: Figures, last: LastTrade | None) -> Decimal | None:
    if figures.quantity is not None:
        return figures.quantity
    if figures.quote_quantity is not None and last is not None:
        return EXACT.divide(figures.quote_quantity, last.price)
    return None


def _over(
    code: str, name: str, value: Decimal | int | None, limit: Decimal | int | None, unit: str = ""
) -> Denial | None:
    if value is None or limit is None or value <= limit:
        return None
    shown, allowed = (plain(Decimal(figure)) for figure in (value, limit))
    return Denial(code, f"{name} would be {shown}, at most {allowed} {unit}".rstrip() + " are allowed")
