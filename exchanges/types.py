"""Plain values that cross the border to an exchange: enums in its words and frozen reports.

Pure: no ORM, no ccxt, no clock. Quantities and prices are `Decimal`. Times are aware UTC datetimes,
and milliseconds since the epoch (`*_ms`) appear only where the exchange signs or compares them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Context, Decimal
from enum import StrEnum
from typing import Any, TypeVar

T = TypeVar("T")


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


class CallKind(StrEnum):
    """The kinds of call that fail together. Each has its own breaker, and its own error rows."""

    PLACE = "place"
    CANCEL = "cancel"
    READ = "read"


class ExchangeStatus(StrEnum):
    """Order status in Binance's words (enums.md). An unlisted word stays a plain string in the
    report.
    """

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
    """The message that a report was read from. The events that it causes keep it."""

    PLACE = "PLACE"
    CANCEL = "CANCEL"
    QUERY = "QUERY"
    OPEN_ORDERS = "OPEN_ORDERS"
    ALL_ORDERS = "ALL_ORDERS"
    TRADES = "TRADES"
    STREAM = "STREAM"


# Wide enough for a product of two 38-digit numbers. The default 28 digits would round.
EXACT = Context(prec=96)


LIMIT_TYPES = frozenset(
    {OrderType.LIMIT, OrderType.LIMIT_MAKER, OrderType.STOP_LOSS_LIMIT, OrderType.TAKE_PROFIT_LIMIT}
)


STOP_TYPES = frozenset(
    {
        OrderType.STOP_LOSS,
        OrderType.STOP_LOSS_LIMIT,
        OrderType.TAKE_PROFIT,
        OrderType.TAKE_PROFIT_LIMIT,
    }
)


TIME_IN_FORCE_TYPES = frozenset(
    {OrderType.LIMIT, OrderType.STOP_LOSS_LIMIT, OrderType.TAKE_PROFIT_LIMIT}
)


def plain(value: Decimal) -> str:
    """Return a decimal as digits with an optional point, without exponent or trailing zeros.

    `Decimal("1E+2")` -> `"100"`.
    """
    text = f"{value:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("", "-0") else text


def from_ms(milliseconds: int | str) -> datetime:
    """Convert milliseconds since the epoch to aware UTC, without passing through a float."""
    seconds, rest = divmod(int(milliseconds), 1000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest * 1000)


def to_ms(moment: datetime) -> int:
    """Convert an aware datetime to whole milliseconds since the epoch, rounded down."""
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000


@dataclass(frozen=True, slots=True)
class Unreadable:
    """One row of an answer that we can't read or store, set apart from the readable ones.

    `subject` names the row: a symbol with an order or trade number, an asset, or its place in the
    list. `text` is the row itself, cut to a storable length.
    """

    subject: str
    problem: str
    text: str


class Rows(list[T]):
    """The readable rows of a list, with the unreadable ones apart.

    `may_go_on` is True if the exchange may have more rows behind these.
    """

    def __init__(self, rows: Iterable[T] = (), unreadable: Iterable[Unreadable] = ()) -> None:
        super().__init__(rows)
        self.unreadable = tuple(unreadable)
        self.may_go_on = False

    @property
    def length(self) -> int:
        """Return how many rows the exchange sent. Those that can't be read count, too."""
        return len(self) + len(self.unreadable)


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """One request to place an order, complete with the values that were committed before sending.

    `timestamp_ms` and `recv_window_ms` are signed exactly as given: because of them the exchange
    itself refuses a sender that wakes up late.
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
class Amendment:
    """One change of an order by hand: its client order id and quantity before it."""

    client_order_id: str
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class FillReport:
    """One trade of one of our orders. `client_order_id` is None where the source lacks it
    (myTrades).
    """

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
    """The state of one order in one message of the exchange.

    `status` is an `ExchangeStatus`, or the exchange's own word if we don't know it.
    `filled_quote_quantity` is None where the exchange says it is unavailable (negative for some
    historical orders). `fills` are the trades in this very message, not all trades of the order.
    `reason` is the exchange's reason for the order's end (`expiryReason`, reject reason), empty if
    there is none. `raw` is the message itself, for the record. It never holds a credential.
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
    previous_client_order_id: str = ""
    reason: str = ""
    fills: tuple[FillReport, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BalanceReport:
    """Free and locked amount of one asset. `updated_at` is the exchange's time of these amounts."""

    asset: str
    free: Decimal
    locked: Decimal
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class AccountReport:
    """Every non-zero balance of an account at one moment.

    `updated_at` is the time of its last change, if the exchange names it.
    """

    balances: tuple[BalanceReport, ...]
    updated_at: datetime | None
    unreadable: tuple[Unreadable, ...] = ()


@dataclass(frozen=True, slots=True)
class Candle:
    """First, highest, lowest and last price of all trades from `opened_at` on."""

    opened_at: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal


@dataclass(frozen=True, slots=True)
class BidAsk:
    """The best bid and the best ask of one symbol, both above zero and not crossed."""

    bid: Decimal
    ask: Decimal


@dataclass(frozen=True, slots=True)
class TradeReport:
    """The last trade on a symbol, by any account."""

    symbol: str
    price: Decimal
    traded_at: datetime


@dataclass(frozen=True, slots=True)
class KeyPermissions:
    """The permissions of an API key, and its times. None: the exchange gave none.

    `granted` holds the names of the dangerous permissions that it has.
    """

    has_ip_list: bool
    granted: frozenset[str]
    created_at: datetime | None = None
    expires_at: datetime | None = None
