"""What crosses the border to an exchange, as plain values: enums in the exchange's words and frozen reports.

Pure: no ORM, no ccxt, no clock. Quantities and prices are `Decimal`, times are aware UTC datetimes, and milliseconds
since the epoch (`*_ms`) appear only where the exchange signs or compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Context, Decimal
from enum import StrEnum
from typing import Any


class Side(StrEnum):
    BUY = "BUY"
    SELL = "SELL"


class OrderType(StrEnum):
    MARKET = "MARKET"
    LIMIT = "LIMIT"
    LIMIT_MAKER = "LIMIT_MAKER"
    STOP_LOSS = "STOP_LOSS"
    STOP_LOSS_LIMIT = "STOP_LOSS_LIMIT"
    TAKE_PROFIT = "TAKE_PROFIT"
    TAKE_PROFIT_LIMIT = "TAKE_PROFIT_LIMIT"


class TimeInForce(StrEnum):
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"


class ExchangeStatus(StrEnum):
    """Order status in Binance's words (enums.md). A word not listed here stays a plain string in the report."""

    NEW = "NEW"
    PENDING_NEW = "PENDING_NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    PENDING_CANCEL = "PENDING_CANCEL"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    EXPIRED_IN_MATCH = "EXPIRED_IN_MATCH"


class ReportSource(StrEnum):
    """Which message a report was read from; kept on the events it causes."""

    PLACE = "PLACE"
    CANCEL = "CANCEL"
    QUERY = "QUERY"
    OPEN_ORDERS = "OPEN_ORDERS"
    ALL_ORDERS = "ALL_ORDERS"
    TRADES = "TRADES"
    STREAM = "STREAM"


# Wide enough for a product of two 38-digit figures: the default 28 digits would round, or refuse a remainder.
EXACT = Context(prec=96)

LIMIT_TYPES = frozenset(
    {OrderType.LIMIT, OrderType.LIMIT_MAKER, OrderType.STOP_LOSS_LIMIT, OrderType.TAKE_PROFIT_LIMIT}
)
STOP_TYPES = frozenset(
    {OrderType.STOP_LOSS, OrderType.STOP_LOSS_LIMIT, OrderType.TAKE_PROFIT, OrderType.TAKE_PROFIT_LIMIT}
)
TIME_IN_FORCE_TYPES = frozenset({OrderType.LIMIT, OrderType.STOP_LOSS_LIMIT, OrderType.TAKE_PROFIT_LIMIT})


def plain(value: Decimal) -> str:
    """Decimal as digits with an optional point: no exponent, no trailing zeros (`Decimal("1E+2")` -> `"100"`)."""
    text = f"{value:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("", "-0") else text


def from_ms(milliseconds: int | str) -> datetime:
    """Milliseconds since the epoch -> aware UTC, without passing through a float."""
    seconds, rest = divmod(int(milliseconds), 1000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest * 1000)


def to_ms(moment: datetime) -> int:
    """Aware datetime -> whole milliseconds since the epoch, rounded down."""
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """One request to place an order, complete with what was committed before sending.

    `timestamp_ms` and `recv_window_ms` are signed exactly as given: they are the fence that makes the exchange itself
    refuse a sender who wakes up late.
    """

    symbol: str
    side: Side
    order_type: OrderType
    client_order_id: str
    timestamp_ms: int
    recv_window_ms: int
    quantity: Decimal | None = None
    quote_quantity: Decimal | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce | None = None


@dataclass(frozen=True, slots=True)
class FillReport:
    """One trade of one of our orders. `client_order_id` is None where the source has none (myTrades)."""

    symbol: str
    trade_id: str
    exchange_order_id: str
    side: Side
    quantity: Decimal
    price: Decimal
    quote_quantity: Decimal
    commission: Decimal
    commission_asset: str
    is_maker: bool | None
    traded_at: datetime
    client_order_id: str | None = None


@dataclass(frozen=True, slots=True)
class OrderReport:
    """What the exchange said about one order, at one moment.

    `status` is an `ExchangeStatus` or, for a word we do not know, the word itself. `filled_quote_quantity` is None
    where the exchange says it is unavailable (negative for some historical orders). `fills` are the trades that this
    very message carried, not all of the order's. `reason` is the exchange's word for why it ended (`expiryReason`,
    reject reason), empty if none. `raw` is the message itself, for the record; it never holds a credential.
    """

    source: ReportSource
    symbol: str
    client_order_id: str
    exchange_order_id: str
    status: str
    side: Side
    order_type: str
    time_in_force: str
    quantity: Decimal
    price: Decimal
    filled_quantity: Decimal
    filled_quote_quantity: Decimal | None
    updated_at: datetime
    created_at: datetime | None = None
    quote_quantity: Decimal | None = None
    stop_price: Decimal | None = None
    execution_type: str = ""
    reason: str = ""
    fills: tuple[FillReport, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BalanceReport:
    """Free and locked amount of one asset; `updated_at` is the exchange's time of the figure."""

    asset: str
    free: Decimal
    locked: Decimal
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class AccountReport:
    """Every non-zero balance of an account at one moment, and whether the account may trade."""

    balances: tuple[BalanceReport, ...]
    can_trade: bool
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class TradeReport:
    """The last trade of anybody on a symbol."""

    symbol: str
    price: Decimal
    traded_at: datetime


@dataclass(frozen=True, slots=True)
class KeyPermissions:
    """What an API key may do. `granted` holds the names of the dangerous permissions that it has."""

    has_ip_list: bool
    granted: frozenset[str]


@dataclass(frozen=True, slots=True)
class Violation:
    """Why a figure does not pass: `code` is the exchange's filter name, `text` holds both figures."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class InstrumentRules:
    """Trading rules of one symbol, from an `exchangeInfo` row. Zero or absent means that a rule is off."""

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
        """Read one element of exchangeInfo's `symbols`. Unknown fields and filters are kept and ignored."""
        return cls(
            symbol=str(row["symbol"]),
            base_asset=str(row["baseAsset"]),
            quote_asset=str(row["quoteAsset"]),
            status=str(row["status"]),
            order_types=frozenset(row.get("orderTypes") or ()),
            filters={str(item["filterType"]): item for item in row.get("filters") or ()},
            quote_precision=int(row.get("quoteAssetPrecision") or row.get("quotePrecision") or 8),
            quote_order_quantity_allowed=bool(row.get("quoteOrderQtyMarketAllowed", True)),
        )

    @property
    def is_trading(self) -> bool:
        return self.status == "TRADING"

    @property
    def is_paused(self) -> bool:
        """Trading is interrupted and goes on by itself: what is wanted meanwhile waits for it."""
        return self.status in ("HALT", "BREAK")

    def figure(self, filter_type: str, name: str) -> Decimal:
        """One figure of one filter; zero where the filter or the figure is absent."""
        value = self.filters.get(filter_type, {}).get(name)
        return Decimal(str(value)) if value not in (None, "") else Decimal(0)

    def quantise_quantity(self, quantity: Decimal, *, is_market: bool) -> Decimal:
        """Round down to the lot step (plain multiples of it, as the exchange checks)."""
        for filter_type in ("LOT_SIZE", "MARKET_LOT_SIZE") if is_market else ("LOT_SIZE",):
            quantity = _to_multiple(quantity, self.figure(filter_type, "stepSize"), ROUND_DOWN)
        return quantity

    def quantise_quote_quantity(self, quote_quantity: Decimal) -> Decimal:
        """Round a quote amount down to the precision that the exchange accepts for it."""
        return _to_multiple(quote_quantity, Decimal(1).scaleb(-self.quote_precision), ROUND_DOWN)

    def quantise_price(self, price: Decimal, side: Side) -> Decimal:
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
        """The first filter that quantised figures break, or None.

        `reference_price` stands in for the price of a MARKET order and for the average price that the percent filters
        use; without one those checks are left to the exchange.
        """
        is_market = price is None
        checks = (
            self._check_quantity("LOT_SIZE", quantity),
            self._check_quantity("MARKET_LOT_SIZE", quantity if order_type is OrderType.MARKET else None),
            self._check_price(price, "price"),
            self._check_price(stop_price, "stop_price"),
            self._check_percent_price(side, price, reference_price),
            self._check_notional(price or reference_price, quantity, quote_quantity, is_market=is_market),
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
        self, price: Decimal | None, quantity: Decimal | None, quote_quantity: Decimal | None, *, is_market: bool
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
            low = self.figure(filter_type, low_name) if not is_market or rule.get(low_flag) else Decimal(0)
            high = self.figure(filter_type, high_name) if not is_market or rule.get(high_flag) else Decimal(0)
            if violation := _outside(filter_type, "notional", notional, low, high):
                return violation
        return None


@dataclass(frozen=True, slots=True)
class ExchangeInfo:
    """What an exchange says of itself: its instruments, and its limits as rows of `rateLimits`."""

    instruments: tuple[InstrumentRules, ...]
    rate_limits: tuple[Mapping[str, Any], ...] = ()


def _to_multiple(value: Decimal, step: Decimal, rounding: str) -> Decimal:
    if step <= 0:
        return value
    steps = EXACT.divide(value, step).to_integral_value(rounding=rounding, context=EXACT)
    return EXACT.multiply(steps, step)


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
