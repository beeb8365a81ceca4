"""Read Binance's messages into our value types, and write our orders as its parameters. Pure.

Every reader of one message raises `Malformed` for a missing or misshapen field, or if it is about
another order than the requested one. A reader of a list sets the rows apart that it can't read,
because one strange row says nothing about the others. Amounts are read from the exchange's own
text, so that none passes through a float. Texts are cut to the columns that store them.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from decimal import ROUND_DOWN, Decimal
from typing import Any

from exchanges.binance.json_fields import (
    ASSET_WIDTH,
    CLIENT_ORDER_ID_WIDTH,
    REASON_WIDTH,
    SYMBOL_WIDTH,
    TIME_IN_FORCE_WIDTH,
    WORD_WIDTH,
    JsonObject,
    Malformed,
    id_text,
    json_objects,
    named_by,
    read_rows,
    shown,
)
from exchanges.instrument_rules import ExchangeInfo, InstrumentRules
from exchanges.types import (
    EXACT,
    TIME_IN_FORCE_TYPES,
    AccountReport,
    Amendment,
    BalanceReport,
    BidAsk,
    Candle,
    FillReport,
    KeyPermissions,
    OrderReport,
    OrderRequest,
    ReportSource,
    Rows,
    Side,
    TimeInForce,
    TradeReport,
    from_ms,
    plain,
)

# The exchange computes notionals to eight decimals, rounded down.
_NOTIONAL_STEP = Decimal("0.00000001")


def place_parameters(request: OrderRequest) -> dict[str, str]:
    """Return the parameters of `POST /api/v3/order`, with all amounts as plain digits.

    MARKET by quote amount is sent only for an explicit `quote_quantity`. We ask for the full answer
    by name, because the default answer for the stop types would carry only ids.
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


def placed_order(body: Any, request: OrderRequest) -> OrderReport:
    """Read the full answer to a placement. Its fills are all ours as taker.

    They lack their amount in the quote asset. If the computed ones don't add up to the exchange's,
    it rounds in another way: then they are left out, and the trades are fetched.
    """
    row = JsonObject(body, "order")
    report = _order(
        row,
        ReportSource.PLACE,
        client_order_id=row.text("clientOrderId"),
        updated_at=row.time("transactTime"),
        created_at=row.time("transactTime"),
        fills=_placement_fills(row),
    )
    expect_order(report, symbol=request.symbol, client_order_id=request.client_order_id)
    if report.side is not request.side:
        raise Malformed(f"side: asked {request.side}, answered {report.side}")
    return report if _adds_up(report) else replace(report, fills=())


def _placement_fills(row: JsonObject) -> tuple[FillReport, ...]:
    """Read the fills of a placement. If the exchange leaves them out, they are fetched."""
    if row.fields.get("fills") is None:
        return ()
    return tuple(_placement_fill(row, fill) for fill in row.objects("fills"))


def _adds_up(report: OrderReport) -> bool:
    """Return False if the fills are all of the order's, and their amounts another than its own."""
    quantity = quote_quantity = Decimal(0)
    for fill in report.fills:
        quantity = EXACT.add(quantity, fill.quantity)
        quote_quantity = EXACT.add(quote_quantity, fill.quote_quantity)
    is_complete = quantity == report.filled_quantity
    return not is_complete or report.filled_quote_quantity in (None, quote_quantity)


def canceled_order(body: Any) -> OrderReport:
    """Read the answer to a cancel. There `clientOrderId` is the cancel request's own id.

    Ours is `origClientOrderId`.
    """
    row = JsonObject(body, "order")
    return _order(
        row,
        ReportSource.CANCEL,
        client_order_id=row.text("origClientOrderId"),
        updated_at=row.time("transactTime"),
    )


def canceled_orders(body: Any) -> list[OrderReport]:
    """Read the orders of the answer to a cancel of all of a symbol.

    Leave out order lists and rows that can't be read: the next comparison meets their orders.
    """
    if not isinstance(body, list):
        raise Malformed("the answer to a cancel of all orders is no list")
    reports = []
    for row in body:
        with suppress(Malformed):
            reports.append(canceled_order(row))
    return reports


def queried_order(body: Any, source: ReportSource = ReportSource.QUERY) -> OrderReport:
    """Read one order of `order`, `openOrders` or `allOrders`."""
    row = JsonObject(body, "order")
    return _order(
        row,
        source,
        client_order_id=row.text("clientOrderId"),
        updated_at=row.time_of_first("updateTime", "time"),
        created_at=row.time_or_none("time"),
    )


def queried_orders(
    body: Any, source: ReportSource, *, symbol: str | None = None
) -> Rows[OrderReport]:
    """Read the rows of `openOrders` or `allOrders`, of one symbol if one is given."""

    def read(row: JsonObject) -> OrderReport:
        report = queried_order(row.fields, source)
        expect_order(report, symbol=symbol)
        if not report.exchange_order_id:
            raise Malformed("orderId: negative")
        if not report.quantity and report.quote_quantity is None:
            raise Malformed("origQty: zero, and no amount in the quote asset")
        return report

    return read_rows(body, "orders", read, named_by("symbol", "orderId"))


def expect_order(
    report: OrderReport,
    *,
    symbol: str | None = None,
    client_order_id: str | None = None,
    exchange_order_id: str | None = None,
) -> None:
    """Raise `Malformed` if the report is about another order than the requested one."""
    for name, asked, answered in (
        ("symbol", symbol, report.symbol),
        ("client order id", client_order_id, report.client_order_id),
        ("order id", exchange_order_id, report.exchange_order_id),
    ):
        if asked is not None and asked != answered:
            raise Malformed(f"{name}: asked {shown(asked)}, answered {shown(answered)}")


def amendments(body: Any, symbol: str, exchange_order_id: str) -> list[Amendment]:
    """Read the rows of `order/amendments`."""
    rows = json_objects(body, "amendments")
    for row in rows:
        if (row.text("symbol"), row.identifier("orderId")) != (symbol, exchange_order_id):
            raise Malformed("amendments: of another order than asked")
    return [Amendment(row.text("origClientOrderId"), row.figure("origQty")) for row in rows]


def trades(body: Any, *, symbol: str, exchange_order_id: str | None = None) -> Rows[FillReport]:
    """Read the rows of `myTrades`. They carry no client order id."""

    def read(row: JsonObject) -> FillReport:
        report = _trade(row)
        if report.symbol != symbol or exchange_order_id not in (None, report.exchange_order_id):
            raise Malformed("of another order or symbol than asked")
        return report

    return read_rows(body, "trades", read, _trade_name)


def last_trade(body: Any, *, symbol: str) -> TradeReport:
    """Read the newest row of `aggTrades`."""
    found = json_objects(body, "trades")
    if not found:
        raise Malformed("trades: there is none")
    return TradeReport(symbol, found[-1].positive("p"), found[-1].time("T"))


_CANDLE = ("at", "open", "high", "low", "close")


def candles(body: Any) -> list[Candle]:
    """Read `klines`, whose rows are lists: time, open, high, low, close, and figures we ignore.

    A row that can't be read is left out, because each stands for a minute of its own.
    """
    if not isinstance(body, list):
        raise Malformed(f"klines: not a list but {type(body).__name__}")
    found = []
    for item in body:
        with suppress(Malformed):
            named = dict(zip(_CANDLE, item, strict=False)) if isinstance(item, list) else item
            row = JsonObject(named, "klines")
            found.append(Candle(row.time("at"), *(row.figure(name) for name in _CANDLE[1:])))
    return found


def _trade_name(item: Any) -> str:
    name = named_by("symbol", "id")(item)
    return name and name.replace("#", " trade ", 1)


# Permissions that move money away, in the exchange's words.
_DANGEROUS = ("enableWithdrawals", "enableInternalTransfer", "permitsUniversalTransfer")


def key_permissions(body: Any) -> KeyPermissions:
    row = JsonObject(body, "apiRestrictions")
    return KeyPermissions(
        row.boolean("ipRestrict"),
        frozenset(name for name in _DANGEROUS if row.boolean(name)),
        row.time_or_none("createTime"),
        row.time_or_none("tradingAuthorityExpirationTime"),
    )


def account(body: Any) -> AccountReport:
    row = JsonObject(body, "account")
    updated_at = None
    with suppress(Malformed):  # Some accounts have none, and a reading counts without it.
        updated_at = row.time_or_none("updateTime")

    def read(balance: JsonObject) -> BalanceReport:
        asset = balance.name_text("asset", ASSET_WIDTH)
        free, locked = balance.figure("free"), balance.figure("locked")
        return BalanceReport(asset, free, locked, updated_at or from_ms(0))

    found = read_rows(row.fields.get("balances"), "balances", read, named_by("asset"))
    return AccountReport(tuple(found), updated_at, found.unreadable)


def exchange_info(body: Any) -> ExchangeInfo:
    """Read trading rules and the sizes of the exchange's limits. Neither needs the other."""
    row = JsonObject(body, "exchangeInfo")
    limits = row.fields.get("rateLimits")
    found = read_rows(row.fields.get("symbols"), "symbols", _instrument, named_by("symbol"))
    return ExchangeInfo(
        instruments=tuple(found),
        rate_limits=tuple(
            limit for limit in (limits if isinstance(limits, list) else ()) if type(limit) is dict
        ),
        unreadable=found.unreadable,
    )


def last_prices(body: Any) -> dict[str, Decimal]:
    """Read the price of the last trade by symbol. A symbol whose row can't be read has none.

    A symbol that was never traded has the price zero, which is none.
    """

    def read(row: JsonObject) -> tuple[str, Decimal]:
        return row.text("symbol"), row.positive("price")

    return dict(read_rows(body, "ticker/price", read, named_by("symbol")))


def bids_and_asks(body: Any) -> dict[str, BidAsk]:
    """Read the best bid and ask by symbol. A symbol whose row can't be read has none.

    Neither has one whose book lacks a side, for which the exchange writes zero.
    """

    def read(row: JsonObject) -> tuple[str, BidAsk]:
        symbol = row.name_text("symbol", SYMBOL_WIDTH)
        bid, ask = row.figure("bidPrice"), row.figure("askPrice")
        if not 0 < bid <= ask:
            raise Malformed(f"no bid below an ask: {bid} and {ask}")
        return symbol, BidAsk(bid, ask)

    return dict(read_rows(body, "ticker/bookTicker", read, named_by("symbol")))


def server_time(body: Any) -> int:
    """Read milliseconds since the epoch."""
    row = JsonObject(body, "time")
    return row.milliseconds("serverTime")


def _order(
    row: JsonObject,
    source: ReportSource,
    *,
    client_order_id: str,
    updated_at: datetime,
    created_at: datetime | None = None,
    fills: tuple[FillReport, ...] = (),
) -> OrderReport:
    filled_quote_quantity = row.signed_or_none("cummulativeQuoteQty")
    return OrderReport(
        source=source,
        symbol=row.name_text("symbol", SYMBOL_WIDTH),
        client_order_id=order_id_text(client_order_id),
        exchange_order_id=row.number_text("orderId"),
        status=row.text("status")[:WORD_WIDTH],
        side=row.side("side"),
        order_type=row.text("type")[:WORD_WIDTH],
        time_in_force=row.text_or_empty("timeInForce")[:TIME_IN_FORCE_WIDTH],
        quantity=row.figure("origQty"),
        price=row.figure("price"),
        filled_quantity=row.figure("executedQty"),
        filled_quote_quantity=known_amount(filled_quote_quantity),
        updated_at=updated_at,
        created_at=created_at,
        quote_quantity=row.positive_or_none("origQuoteOrderQty"),
        stop_price=row.positive_or_none("stopPrice"),
        reason=ended_because(row, "expiryReason"),
        fills=fills,
        raw=row.fields,
    )


def known_amount(amount: Decimal | None) -> Decimal | None:
    """Return the amount. Where the exchange doesn't have it, it is negative or left out."""
    return None if amount is None or amount < 0 else amount


def ended_because(row: JsonObject, *names: str) -> str:
    """Return the first of these fields that gives a reason. The exchange writes NONE for none."""
    found = (value for name in names if (value := row.text_or_empty(name)) not in ("", "NONE"))
    return next(found, "")[:REASON_WIDTH]


def order_id_text(client_order_id: str) -> str:
    """Return the client order id as our column holds it."""
    return id_text(client_order_id, CLIENT_ORDER_ID_WIDTH)


def notional(price: Decimal, quantity: Decimal) -> Decimal:
    """Return price times quantity, rounded as the exchange does."""
    return EXACT.multiply(price, quantity).quantize(
        _NOTIONAL_STEP, rounding=ROUND_DOWN, context=EXACT
    )


def _placement_fill(order: JsonObject, fill: JsonObject) -> FillReport:
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
        commission_asset=fill.text_or_empty("commissionAsset")[:ASSET_WIDTH],
        is_maker=False,
        traded_at=order.time("transactTime"),
        client_order_id=order_id_text(order.text("clientOrderId")),
    )


def _trade(row: JsonObject) -> FillReport:
    return FillReport(
        symbol=row.name_text("symbol", SYMBOL_WIDTH),
        trade_id=row.identifier("id"),
        exchange_order_id=row.identifier("orderId"),
        side=Side.BUY if row.boolean("isBuyer") else Side.SELL,
        quantity=row.figure("qty"),
        price=row.figure("price"),
        quote_quantity=row.figure("quoteQty"),
        commission=row.signed("commission"),
        commission_asset=row.text_or_empty("commissionAsset")[:ASSET_WIDTH],
        is_maker=row.boolean_or_none("isMaker"),  # no amount depends on it
        traded_at=row.time("time"),
    )


def _instrument(row: JsonObject) -> InstrumentRules:
    for name in ("symbol", "baseAsset", "quoteAsset"):
        row.name_text(name, SYMBOL_WIDTH)
    row.name_text("status", WORD_WIDTH)
    for item in row.objects("filters"):
        item.text("filterType")
    try:
        return InstrumentRules.from_exchange(row.fields)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as problem:
        raise Malformed(f"{row.fields['symbol']}: {type(problem).__name__}") from None
