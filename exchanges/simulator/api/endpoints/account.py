"""Answer private queries: orders, trades, balances, commissions and filters."""

from __future__ import annotations

from typing import Any

from exchanges.simulator import errors
from exchanges.simulator.api.operations import Call, Operation, Security, Step, operation
from exchanges.simulator.api.params import Params
from exchanges.simulator.api.render import account as render_account
from exchanges.simulator.api.render import orders as render
from exchanges.simulator.engine.types import Order
from exchanges.simulator.errors import ApiError
from exchanges.simulator.exchange.rate_limits import order_rows

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
    rows = [
        _order_row(call, order)
        for order in orders
        if not call.exchange.is_hidden(order.symbol, order.order_id)
    ]
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
    """Return startTime and endTime in microseconds. They may be a day apart at most."""
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
    # The period includes all of its last millisecond.
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
    sent = frozenset(
        name for name in ("orderId", "startTime", "endTime", "fromId") if name in params
    )
    if sent not in _TRADE_COMBINATIONS:
        raise errors.bad_combination()

    def step() -> Any:
        trades = call.exchange.engine.trades(
            call.account,
            symbol,
            order_id=order_id,
            from_id=from_id,
            start=start,
            end=end,
            limit=limit,
            at=call.at,
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
    sent = frozenset(
        name for name in ("preventedMatchId", "orderId", "fromPreventedMatchId") if name in params
    )
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
    """Return no allocations: they come from smart order routing, which doesn't exist here."""
    symbol = call.params.required_symbol()
    _period(call.params)
    for name in ("fromAllocationId", "orderId"):
        call.params.integer(name)
    call.params.limit(500, 1000)

    def step() -> Any:
        call.exchange.engine.spec(symbol)
        return []

    return step


def order_amendments(call: Call) -> Step:
    params = call.params
    symbol = params.required_symbol()
    params.required_text("orderId")
    order_id = params.integer("orderId")
    first = params.integer("fromExecutionId") or 0
    limit = params.limit(500, 1000)

    def step() -> Any:
        order = call.exchange.engine.order(call.account, symbol, order_id=order_id, at=call.at)
        if call.exchange.is_hidden(symbol, order.order_id):
            raise errors.no_such_order()
        return [
            render.amendment_row(amendment, call.unit)
            for amendment in order.amendments
            if amendment.execution_id >= first
            and (call.at is None or amendment.transact_time <= call.at)
        ][:limit]

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
        updated_at = engine.balances_updated_at(call.account, at=call.at)
        return render_account.account_row(owner, rows, updated_at, call.unit)

    return step


def commission(call: Call) -> Step:
    symbol = call.params.required_symbol()

    def step() -> Any:
        engine = call.exchange.engine
        engine.spec(symbol)
        return render_account.commission_row(
            symbol, engine.account(call.account).commission_for(symbol)
        )

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


_PERIOD_NAMES = "startTime endTime limit"
_USER = Security.USER_DATA

ACCOUNT_OPERATIONS: tuple[Operation, ...] = (
    operation(
        "GET /api/v3/order",
        "order.status",
        4,
        "symbol* orderId origClientOrderId",
        get_order,
        _USER,
    ),
    operation(
        "GET /api/v3/openOrders",
        "openOrders.status",
        open_orders_weight,
        "symbol",
        open_orders,
        _USER,
    ),
    operation(
        "GET /api/v3/allOrders",
        "allOrders",
        20,
        f"symbol* orderId {_PERIOD_NAMES}",
        all_orders,
        _USER,
    ),
    operation(
        "GET /api/v3/myTrades",
        "myTrades",
        my_trades_weight,
        f"symbol* orderId fromId {_PERIOD_NAMES}",
        my_trades,
        _USER,
    ),
    operation(
        "GET /api/v3/myPreventedMatches",
        "myPreventedMatches",
        prevented_weight,
        "symbol* preventedMatchId orderId fromPreventedMatchId limit",
        my_prevented_matches,
        _USER,
    ),
    operation(
        "GET /api/v3/myAllocations",
        "myAllocations",
        20,
        f"symbol* fromAllocationId orderId {_PERIOD_NAMES}",
        my_allocations,
        _USER,
    ),
    operation(
        "GET /api/v3/order/amendments",
        "order.amendments",
        4,
        "symbol* orderId* fromExecutionId limit",
        order_amendments,
        _USER,
    ),
    operation("GET /api/v3/account", "account.status", 20, "omitZeroBalances", account, _USER),
    operation(
        "GET /api/v3/account/commission", "account.commission", 20, "symbol*", commission, _USER
    ),
    operation(
        "GET /api/v3/rateLimit/order", "account.rateLimits.orders", 40, "", order_rate_limits, _USER
    ),
    operation("GET /api/v3/myFilters", "myFilters", 40, "symbol*", my_filters, _USER),
)
