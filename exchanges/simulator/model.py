"""The words of the matching engine: requests, orders, trades, events.

Quantities, prices, amounts and rates are **units**: integers of 1e-8 (`SCALE`), so `1.5` is `150_000_000`.
The notional of a price and a quantity is `price * quantity // SCALE`, rounded down as the exchange does.
Times are integers, microseconds since the epoch. `text`, `units` and `to_decimal` convert at the edge.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple

SCALE = 100_000_000
DECIMALS = 8
NO_ID = -1
BASIS_POINTS = 10_000


def units(value: str | Decimal | int) -> int:
    """Units of a decimal; ValueError when it is not finite or has more than 8 decimals."""
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
    """As the exchange prints it: always eight decimals."""
    if value < 0:
        return "-" + text(-value)
    return f"{value // SCALE}.{value % SCALE:08d}"


class Side(StrEnum):
    BUY = "BUY"
    SELL = "SELL"


class OrderType(StrEnum):
    LIMIT = "LIMIT"
    MARKET = "MARKET"
    STOP_LOSS = "STOP_LOSS"
    STOP_LOSS_LIMIT = "STOP_LOSS_LIMIT"
    TAKE_PROFIT = "TAKE_PROFIT"
    TAKE_PROFIT_LIMIT = "TAKE_PROFIT_LIMIT"
    LIMIT_MAKER = "LIMIT_MAKER"


class TimeInForce(StrEnum):
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"


class OrderStatus(StrEnum):
    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    EXPIRED_IN_MATCH = "EXPIRED_IN_MATCH"


class SymbolStatus(StrEnum):
    TRADING = "TRADING"
    END_OF_DAY = "END_OF_DAY"
    HALT = "HALT"
    BREAK = "BREAK"
    CANCEL_ONLY = "CANCEL_ONLY"


class StpMode(StrEnum):
    NONE = "NONE"
    EXPIRE_MAKER = "EXPIRE_MAKER"
    EXPIRE_TAKER = "EXPIRE_TAKER"
    EXPIRE_BOTH = "EXPIRE_BOTH"
    DECREMENT = "DECREMENT"
    TRANSFER = "TRANSFER"


class CancelRestriction(StrEnum):
    ONLY_NEW = "ONLY_NEW"
    ONLY_PARTIALLY_FILLED = "ONLY_PARTIALLY_FILLED"


class ExecutionType(StrEnum):
    NEW = "NEW"
    CANCELED = "CANCELED"
    REPLACED = "REPLACED"
    REJECTED = "REJECTED"
    TRADE = "TRADE"
    EXPIRED = "EXPIRED"
    TRADE_PREVENTION = "TRADE_PREVENTION"


class ExpiryReason(StrEnum):
    NONE = "NONE"
    REJECTED = "REJECTED"
    EXCHANGE_CANCELED = "EXCHANGE_CANCELED"
    OCO_TRIGGER = "OCO_TRIGGER"
    OTO_PHASE_ONE_EXPIRED = "OTO_PHASE_ONE_EXPIRED"
    UNFILLED_IOC_QUANTITY_EXPIRED = "UNFILLED_IOC_QUANTITY_EXPIRED"
    UNFILLED_FOK_ORDER_EXPIRED = "UNFILLED_FOK_ORDER_EXPIRED"
    INSUFFICIENT_LIQUIDITY = "INSUFFICIENT_LIQUIDITY"
    EXECUTION_RULE_PRICE_RANGE_EXCEEDED = "EXECUTION_RULE_PRICE_RANGE_EXCEEDED"


class RejectReason(StrEnum):
    NONE = "NONE"
    INSUFFICIENT_BALANCES = "INSUFFICIENT_BALANCES"
    STOP_PRICE_WOULD_TRIGGER_IMMEDIATELY = "STOP_PRICE_WOULD_TRIGGER_IMMEDIATELY"
    WOULD_MATCH_IMMEDIATELY = "WOULD_MATCH_IMMEDIATELY"


STOP_TYPES = frozenset(
    {OrderType.STOP_LOSS, OrderType.STOP_LOSS_LIMIT, OrderType.TAKE_PROFIT, OrderType.TAKE_PROFIT_LIMIT}
)
MARKET_TYPES = frozenset({OrderType.MARKET, OrderType.STOP_LOSS, OrderType.TAKE_PROFIT})
OPEN_STATUSES = frozenset({OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED})


class EngineError(Exception):
    """The exchange refuses: `code` and `message` as its API answers them."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class SymbolSpec:
    """What exchangeInfo says of a symbol; `filters` are the documented objects, decimals as strings."""

    symbol: str
    base_asset: str
    quote_asset: str
    filters: tuple[dict[str, Any], ...] = ()
    status: SymbolStatus = SymbolStatus.TRADING
    order_types: tuple[OrderType, ...] = tuple(OrderType)
    iceberg_allowed: bool = True
    quote_order_qty_market_allowed: bool = True
    allow_trailing_stop: bool = True
    default_stp_mode: StpMode = StpMode.EXPIRE_MAKER
    allowed_stp_modes: tuple[StpMode, ...] = (
        StpMode.NONE,
        StpMode.EXPIRE_TAKER,
        StpMode.EXPIRE_MAKER,
        StpMode.EXPIRE_BOTH,
        StpMode.DECREMENT,
    )
    permission_sets: tuple[tuple[str, ...], ...] = (("SPOT",),)

    @classmethod
    def from_exchange_info(cls, row: dict[str, Any]) -> SymbolSpec:
        """One entry of exchangeInfo's `symbols`; keys it does not know are left alone."""
        return cls(
            symbol=row["symbol"],
            base_asset=row["baseAsset"],
            quote_asset=row["quoteAsset"],
            filters=tuple(row["filters"]),
            status=SymbolStatus(row.get("status", "TRADING")),
            order_types=tuple(OrderType(name) for name in row["orderTypes"]),
            iceberg_allowed=row.get("icebergAllowed", True),
            quote_order_qty_market_allowed=row.get("quoteOrderQtyMarketAllowed", True),
            allow_trailing_stop=row.get("allowTrailingStop", True),
            default_stp_mode=StpMode(row.get("defaultSelfTradePreventionMode", "NONE")),
            allowed_stp_modes=tuple(StpMode(mode) for mode in row.get("allowedSelfTradePreventionModes", ["NONE"])),
            permission_sets=tuple(tuple(names) for names in row.get("permissionSets", [["SPOT"]])),
        )

    def exchange_info(self, status: SymbolStatus) -> dict[str, Any]:
        """The symbol's entry of exchangeInfo."""
        return {
            "symbol": self.symbol,
            "status": status.value,
            "baseAsset": self.base_asset,
            "baseAssetPrecision": DECIMALS,
            "quoteAsset": self.quote_asset,
            "quotePrecision": DECIMALS,
            "quoteAssetPrecision": DECIMALS,
            "baseCommissionPrecision": DECIMALS,
            "quoteCommissionPrecision": DECIMALS,
            "orderTypes": [kind.value for kind in self.order_types],
            "icebergAllowed": self.iceberg_allowed,
            "ocoAllowed": False,
            "otoAllowed": False,
            "opoAllowed": False,
            "quoteOrderQtyMarketAllowed": self.quote_order_qty_market_allowed,
            "allowTrailingStop": self.allow_trailing_stop,
            "cancelReplaceAllowed": False,
            "amendAllowed": False,
            "pegInstructionsAllowed": False,
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "filters": [dict(rule) for rule in self.filters],
            "permissions": [],
            "permissionSets": [list(names) for names in self.permission_sets],
            "defaultSelfTradePreventionMode": self.default_stp_mode.value,
            "allowedSelfTradePreventionModes": [mode.value for mode in self.allowed_stp_modes],
        }


@dataclass(frozen=True, slots=True)
class Rates:
    """Commission rates in units (0.001 is 100_000); a trade pays its role's rate plus its side's."""

    maker: int = 0
    taker: int = 0
    buyer: int = 0
    seller: int = 0

    def of(self, side: Side, is_maker: bool) -> int:
        return (self.maker if is_maker else self.taker) + (self.buyer if side is Side.BUY else self.seller)


@dataclass(frozen=True, slots=True)
class Commission:
    """An account's commission on one symbol. The discount is the share of the standard commission that is
    still to be paid in the discount asset (the exchange's published arithmetic multiplies by it)."""

    standard: Rates = Rates(maker=100_000, taker=100_000)
    special: Rates = Rates()
    tax: Rates = Rates()
    discount_enabled_for_account: bool = False
    discount_enabled_for_symbol: bool = True
    discount_asset: str = "BNB"
    discount: int = 75_000_000


@dataclass(slots=True)
class Balance:
    """`locked` is what open orders hold plus what an external system holds; `step` is the ledger's mark."""

    free: int = 0
    in_orders: int = 0
    external: int = 0
    step: int = field(default=NO_ID, compare=False, repr=False)

    @property
    def locked(self) -> int:
        return self.in_orders + self.external


@dataclass(slots=True)
class Account:
    """One (sub)account. `trade_group_id` -1: self-trades are looked for within the account only."""

    account_id: str
    commission: Commission = Commission()
    symbol_commissions: dict[str, Commission] = field(default_factory=dict)
    trade_group_id: int = NO_ID
    can_trade: bool = True
    can_withdraw: bool = True
    can_deposit: bool = True
    permissions: tuple[str, ...] = ("SPOT",)
    asset_filters: tuple[dict[str, Any], ...] = ()
    is_house: bool = False
    uid: int = 0
    updated_at: int = 0
    balances: dict[str, Balance] = field(default_factory=dict)

    def commission_for(self, symbol: str) -> Commission:
        return self.symbol_commissions.get(symbol, self.commission)


@dataclass(slots=True)
class NewOrder:
    """A placement as the API carries it; None is an absent parameter."""

    symbol: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce | None = None
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


@dataclass(slots=True, eq=False)
class Order:
    """An accepted order, alive: the engine goes on changing it. `order_id` is unique per symbol only.

    `price` is 0 for market types, `stop_price` 0 without one; `quantity` of a quoteOrderQty order is what the
    engine worked out. `working_at` is None until it was on the book (or executed), `trailing_at` until its
    trailing began, `prevented_match_id` until self-trade prevention hit it.
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
    quote_quantity: int
    stop_price: int
    trailing_delta: int | None
    iceberg_quantity: int
    stp_mode: StpMode
    strategy_id: int | None
    strategy_type: int | None
    created_at: int
    updated_at: int
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
    # what the engine needs on the way
    locked: int = 0
    visible: int = 0
    lock_price: int = 0
    trailing_extreme: int = 0
    history: list[OrderState] = field(default_factory=list)

    @property
    def account_id(self) -> str:
        return self.account.account_id

    @property
    def remaining(self) -> int:
        """What can still execute."""
        return self.quantity - self.executed_quantity - self.prevented_quantity

    @property
    def is_open(self) -> bool:
        return self.status is OrderStatus.NEW or self.status is OrderStatus.PARTIALLY_FILLED


class OrderState(NamedTuple):
    """What may change of an order, as it was from `at` on."""

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


class Trade(NamedTuple):
    """One side of a trade, as its account sees it."""

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
    trade_id: int
    price: int
    quantity: int
    quote_quantity: int
    time: int
    buyer_is_maker: bool


@dataclass(slots=True)
class AggregateTrade:
    """Trades of one taker order at one price and time."""

    aggregate_id: int
    price: int
    quantity: int
    first_trade_id: int
    last_trade_id: int
    time: int
    buyer_is_maker: bool


@dataclass(slots=True)
class Bar:
    """One candle; `opened_at` in microseconds."""

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


@dataclass(frozen=True, slots=True)
class PreventedMatch:
    """A trade that self-trade prevention did not let happen."""

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
    """What a placement did by itself, before orders it triggered: the material of ACK, RESULT and FULL."""

    order: Order
    state: OrderState
    fills: tuple[Trade, ...]
    prevented_matches: tuple[PreventedMatch, ...]


class Cancellation(NamedTuple):
    """`client_order_id` is the cancel request's own id, the order's is `order.client_order_id`."""

    order: Order
    client_order_id: str
    transact_time: int


# ---------------------------------------------------------------------------------------------- events


class ExecutionEvent(NamedTuple):
    """The material of an `executionReport`. What never changes of the order is read from `order`; what does is
    here, as it was at that moment. `client_order_id` and `orig_client_order_id` are its `c` and `C`."""

    account_id: str
    order: Order
    execution_type: ExecutionType
    execution_id: int
    transact_time: int
    state: OrderState
    client_order_id: str
    orig_client_order_id: str = ""
    reject_reason: RejectReason = RejectReason.NONE
    on_book: bool = False
    last_quantity: int = 0
    last_price: int = 0
    last_quote: int = 0
    commission: int = 0
    commission_asset: str | None = None
    trade_id: int = NO_ID
    is_maker: bool = False
    # self-trade prevention only
    last_prevented_quantity: int | None = None
    counter_order_id: int | None = None
    counter_symbol: str | None = None
    prevented_execution_quantity: int | None = None
    prevented_execution_price: int | None = None
    prevented_execution_quote: int | None = None


class AccountPositionEvent(NamedTuple):
    """`outboundAccountPosition`: (asset, free, locked), absolute, of the assets that changed."""

    account_id: str
    time: int
    balances: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class BalanceUpdateEvent:
    """`balanceUpdate`: a deposit (positive) or withdrawal (negative)."""

    account_id: str
    asset: str
    delta: int
    time: int


@dataclass(frozen=True, slots=True)
class ExternalLockEvent:
    """`externalLockUpdate`: positive when locked, negative when released."""

    account_id: str
    asset: str
    delta: int
    time: int


Event = ExecutionEvent | AccountPositionEvent | BalanceUpdateEvent | ExternalLockEvent


# --------------------------------------------------------------------------------------------- queries


@dataclass(frozen=True, slots=True)
class Depth:
    """(price, quantity), best first."""

    last_update_id: int
    bids: tuple[tuple[int, int], ...]
    asks: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class DayStats:
    """The basis of ticker/24hr; `first_trade_id` and `last_trade_id` -1 and prices 0 without a trade."""

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
    """A fixed window of the unfilled-order count; `limit` 0 switches it off."""

    interval: str
    interval_num: int
    limit: int

    @property
    def microseconds(self) -> int:
        seconds = {"SECOND": 1, "MINUTE": 60, "DAY": 86_400}[self.interval]
        return seconds * self.interval_num * 1_000_000


DEFAULT_ORDER_LIMITS = (OrderLimit("SECOND", 10, 100), OrderLimit("DAY", 1, 200_000))
