"""Binance's messages as our value types, and our order request as Binance's parameters. Pure.

Every reader raises `Malformed` for a message that is not what was asked for: a field missing or not of its shape, or
another order than the one in question. Figures are read from the exchange's own text, so that none passes through a
float.
"""

from __future__ import annotations

import re
from datetime import datetime
from decimal import ROUND_DOWN, Decimal
from typing import Any

from exchanges.types import (
    EXACT,
    TIME_IN_FORCE_TYPES,
    AccountReport,
    BalanceReport,
    ExchangeInfo,
    FillReport,
    InstrumentRules,
    KeyPermissions,
    OrderReport,
    OrderRequest,
    ReportSource,
    Side,
    TimeInForce,
    TradeReport,
    from_ms,
    plain,
)

_DECIMAL = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?\Z")
# The exchange computes notionals to eight decimals, rounded down.
_NOTIONAL_STEP = Decimal("0.00000001")


class Malformed(ValueError):
    """A message is not what the documentation says it is, or not about what was asked."""


class Row:
    """One JSON object of the exchange, read field by field."""

    __slots__ = ("fields",)

    def __init__(self, message: Any, what: str) -> None:
        if not isinstance(message, dict):
            raise Malformed(f"{what}: not an object but {type(message).__name__}")
        self.fields: dict[str, Any] = message

    def text(self, name: str) -> str:
        """A non-empty string."""
        value = self.fields.get(name)
        if not isinstance(value, str) or not value:
            raise Malformed(f"{name}: not a text but {_shown(value)}")
        return value

    def text_or_empty(self, name: str) -> str:
        """A string; absent and null are empty."""
        value = self.fields.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise Malformed(f"{name}: not a text but {_shown(value)}")
        return value

    def identifier(self, name: str) -> str:
        """A number that only identifies, as text."""
        return str(self.integer(name))

    def integer(self, name: str) -> int:
        value = self.fields.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise Malformed(f"{name}: not a whole number but {_shown(value)}")
        return value

    def boolean(self, name: str) -> bool:
        value = self.fields.get(name)
        if not isinstance(value, bool):
            raise Malformed(f"{name}: neither true nor false but {_shown(value)}")
        return value

    def figure(self, name: str) -> Decimal:
        """A decimal, not negative."""
        value = self.signed(name)
        if value < 0:
            raise Malformed(f"{name}: negative: {value}")
        return value

    def signed(self, name: str) -> Decimal:
        """A decimal, of either sign."""
        value = self.fields.get(name)
        if not isinstance(value, str) or not _DECIMAL.match(value):
            raise Malformed(f"{name}: not a decimal text but {_shown(value)}")
        return Decimal(value)

    def positive_or_none(self, name: str) -> Decimal | None:
        """A decimal that counts only when positive: absent and zero mean that the order has none."""
        if self.fields.get(name) is None:
            return None
        return self.figure(name) or None

    def time(self, name: str) -> datetime:
        """Milliseconds since the epoch."""
        value = self.integer(name)
        try:
            return from_ms(value)
        except (OverflowError, ValueError, OSError):
            raise Malformed(f"{name}: not a time: {value}") from None

    def side(self, name: str) -> Side:
        value = self.text(name)
        try:
            return Side(value)
        except ValueError:
            raise Malformed(f"{name}: not a side: {_shown(value)}") from None

    def rows(self, name: str) -> list[Row]:
        return rows(self.fields.get(name), name)


def rows(body: Any, what: str) -> list[Row]:
    """A JSON array of objects."""
    if not isinstance(body, list):
        raise Malformed(f"{what}: not a list but {type(body).__name__}")
    return [Row(item, what) for item in body]


# -- what we send --------------------------------------------------------------------------------------------------


def place_parameters(request: OrderRequest) -> dict[str, str]:
    """Parameters of `POST /api/v3/order`, every figure as plain digits.

    MARKET by quote amount is sent only for an explicit `quote_quantity`. The full answer is asked for by name: for the
    stop types the default answer would carry nothing but ids.
    """
    time_in_force = request.time_in_force
    if time_in_force is None and request.order_type in TIME_IN_FORCE_TYPES:
        time_in_force = TimeInForce.GTC
    optional = {
        "timeInForce": time_in_force and time_in_force.value,
        "quantity": _digits(request.quantity),
        "quoteOrderQty": _digits(request.quote_quantity),
        "price": _digits(request.price),
        "stopPrice": _digits(request.stop_price),
    }
    return {
        "symbol": request.symbol,
        "side": request.side.value,
        "type": request.order_type.value,
        **{name: value for name, value in optional.items() if value is not None},
        "newClientOrderId": request.client_order_id,
        "newOrderRespType": "FULL",
        "recvWindow": str(request.recv_window_ms),
        "timestamp": str(request.timestamp_ms),
    }


def _digits(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)


# -- REST answers --------------------------------------------------------------------------------------------------


def placed_order(body: Any, request: OrderRequest) -> OrderReport:
    """The full answer of a placement; its fills are all ours as taker."""
    row = Row(body, "order")
    report = _order(
        row,
        ReportSource.PLACE,
        client_order_id=row.text("clientOrderId"),
        updated_at=row.time("transactTime"),
        created_at=row.time("transactTime"),
        fills=tuple(_placement_fill(row, fill) for fill in row.rows("fills")),
    )
    expect_order(report, symbol=request.symbol, client_order_id=request.client_order_id)
    if report.side is not request.side:
        raise Malformed(f"side: asked {request.side}, answered {report.side}")
    return report


def cancelled_order(body: Any) -> OrderReport:
    """The answer of a cancel. `clientOrderId` is there the id of the cancel request; ours is `origClientOrderId`."""
    row = Row(body, "order")
    return _order(
        row,
        ReportSource.CANCEL,
        client_order_id=row.text("origClientOrderId"),
        updated_at=row.time("transactTime"),
    )


def queried_order(body: Any, source: ReportSource = ReportSource.QUERY) -> OrderReport:
    """One order of `order`, `openOrders` or `allOrders`."""
    row = Row(body, "order")
    return _order(
        row,
        source,
        client_order_id=row.text("clientOrderId"),
        updated_at=row.time("updateTime"),
        created_at=row.time("time"),
    )


def queried_orders(body: Any, source: ReportSource) -> list[OrderReport]:
    return [queried_order(row.fields, source) for row in rows(body, "orders")]


def expect_order(
    report: OrderReport,
    *,
    symbol: str | None = None,
    client_order_id: str | None = None,
    exchange_order_id: str | None = None,
) -> None:
    """Malformed when the report is about another order than the one that was asked for."""
    for name, asked, answered in (
        ("symbol", symbol, report.symbol),
        ("client order id", client_order_id, report.client_order_id),
        ("order id", exchange_order_id, report.exchange_order_id),
    ):
        if asked is not None and asked != answered:
            raise Malformed(f"{name}: asked {_shown(asked)}, answered {_shown(answered)}")


def trades(body: Any, *, symbol: str, exchange_order_id: str | None = None) -> list[FillReport]:
    """Rows of `myTrades`; they carry no client order id."""
    reports = [_trade(row) for row in rows(body, "trades")]
    for report in reports:
        if report.symbol != symbol or exchange_order_id not in (None, report.exchange_order_id):
            raise Malformed(f"trade {report.trade_id}: of another order or symbol than asked")
    return reports


def last_trade(body: Any, *, symbol: str) -> TradeReport:
    """The newest row of `aggTrades`."""
    found = rows(body, "trades")
    if not found:
        raise Malformed("trades: there is none")
    return TradeReport(symbol, found[-1].figure("p"), found[-1].time("T"))


# Permissions that move money away, in the exchange's words.
_DANGEROUS = ("enableWithdrawals", "enableInternalTransfer", "permitsUniversalTransfer")


def key_permissions(body: Any) -> KeyPermissions:
    row = Row(body, "apiRestrictions")
    return KeyPermissions(row.boolean("ipRestrict"), frozenset(name for name in _DANGEROUS if row.boolean(name)))


def account(body: Any) -> AccountReport:
    row = Row(body, "account")
    updated_at = row.time("updateTime")
    balances = tuple(
        BalanceReport(balance.text("asset"), balance.figure("free"), balance.figure("locked"), updated_at)
        for balance in row.rows("balances")
    )
    return AccountReport(balances, row.boolean("canTrade"), updated_at)


def exchange_info(body: Any) -> ExchangeInfo:
    """Trading rules and the sizes of the exchange's limits."""
    row = Row(body, "exchangeInfo")
    limits = row.fields.get("rateLimits")
    return ExchangeInfo(
        instruments=tuple(_instrument(symbol) for symbol in row.rows("symbols")),
        rate_limits=tuple(limit.fields for limit in rows(limits, "rateLimits")) if limits is not None else (),
    )


def server_time(body: Any) -> int:
    """Milliseconds since the epoch."""
    row = Row(body, "time")
    row.time("serverTime")
    return row.integer("serverTime")


def _order(
    row: Row,
    source: ReportSource,
    *,
    client_order_id: str,
    updated_at: datetime,
    created_at: datetime | None = None,
    fills: tuple[FillReport, ...] = (),
) -> OrderReport:
    filled_quote_quantity = row.signed("cummulativeQuoteQty")
    return OrderReport(
        source=source,
        symbol=row.text("symbol"),
        client_order_id=client_order_id,
        exchange_order_id=row.identifier("orderId"),
        status=row.text("status"),
        side=row.side("side"),
        order_type=row.text("type"),
        time_in_force=row.text_or_empty("timeInForce"),
        quantity=row.figure("origQty"),
        price=row.figure("price"),
        filled_quantity=row.figure("executedQty"),
        # Negative for some historical orders, where the exchange does not have it.
        filled_quote_quantity=None if filled_quote_quantity < 0 else filled_quote_quantity,
        updated_at=updated_at,
        created_at=created_at,
        quote_quantity=row.positive_or_none("origQuoteOrderQty"),
        stop_price=row.positive_or_none("stopPrice"),
        reason=ended_because(row, "expiryReason"),
        fills=fills,
        raw=row.fields,
    )


def ended_because(row: Row, *names: str) -> str:
    """The first of these fields that gives a reason; the exchange writes NONE for there being none."""
    return next((value for name in names if (value := row.text_or_empty(name)) not in ("", "NONE")), "")


def notional(price: Decimal, quantity: Decimal) -> Decimal:
    """Price times quantity as the exchange states it."""
    return EXACT.multiply(price, quantity).quantize(_NOTIONAL_STEP, rounding=ROUND_DOWN, context=EXACT)


def _placement_fill(order: Row, fill: Row) -> FillReport:
    quantity, price = fill.figure("qty"), fill.figure("price")
    return FillReport(
        symbol=order.text("symbol"),
        trade_id=fill.identifier("tradeId"),
        exchange_order_id=order.identifier("orderId"),
        side=order.side("side"),
        quantity=quantity,
        price=price,
        quote_quantity=notional(price, quantity),
        commission=fill.signed("commission"),
        commission_asset=fill.text_or_empty("commissionAsset"),
        is_maker=False,
        traded_at=order.time("transactTime"),
        client_order_id=order.text("clientOrderId"),
    )


def _trade(row: Row) -> FillReport:
    return FillReport(
        symbol=row.text("symbol"),
        trade_id=row.identifier("id"),
        exchange_order_id=row.identifier("orderId"),
        side=Side.BUY if row.boolean("isBuyer") else Side.SELL,
        quantity=row.figure("qty"),
        price=row.figure("price"),
        quote_quantity=row.figure("quoteQty"),
        commission=row.signed("commission"),
        commission_asset=row.text_or_empty("commissionAsset"),
        is_maker=row.boolean("isMaker"),
        traded_at=row.time("time"),
    )


def _instrument(row: Row) -> InstrumentRules:
    for name in ("symbol", "baseAsset", "quoteAsset", "status"):
        row.text(name)
    for item in row.rows("filters"):
        item.text("filterType")
    try:
        return InstrumentRules.from_exchange(row.fields)
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise Malformed(f"{row.fields['symbol']}: {type(problem).__name__}") from None


def _shown(value: Any) -> str:
    """A value of a foreign message, short enough for a log line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
