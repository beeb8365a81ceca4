"""Check an order against the firm's own limits.

Pure. Each denial has a stable code, and a text that names both the order's value and the limit.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from exchanges.instrument_rules import InstrumentRules
from exchanges.types import EXACT, Side, plain
from orders.amounts import OrderAmounts
from orders.gate.checks import Denial

# A market order may spend more than the last trade says, so we count and reserve this much more.
MARKET_MARGIN = Decimal("1.05")
_LAST_DIGIT = Decimal("1e-18")
# If we asked for the last trade longer ago than this, we ask again before we check a price limit.
PRICE_FRESH_FOR = timedelta(seconds=5)
# If we asked within this time, the last trade can estimate the spending of a market order.
PRICE_USABLE_FOR = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Limits:
    """One row of limits (`models.RiskLimit`). None is unlimited, and the built-in row has no id."""

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
    until: datetime | None = None  # of a temporary row

    @property
    def scope(self) -> tuple[str, str]:
        return self.symbol, self.strategy

    @property
    def symbols(self) -> list[str]:
        """Return the allowed symbols. None: every symbol is allowed."""
        return self.allowed_symbols.upper().replace(",", " ").replace("/", "").split()

    def is_in(self, asset: str) -> bool:
        """Return whether the amounts are in this asset. The built-in ones are in any money."""
        return self.currency in ("", asset)

    @property
    def place(self) -> tuple[tuple[str, str], str]:
        """Return the key that a temporary row shares with the lasting row that it replaces."""
        return self.scope, self.currency

    @property
    def is_about_notional(self) -> bool:
        return self.max_order_notional is not None or self.max_notional_per_day is not None

    @property
    def needs_usage(self) -> bool:
        """Return whether a limit counts earlier orders, which takes a lock and one more read."""
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


PRICE_TOO_OLD = "PRICE_TOO_OLD"
LOSS_UNKNOWN = "LOSS_UNKNOWN"

# Fields that are amounts of a currency. The others count for orders of every currency.
MONEY_FIELDS = ("max_order_notional", "max_notional_per_day", "max_daily_loss")
# Limits of a live account, each used unless a row for the whole account sets it.
LIVE_DEFAULTS = Limits(
    max_order_notional=Decimal(1000),
    max_open_orders=50,
    max_orders_per_second=5,
    max_price_distance=Decimal(5),
    max_identical_orders=5,
)


def limits_of_row(row: Any) -> Limits:
    """Return the values of a `models.RiskLimit`."""
    return Limits(**{field.name: getattr(row, field.name) for field in fields(Limits)})


def in_force(rows: Sequence[Limits], now: datetime) -> Sequence[Limits]:
    """Return the rows that count now. A temporary row replaces the lasting one of its scope and
    currency until its end.
    """
    if all(row.until is None for row in rows):
        return rows
    temporary = [row for row in rows if row.until is not None and now < row.until]
    replaced = {row.place for row in temporary}
    lasting = [row for row in rows if row.until is None]
    return [*(row for row in lasting if row.place not in replaced), *temporary]


@dataclass(frozen=True, slots=True)
class LastTrade:
    price: Decimal
    traded_at: datetime
    asked_at: datetime


@dataclass(frozen=True, slots=True)
class Usage:
    """The earlier orders that one limit row counts. `position` includes open buys."""

    open_orders: int = 0
    orders_this_second: int = 0
    orders_today: int = 0
    notional_today: Decimal = Decimal(0)
    loss_today: Decimal = Decimal(0)  # realized. Negative if it is a gain
    unpriced_fees: frozenset[str] = frozenset()  # assets whose commissions it lacks
    position: Decimal = Decimal(0)
    identical_orders: int = 0


def with_live_defaults(rows: Sequence[Limits], *, quote_asset: str, in_money: bool) -> list[Limits]:
    """Return the rows and a built-in row for the limits that no row for the whole account sets.

    Only a row of the same scope and of the order's currency replaces a built-in limit. A row for a
    symbol, for a strategy (which the bot names itself) or in another currency only tightens.

    A built-in amount is an amount of money, because a thousand BTC per order would not be safe. If
    the symbol is quoted in another asset (`in_money` is false), its currency fits no order, so
    someone has to set a limit first.
    """
    own = [row for row in rows if row.scope == ("", "") and row.is_in(quote_asset)]
    unset = {
        field.name: getattr(LIVE_DEFAULTS, field.name)
        for field in fields(Limits)
        if field.name.startswith("max_")
        and field.name != "max_price_age"
        and all(getattr(row, field.name) is None for row in own)
    }
    return [*rows, Limits(**unset, currency="" if in_money else "money")]


def needs_price(limits: Sequence[Limits], amounts: OrderAmounts) -> bool:
    """Return whether a limit needs the last trade, to check a price or value a market order."""
    if (
        any(row.max_price_distance is not None for row in limits)
        and _own_price(amounts) is not None
    ):
        return True
    if amounts.quote_quantity is not None and any(row.max_position is not None for row in limits):
        return True
    is_open_ended = _own_price(amounts) is None and amounts.quote_quantity is None
    return is_open_ended and any(row.is_about_notional for row in limits)


def notional_of(amounts: OrderAmounts, last: LastTrade | None) -> Decimal | None:
    """Return the order's value in the quote asset. Return None if it needs the last trade.

    An order at the market's price is valued at its stop price, or else at the last trade's price,
    times `MARKET_MARGIN`.
    """
    if amounts.quote_quantity is not None:
        return amounts.quote_quantity
    price = amounts.price
    if (
        price is None
        and (expected := amounts.stop_price or (last.price if last else None)) is not None
    ):
        price = EXACT.multiply(expected, MARKET_MARGIN)
    if price is None or amounts.quantity is None:
        return None
    return EXACT.multiply(price, amounts.quantity)


def market_spending(amounts: OrderAmounts, last: LastTrade | None) -> Decimal | None:
    """Return the most that an order at the market's price may spend, with `MARKET_MARGIN`.

    A buy spends quote, and a sale for an amount of quote spends base. None if it needs the last
    trade and that is unknown.
    """
    if amounts.side is Side.BUY:
        return notional_of(amounts, last)
    if amounts.quote_quantity is None or last is None:
        return None
    sold = EXACT.divide(EXACT.multiply(amounts.quote_quantity, MARKET_MARGIN), last.price)
    return sold.quantize(_LAST_DIGIT, context=EXACT)


def _own_price(amounts: OrderAmounts) -> Decimal | None:
    return amounts.price or amounts.stop_price


def check_limits(
    limits: Sequence[Limits],
    rules: InstrumentRules,
    amounts: OrderAmounts,
    last: LastTrade | None,
    now: datetime,
) -> Denial | None:
    """Check the order by itself. `check_usage` adds the earlier orders."""
    for row in limits:
        allowed = row.symbols
        if allowed and rules.symbol not in allowed:
            return Denial(
                "SYMBOL_NOT_ALLOWED",
                f"{rules.symbol} is not one of the allowed symbols {' '.join(allowed)}",
            )
    return _check_money(limits, rules, amounts, last) or _check_distances(
        limits, amounts, last, now
    )


def _check_money(
    limits: Sequence[Limits], rules: InstrumentRules, amounts: OrderAmounts, last: LastTrade | None
) -> Denial | None:
    if denial := _check_currencies(limits, rules.quote_asset):
        return denial
    in_currency = [row for row in limits if row.is_in(rules.quote_asset)]
    notional = notional_of(amounts, last)
    if notional is None and any(row.is_about_notional for row in in_currency):
        return Denial(
            "PRICE_UNKNOWN",
            f"no last trade on {rules.symbol} is known to value the order",
        )
    for row in in_currency:
        if denial := _over(
            "LIMIT_ORDER_NOTIONAL", "notional", notional, row.max_order_notional, rules.quote_asset
        ):
            return denial
    return None


def _check_currencies(limits: Sequence[Limits], quote_asset: str) -> Denial | None:
    """Check that an amount that is limited in one currency is limited in the order's, too.

    That goes for each amount and each scope by itself, so only the missing limit, and no other new
    row, lets such an order through.
    """
    for name in MONEY_FIELDS:
        rows = [row for row in limits if getattr(row, name) is not None]
        limited = {row.scope for row in rows if row.is_in(quote_asset)}
        foreign = {row.currency for row in rows if row.scope not in limited}
        if foreign:
            have = ", ".join(sorted(foreign))
            return Denial(
                "LIMIT_CURRENCY", f"limits are set in {have}, but none in {quote_asset} ({name})"
            )
    return None


def _check_distances(
    limits: Sequence[Limits], amounts: OrderAmounts, last: LastTrade | None, now: datetime
) -> Denial | None:
    denials = (_check_distance(row, amounts, last, now) for row in limits)
    return next((denial for denial in denials if denial is not None), None)


def _check_distance(
    row: Limits, amounts: OrderAmounts, last: LastTrade | None, now: datetime
) -> Denial | None:
    price = _own_price(amounts)
    if row.max_price_distance is None or price is None:
        return None
    if last is None:
        return Denial("PRICE_UNKNOWN", "no last trade is known to compare the price with")
    age = (now - last.traded_at).total_seconds()
    if age > row.max_price_age:
        if amounts.side is Side.SELL:
            return None  # an exit must not wait for a trade on a thin market
        return Denial(
            PRICE_TOO_OLD,
            f"the last trade is {age:.0f} s old, at most {row.max_price_age} s are allowed",
        )
    distance = EXACT.divide(EXACT.multiply(abs(price - last.price), Decimal(100)), last.price)
    if distance <= row.max_price_distance:
        return None
    away = f"{plain(round(distance, 4))} % away from the last trade at {plain(last.price)}"
    text = f"price {plain(price)} is {away}"
    return Denial(
        "LIMIT_PRICE_DISTANCE", f"{text}, at most {plain(row.max_price_distance)} % are allowed"
    )


def check_usage(
    row: Limits, usage: Usage, rules: InstrumentRules, amounts: OrderAmounts, last: LastTrade | None
) -> Denial | None:
    """Check this order on top of the earlier orders that the row counts."""
    day = None
    if row.is_in(rules.quote_asset):
        day = EXACT.add(usage.notional_today, notional_of(amounts, last) or Decimal(0))
    position = None
    if amounts.side is Side.BUY:
        position = EXACT.add(usage.position, _bought(amounts, last) or Decimal(0))
    checks = (
        _over("LIMIT_OPEN_ORDERS", "open orders", usage.open_orders + 1, row.max_open_orders),
        _over(
            "LIMIT_ORDERS_PER_SECOND",
            "orders in this second",
            usage.orders_this_second + 1,
            row.max_orders_per_second,
        ),
        _over(
            "LIMIT_ORDERS_PER_DAY", "orders today", usage.orders_today + 1, row.max_orders_per_day
        ),
        _over(
            "LIMIT_NOTIONAL_PER_DAY",
            "notional today",
            day,
            row.max_notional_per_day,
            rules.quote_asset,
        ),
        _over("LIMIT_POSITION", "position", position, row.max_position, rules.base_asset),
        _over(
            "LIMIT_REPEATED_ORDER",
            "identical orders",
            usage.identical_orders + 1,
            row.max_identical_orders,
        ),
    )
    if denial := next((denial for denial in checks if denial is not None), None):
        return denial
    if not row.is_in(rules.quote_asset):
        return None
    denial = check_loss(row, usage.loss_today, usage.unpriced_fees)
    # A sale lowers the risk, so a price that is missing must not stop it.
    is_exit = amounts.side is Side.SELL
    return None if denial and denial.code == LOSS_UNKNOWN and is_exit else denial


def check_loss(row: Limits, loss: Decimal, unpriced: Collection[str] = ()) -> Denial | None:
    """Check the day's loss. It stops sells, too: an order that closes a position may lose more.

    The loss lacks the commissions in `unpriced` assets. They only add to it, so it is unknown
    whether a loss below the limit is within it.
    """
    if row.max_daily_loss is None:
        return None
    if loss <= row.max_daily_loss:
        if not unpriced:
            return None
        fees = f"today's commissions in {', '.join(sorted(unpriced))} have no price"
        text = f"{fees} in {row.currency}, so today's realized loss of at least {plain(loss)}"
        return Denial(LOSS_UNKNOWN, f"{text} may be over the limit of {plain(row.max_daily_loss)}")
    allowed = f"at most {plain(row.max_daily_loss)} {row.currency} are allowed"
    return Denial("LIMIT_DAILY_LOSS", f"today's realized loss is {plain(loss)}, {allowed}")


def _bought(amounts: OrderAmounts, last: LastTrade | None) -> Decimal | None:
    if amounts.quantity is not None:
        return amounts.quantity
    if amounts.quote_quantity is not None and last is not None:
        return EXACT.divide(amounts.quote_quantity, last.price)
    return None


def _over(
    code: str, name: str, value: Decimal | int | None, limit: Decimal | int | None, unit: str = ""
) -> Denial | None:
    if value is None or limit is None or value <= limit:
        return None
    shown, allowed = (plain(Decimal(number)) for number in (value, limit))
    return Denial(
        code, f"{name} would be {shown}, at most {allowed} {unit}".rstrip() + " are allowed"
    )
