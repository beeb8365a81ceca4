"""Private queries: orders, trades, balances, rates, and the wallet calls that clients make on the way."""

from __future__ import annotations

from typing import Any

from exchanges.simulator import errors, render
from exchanges.simulator.errors import ApiError
from exchanges.simulator.limits import order_rows
from exchanges.simulator.model import Order, text
from exchanges.simulator.operations import Call, Operation, Security, Step, operation
from exchanges.simulator.params import Params

DAY_MS = 24 * 3600 * 1000


def get_order(call: Call) -> Step:
    symbol = call.params.required_symbol()
    order_id = call.params.integer("orderId")
    orig = call.params.text("origClientOrderId")
    if order_id is None and orig is None:
        raise errors.one_of_two("origClientOrderId", "orderId")

    def step() -> Any:
        order = call.exchange.engine.order(
            call.account, symbol, order_id=order_id, orig_client_order_id=orig, at=call.at
        )
        if call.exchange.is_hidden(symbol, order.order_id):
            raise errors.no_such_order()
        row = _order_row(call, order)
        if row is None:
            raise errors.no_such_order()
        return row

    return step


def _order_row(call: Call, order: Order) -> Any:
    state = call.exchange.engine.order_state(order, call.at)
    return None if state is None else render.order_row(order, state, call.unit)


def _rows(call: Call, orders: list[Order]) -> list[Any]:
    rows = [_order_row(call, order) for order in orders if not call.exchange.is_hidden(order.symbol, order.order_id)]
    return [row for row in rows if row is not None]


def open_orders(call: Call) -> Step:
    symbol = call.params.symbol()

    def step() -> Any:
        if symbol is not None:
            call.exchange.engine.spec(symbol)
        return _rows(call, call.exchange.engine.open_orders(call.account, symbol, at=call.at))

    return step


def open_orders_weight(params: Params) -> int:
    return 6 if params.values.get("symbol") else 80


def _period(params: Params) -> tuple[int | None, int | None]:
    """startTime and endTime in microseconds, at most a day apart."""
    start, end = params.time_ms("startTime"), params.time_ms("endTime")
    if start is not None and end is not None:
        if end < start:
            raise errors.bad_combination()
        if end - start > DAY_MS:
            raise ApiError(-1127, "More than 24 hours between startTime and endTime.")
    return _start_us(start), _end_us(end)


def _start_us(moment: int | None) -> int | None:
    return None if moment is None else moment * 1000


def _end_us(moment: int | None) -> int | None:
    # The whole of the last millisecond belongs to the period.
    return None if moment is None else moment * 1000 + 999


def all_orders(call: Call) -> Step:
    symbol = call.params.required_symbol()
    order_id = call.params.integer("orderId")
    start, end = _period(call.params)
    limit = call.params.limit(500, 1000)

    def step() -> Any:
        orders = call.exchange.engine.all_orders(
            call.account, symbol, order_id=order_id, start=start, end=end, limit=limit, at=call.at
        )
        return _rows(call, orders)

    return step


_TRADE_COMBINATIONS = {
    frozenset(),
    frozenset({"orderId"}),
    frozenset({"startTime"}),
    frozenset({"endTime"}),
    frozenset({"fromId"}),
    frozenset({"startTime", "endTime"}),
    frozenset({"orderId", "fromId"}),
}


def my_trades(call: Call) -> Step:
    params = call.params
    symbol = params.required_symbol()
    order_id = params.integer("orderId")
    from_id = params.integer("fromId")
    start, end = _period(params)
    limit = params.limit(500, 1000)
    sent = frozenset(name for name in ("orderId", "startTime", "endTime", "fromId") if name in params)
    if sent not in _TRADE_COMBINATIONS:
        raise errors.bad_combination()

    def step() -> Any:
        trades = call.exchange.engine.trades(
            call.account, symbol, order_id=order_id, from_id=from_id, start=start, end=end, limit=limit, at=call.at
        )
        return [
            render.trade_row(trade, call.unit)
            for trade in trades
            if not call.exchange.is_hidden(symbol, trade.order_id)
        ]

    return step


def my_trades_weight(params: Params) -> int:
    return 5 if params.values.get("orderId") else 20


def my_prevented_matches(call: Call) -> Step:
    params = call.params
    symbol = params.required_symbol()
    match_id = params.integer("preventedMatchId")
    order_id = params.integer("orderId")
    from_id = params.integer("fromPreventedMatchId")
    limit = params.limit(500, 1000)
    sent = frozenset(name for name in ("preventedMatchId", "orderId", "fromPreventedMatchId") if name in params)
    if sent not in ({"preventedMatchId"}, {"orderId"}, {"orderId", "fromPreventedMatchId"}):
        raise errors.bad_combination()

    def step() -> Any:
        matches = call.exchange.engine.prevented_matches(
            call.account,
            symbol,
            prevented_match_id=match_id,
            order_id=order_id,
            from_prevented_match_id=from_id,
            limit=limit,
        )
        return [render.prevented_match_row(match, call.unit) for match in matches]

    return step


def prevented_weight(params: Params) -> int:
    return 20 if params.values.get("orderId") else 2


def my_allocations(call: Call) -> Step:
    """Allocations come from smart order routing, which this exchange does not have: always none."""
    symbol = call.params.required_symbol()
    _period(call.params)
    for name in ("fromAllocationId", "orderId"):
        call.params.integer(name)
    call.params.limit(500, 1000)

    def step() -> Any:
        call.exchange.engine.spec(symbol)
        return []

    return step


def account(call: Call) -> Step:
    omit_zero = call.params.boolean("omitZeroBalances", False)

    def step() -> Any:
        engine = call.exchange.engine
        owner = engine.account(call.account)
        balances = engine.balances(call.account, at=call.at)
        for spec in engine.symbols.values():
            balances.setdefault(spec.base_asset, (0, 0))
            balances.setdefault(spec.quote_asset, (0, 0))
        rows = [
            (asset, free, locked)
            for asset, (free, locked) in sorted(balances.items())
            if free or locked or not omit_zero
        ]
        return render.account_row(owner, rows, call.unit)

    return step


def commission(call: Call) -> Step:
    symbol = call.params.required_symbol()

    def step() -> Any:
        engine = call.exchange.engine
        engine.spec(symbol)
        return render.commission_row(symbol, engine.account(call.account).commission_for(symbol))

    return step


def order_rate_limits(call: Call) -> Step:
    return lambda: order_rows(call.exchange.engine.order_counts(call.account))


def my_filters(call: Call) -> Step:
    symbol = call.params.required_symbol()

    def step() -> Any:
        engine = call.exchange.engine
        return {
            "exchangeFilters": [dict(rule) for rule in engine.exchange_filters],
            "symbolFilters": [dict(rule) for rule in engine.spec(symbol).filters],
            "assetFilters": [dict(rule) for rule in engine.account(call.account).asset_filters],
        }

    return step


# -------------------------------------------------------------------------------------------- wallet


def api_restrictions(call: Call) -> Step:
    def step() -> Any:
        key = call.key
        assert key is not None  # signed operations only
        return {
            "ipRestrict": False,
            "createTime": key.created_ms,
            "enableReading": key.can_read,
            "enableSpotAndMarginTrading": key.can_trade,
            "enableWithdrawals": False,
            "enableInternalTransfer": False,
            "enableMargin": False,
            "enableFutures": False,
            "permitsUniversalTransfer": False,
            "enableVanillaOptions": False,
            "enableFixApiTrade": False,
            "enableFixReadOnly": False,
            "enablePortfolioMarginTrading": False,
        }

    return step


def trade_fee(call: Call) -> Step:
    symbol = call.params.symbol()

    def step() -> Any:
        engine = call.exchange.engine
        owner = engine.account(call.account)
        names = [engine.spec(symbol).symbol] if symbol is not None else list(engine.symbols)
        return [
            {
                "symbol": name,
                "makerCommission": text(owner.commission_for(name).standard.maker),
                "takerCommission": text(owner.commission_for(name).standard.taker),
            }
            for name in names
        ]

    return step


def capital_config(call: Call) -> Step:
    def step() -> Any:
        engine = call.exchange.engine
        balances = engine.balances(call.account, at=call.at)
        assets = set(balances)
        for spec in engine.symbols.values():
            assets |= {spec.base_asset, spec.quote_asset}
        return [_coin_row(asset, *balances.get(asset, (0, 0))) for asset in sorted(assets)]

    return step


def _coin_row(asset: str, free: int, locked: int) -> dict[str, Any]:
    zero = "0"
    return {
        "coin": asset,
        "depositAllEnable": True,
        "withdrawAllEnable": True,
        "name": asset,
        "free": text(free),
        "locked": text(locked),
        "freeze": zero,
        "withdrawing": zero,
        "ipoing": zero,
        "ipoable": zero,
        "storage": zero,
        "isLegalMoney": False,
        "trading": True,
        "networkList": [],
    }


def account_status(call: Call) -> Step:
    return lambda: {"data": "Normal"}


def trading_status(call: Call) -> Step:
    def step() -> Any:
        return {
            "data": {
                "isLocked": False,
                "plannedRecoverTime": 0,
                "triggerCondition": {"GCR": 150, "IFER": 150, "UFR": 300},
                "updateTime": call.now_us() // 1000,
            }
        }

    return step


def no_margin_pairs(call: Call) -> Step:
    """Margin trading is not part of this exchange; clients ask while they load their markets."""
    call.params.symbol()
    return list


_PERIOD_NAMES = "startTime endTime limit"
_USER = Security.USER_DATA

ACCOUNT_OPERATIONS: tuple[Operation, ...] = (
    operation("GET /api/v3/order", "order.status", 4, "symbol orderId origClientOrderId", get_order, _USER),
    operation("GET /api/v3/openOrders", "openOrders.status", open_orders_weight, "symbol", open_orders, _USER),
    operation("GET /api/v3/allOrders", "allOrders", 20, f"symbol orderId {_PERIOD_NAMES}", all_orders, _USER),
    operation(
        "GET /api/v3/myTrades",
        "myTrades",
        my_trades_weight,
        f"symbol orderId fromId {_PERIOD_NAMES}",
        my_trades,
        _USER,
    ),
    operation(
        "GET /api/v3/myPreventedMatches",
        "myPreventedMatches",
        prevented_weight,
        "symbol preventedMatchId orderId fromPreventedMatchId limit",
        my_prevented_matches,
        _USER,
    ),
    operation(
        "GET /api/v3/myAllocations",
        "myAllocations",
        20,
        f"symbol fromAllocationId orderId {_PERIOD_NAMES}",
        my_allocations,
        _USER,
    ),
    operation("GET /api/v3/account", "account.status", 20, "omitZeroBalances", account, _USER),
    operation("GET /api/v3/account/commission", "account.commission", 20, "symbol", commission, _USER),
    operation("GET /api/v3/rateLimit/order", "account.rateLimits.orders", 40, "", order_rate_limits, _USER),
    operation("GET /api/v3/myFilters", "myFilters", 40, "symbol", my_filters, _USER),
    operation("GET /sapi/v1/account/apiRestrictions", "", 1, "", api_restrictions, _USER),
    operation("GET /sapi/v1/asset/tradeFee", "", 1, "symbol", trade_fee, _USER),
    operation("GET /sapi/v1/capital/config/getall", "", 10, "", capital_config, _USER),
    operation("GET /sapi/v1/margin/allPairs", "", 1, "symbol", no_margin_pairs, _USER),
    operation("GET /sapi/v1/margin/isolated/allPairs", "", 10, "symbol", no_margin_pairs, _USER),
    operation("GET /sapi/v1/account/status", "", 1, "", account_status, _USER),
    operation("GET /sapi/v1/account/apiTradingStatus", "", 1, "", trading_status, _USER),
)
