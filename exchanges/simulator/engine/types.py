"""Define the values of the matching engine: symbols, accounts, requests, orders and trades.

Quantities, prices, amounts and rates are **units**: integers of 1e-8 (`SCALE`), so `1.5` is
`150_000_000`. The notional of a price and a quantity is `price * quantity // SCALE`, rounded down
as the exchange does. Times are integers, microseconds since the epoch. `text`, `units` and
`to_decimal` convert at the edge.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from exchanges.simulator.engine.enums import (
    ExpiryReason,
    OrderStatus,
    OrderType,
    Side,
    StpMode,
    TimeInForce,
)

SCALE = 100_000_000
DECIMALS = 8
NO_ID = -1
BASIS_POINTS = 10_000


def units(value: str | Decimal | int) -> int:
    """Return a decimal as units. Raise ValueError if it isn't finite or has over 8 decimals."""
    number = Decimal(value)
    if not number.is_finite():
        raise ValueError(f"{value} is not a finite number")
    scaled = number.scaleb(DECIMALS)
    whole = int(scaled)
    if whole != scaled:
        raise ValueError(f"{value} has more than {DECIMALS} decimals")
    return whole


def to_decimal(value: int) -> Decimal:
    return Decimal(value).scaleb(-DECIMALS)


def text(value: int) -> str:
    """Return units as the exchange prints them, always with eight decimals."""
    if value < 0:
        return "-" + text(-value)
    return f"{value // SCALE}.{value % SCALE:08d}"


class EngineError(Exception):
    """Signal a refusal of the exchange. Its API answers with `code` and `message`."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """State commission rates in units: 0.001 is 100_000.

    A trade pays the rate of its role (maker or taker) plus the rate of its side.
    """

    maker: int = 0
    taker: int = 0
    buyer: int = 0
    seller: int = 0

    def of(self, side: Side, is_maker: bool) -> int:
        """Return the rate that one side of a trade pays."""
        return (self.maker if is_maker else self.taker) + (
            self.buyer if side is Side.BUY else self.seller
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Commission:
    """State an account's commission on one symbol.

    `discount` is the factor that an account pays of the standard commission if it pays in the
    discount asset: 75_000_000 is three quarters. The exchange publishes the calculation that way.
    """

    standard: Rates = Rates(maker=100_000, taker=100_000)
    special: Rates = Rates()
    tax: Rates = Rates()
    discount_enabled_for_account: bool = False
    discount_enabled_for_symbol: bool = True
    discount_asset: str = "BNB"
    discount: int = 75_000_000


@dataclass(slots=True, kw_only=True)
class Balance:
    """Count an account's amount of one asset.

    Open orders lock `in_orders`, and a system outside of the exchange locks `external`. `step`
    marks the balances that the ledger has seen in the current step.
    """

    free: int = 0
    in_orders: int = 0
    external: int = 0
    step: int = field(default=NO_ID, compare=False, repr=False)

    @property
    def locked(self) -> int:
        return self.in_orders + self.external


@dataclass(slots=True)
class Account:
    """Describe one account or subaccount.

    Accounts with the same `trade_group_id` also count as one for self-trade prevention. -1 is no
    group: then the exchange prevents only trades of the account with itself.
    """

    account_id: str
    commission: Commission = Commission()
    symbol_commissions: dict[str, Commission] = field(default_factory=dict)
    trade_group_id: int = NO_ID
    can_trade: bool = True
    can_withdraw: bool = True
    can_deposit: bool = True
    permissions: tuple[str, ...] = ("SPOT",)
    forbidden_symbols: set[str] = field(default_factory=set)
    asset_filters: tuple[dict[str, Any], ...] = ()
    is_house: bool = False
    uid: int = 0
    updated_at: int = 0
    balances: dict[str, Balance] = field(default_factory=dict)

    def commission_for(self, symbol: str) -> Commission:
        return self.symbol_commissions.get(symbol, self.commission)


@dataclass(slots=True)
class NewOrder:
    """Carry the parameters of a placement. None stands for an absent parameter."""

    symbol: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce | None = None
    _: KW_ONLY
    quantity: int | None = None
    quote_quantity: int | None = None
    price: int | None = None
    stop_price: int | None = None
    trailing_delta: int | None = None
    iceberg_quantity: int | None = None
    client_order_id: str | None = None
    stp_mode: StpMode | None = None
    strategy_id: int | None = None
    strategy_type: int | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Order:
    """Describe an accepted order. The engine changes it until it closes.

    `order_id` is unique per symbol only. `price` is 0 for market types, `stop_price` is 0 for
    orders without a stop price. For a quoteOrderQty order the engine works out `quantity`.
    `working_at` is None until the order was on the book or executed, `trailing_at` until it began
    to trail, and `prevented_match_id` until self-trade prevention affected it.
    """

    account: Account
    symbol: str
    order_id: int
    client_order_id: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    quantity: int
    price: int
    stp_mode: StpMode
    created_at: int
    updated_at: int
    quote_quantity: int = 0
    stop_price: int = 0
    trailing_delta: int | None = None
    iceberg_quantity: int = 0
    strategy_id: int | None = None
    strategy_type: int | None = None
    status: OrderStatus = OrderStatus.NEW
    executed_quantity: int = 0
    executed_quote: int = 0
    prevented_quantity: int = 0
    prevented_match_id: int | None = None
    is_working: bool = False
    working_at: int | None = None
    trailing_at: int | None = None
    expiry_reason: ExpiryReason = ExpiryReason.NONE
    order_list_id: int = NO_ID
    # The engine's own notes about the order.
    locked: int = 0
    visible: int = 0
    lock_price: int = 0
    trailing_extreme: int = 0
    history: list[OrderState] = field(default_factory=list)
    amendments: list[Amendment] = field(default_factory=list, repr=False)
    archived: bool = False

    @property
    def account_id(self) -> str:
        return self.account.account_id

    @property
    def remaining(self) -> int:
        """Return the quantity that can still execute."""
        return self.quantity - self.executed_quantity - self.prevented_quantity

    @property
    def is_open(self) -> bool:
        return self.status is OrderStatus.NEW or self.status is OrderStatus.PARTIALLY_FILLED


class OrderState(NamedTuple):
    """Record the changing fields of an order, as they were from `at` on."""

    at: int
    status: OrderStatus
    executed_quantity: int
    executed_quote: int
    prevented_quantity: int
    prevented_match_id: int | None
    is_working: bool
    working_at: int | None
    trailing_at: int | None
    expiry_reason: ExpiryReason
    quantity: int
    client_order_id: str


class Amendment(NamedTuple):
    """Record that an order got a smaller quantity, and perhaps another client order id."""

    order: Order
    execution_id: int
    transact_time: int
    orig_client_order_id: str
    new_client_order_id: str
    orig_quantity: int
    new_quantity: int


class Trade(NamedTuple):
    """Describe one side of a trade, as its account sees it."""

    symbol: str
    trade_id: int
    order_id: int
    client_order_id: str
    account_id: str
    side: Side
    price: int
    quantity: int
    quote_quantity: int
    commission: int
    commission_asset: str
    is_maker: bool
    time: int


class PublicTrade(NamedTuple):
    """Describe a trade as everyone sees it."""

    trade_id: int
    price: int
    quantity: int
    quote_quantity: int
    time: int
    buyer_is_maker: bool


@dataclass(slots=True, kw_only=True)
class AggregateTrade:
    """Sum up the trades of one taker order at one price and time."""

    aggregate_id: int
    price: int
    quantity: int
    first_trade_id: int
    last_trade_id: int
    time: int
    buyer_is_maker: bool


@dataclass(slots=True, kw_only=True)
class Bar:
    """Sum up the trades of one candle. `opened_at` is in microseconds."""

    opened_at: int
    open: int
    high: int
    low: int
    close: int
    volume: int = 0
    quote_volume: int = 0
    trades: int = 0
    taker_buy_volume: int = 0
    taker_buy_quote_volume: int = 0
    first_trade_id: int = NO_ID
    last_trade_id: int = NO_ID

    @classmethod
    def opening(cls, opened_at: int, price: int) -> Bar:
        """Return a candle without a trade yet."""
        return cls(opened_at=opened_at, open=price, high=price, low=price, close=price)

    def add(self, trade: PublicTrade) -> None:
        trade_id, price, quantity, quote, _, buyer_is_maker = trade
        self.high = max(self.high, price)
        self.low = min(self.low, price)
        self.close = price
        self.volume += quantity
        self.quote_volume += quote
        self.trades += 1
        if not buyer_is_maker:
            self.taker_buy_volume += quantity
            self.taker_buy_quote_volume += quote
        if self.first_trade_id == NO_ID:
            self.first_trade_id = trade_id
        self.last_trade_id = trade_id


@dataclass(frozen=True, slots=True, kw_only=True)
class PreventedMatch:
    """Describe a trade that self-trade prevention prevented."""

    symbol: str
    prevented_match_id: int
    taker_order_id: int
    maker_order_id: int
    taker_account_id: str
    maker_account_id: str
    trade_group_id: int
    stp_mode: StpMode
    price: int
    taker_prevented_quantity: int | None
    maker_prevented_quantity: int | None
    time: int


class Placement(NamedTuple):
    """Carry the result of a placement before any orders that it triggered.

    The answers ACK, RESULT and FULL are made from it.
    """

    order: Order
    state: OrderState
    fills: tuple[Trade, ...]
    prevented_matches: tuple[PreventedMatch, ...]


class Cancellation(NamedTuple):
    """Carry the result of a cancel request. `client_order_id` is the id of the request itself."""

    order: Order
    client_order_id: str
    transact_time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """Show both sides of a book as (price, quantity), best price first."""

    last_update_id: int
    bids: tuple[tuple[int, int], ...]
    asks: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DayStats:
    """Sum up a day for ticker/24hr. Without a trade, the trade ids are -1 and the prices 0."""

    opened_at: int
    closed_at: int
    open: int
    high: int
    low: int
    last: int
    previous_close: int
    last_quantity: int
    volume: int
    quote_volume: int
    first_trade_id: int
    last_trade_id: int
    trades: int


@dataclass(frozen=True, slots=True)
class OrderLimit:
    """Limit the unfilled orders in a fixed window. A `limit` of 0 switches the limit off."""

    interval: str
    interval_num: int
    limit: int

    @property
    def microseconds(self) -> int:
        seconds = {"SECOND": 1, "MINUTE": 60, "DAY": 86_400}[self.interval]
        return seconds * self.interval_num * 1_000_000


DEFAULT_ORDER_LIMITS = (OrderLimit("SECOND", 10, 100), OrderLimit("DAY", 1, 200_000))
