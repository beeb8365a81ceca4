"""Admit orders: check a request and hold its funds, before it reaches the book."""

from __future__ import annotations

from exchanges.simulator.engine.context import Context
from exchanges.simulator.engine.enums import (
    STOP_TYPES,
    OrderType,
    Side,
    StpMode,
    SymbolStatus,
    TimeInForce,
)
from exchanges.simulator.engine.filters import check_assets, failure
from exchanges.simulator.engine.ledger import INSUFFICIENT
from exchanges.simulator.engine.market import Market
from exchanges.simulator.engine.order_rules import check_parameters, check_symbol
from exchanges.simulator.engine.trade_history import AVERAGE_MINUTES
from exchanges.simulator.engine.types import (
    BASIS_POINTS,
    SCALE,
    Account,
    EngineError,
    NewOrder,
    Order,
)

MARKET_CLOSED = "Market is closed."
NOT_PERMITTED = "This symbol is not permitted for this account."


def check(context: Context, market: Market, account: Account, request: NewOrder) -> None:
    """Check parameters, symbol and filters, which the exchange does before its engine."""
    check_parameters(request)
    if market.status is not SymbolStatus.TRADING:
        raise EngineError(-1013, MARKET_CLOSED)
    check_symbol(market.spec, request)
    now = context.now
    market.filters.check(request, lambda minutes: market.history.average(minutes, now))
    if account.asset_filters:
        reference = market.history.average(AVERAGE_MINUTES, now)
        check_assets(account.asset_filters, request, market.base, market.quote, reference)
    if request.price and request.quantity and request.price * request.quantity < SCALE:
        raise EngineError(-1013, "Price * QTY is zero or less.")


def check_account(context: Context, market: Market, account: Account, request: NewOrder) -> None:
    """Check the account's permissions and open orders, and the order against the market."""
    if not account.can_trade:
        raise EngineError(-2010, "This account may not place or cancel orders.")
    if request.symbol in account.forbidden_symbols:
        raise EngineError(-2010, NOT_PERMITTED)
    permissions = frozenset(account.permissions)
    for names in market.spec.permission_sets:
        if permissions.isdisjoint(names):
            raise EngineError(-2010, NOT_PERMITTED)
    store = context.stores[account.account_id]
    if request.client_order_id in store.open_by_client:
        raise EngineError(-2010, "Duplicate order sent.")
    algo = request.order_type in STOP_TYPES
    iceberg = bool(request.iceberg_quantity)
    market.filters.caps.check(store.counts_on(request.symbol), algo, iceberg)
    context.exchange_caps.check(store.open_total, algo, iceberg)
    if request.order_type is OrderType.LIMIT_MAKER and market.would_match(
        request.side, request.price or 0
    ):
        raise EngineError(-2010, "Order would immediately match and take.")
    if algo and request.stop_price and market.history.last_price:
        queue = market.stops.queue(request.order_type, request.side)
        if queue.is_reached(request.stop_price, market.history.last_price):
            raise EngineError(-2010, "Order would trigger immediately.")


def new_order(context: Context, market: Market, account: Account, request: NewOrder) -> Order:
    """Return the order with the amount it must hold.

    Raises -2010 if the account has too little.
    """
    stp_mode = request.stp_mode or market.spec.default_stp_mode
    quantity, lock_price, hold = _needs(market, account, request, stp_mode)
    balance = account.balances.get(market.funds.paying_asset(request.side))
    if hold > (balance.free if balance else 0):
        raise EngineError(-2010, INSUFFICIENT)
    if market.filters.max_position and request.side is Side.BUY:
        _check_position(context, market, account, quantity)
    now = context.now
    return Order(
        account=account,
        symbol=request.symbol,
        order_id=market.next_order_id(),
        client_order_id=request.client_order_id or context.new_client_order_id(),
        side=request.side,
        order_type=request.order_type,
        time_in_force=request.time_in_force or TimeInForce.GTC,
        quantity=quantity,
        price=request.price or 0,
        quote_quantity=request.quote_quantity or 0,
        stop_price=request.stop_price or 0,
        trailing_delta=request.trailing_delta,
        iceberg_quantity=request.iceberg_quantity or 0,
        stp_mode=stp_mode,
        strategy_id=request.strategy_id,
        strategy_type=request.strategy_type,
        created_at=now,
        updated_at=now,
        locked=hold,
        lock_price=lock_price,
    )


def _check_position(context: Context, market: Market, account: Account, quantity: int) -> None:
    balance = account.balances.get(market.base)
    owned = balance.free + balance.locked if balance else 0
    open_buys = context.stores[account.account_id].open_buys(market.spec.symbol)
    market.filters.check_position(owned + open_buys + quantity)


def _needs(
    market: Market, account: Account, request: NewOrder, stp_mode: StpMode
) -> tuple[int, int, int]:
    """Return the quantity, the lock price and the amount that the order must hold.

    The lock price is the price at which a BUY holds its quote amount, 0 for all other orders.
    """
    side = request.side
    quantity = request.quantity or 0
    if request.order_type is OrderType.MARKET:
        if request.quote_quantity is not None:
            quantity, cost = _quantity_for_quote(market, account, request, stp_mode)
        else:
            cost, _ = market.estimate(account, stp_mode, side).cost(quantity)
        return quantity, 0, cost if side is Side.BUY else quantity
    if side is Side.SELL:
        return quantity, 0, quantity
    price = request.price or request.stop_price or 0
    if not price:  # a trailing market BUY: the highest price at which it would trigger now
        price = (
            market.history.last_price
            * (BASIS_POINTS + (request.trailing_delta or 0))
            // BASIS_POINTS
        )
    return quantity, price, price * quantity // SCALE


def _quantity_for_quote(
    market: Market, account: Account, request: NewOrder, stp_mode: StpMode
) -> tuple[int, int]:
    """Return the largest quantity within `quoteOrderQty`, and its cost.

    Lot size and book limit the quantity.
    """
    quote = request.quote_quantity or 0
    if request.side is Side.BUY:
        balance = account.balances.get(market.quote)
        if quote > (balance.free if balance else 0):
            raise EngineError(-2010, INSUFFICIENT)
    if market.opposite(request.side).best() is None:
        raise EngineError(-2010, "Order book liquidity is less than symbol minimum quantity.")
    estimate = market.estimate(account, stp_mode, request.side)
    quantity, offered, cost = estimate.quantity(quote, market.filters.lot.step)
    for rule in (market.filters.lot, market.filters.market_lot):
        if quantity < max(rule.minimum, 1) or (rule.maximum and quantity > rule.maximum):
            raise failure(rule.name)
        if offered < max(rule.minimum, 1):
            raise EngineError(
                -2010, f"Order book liquidity is less than `{rule.name}` filter minimum quantity."
            )
    return quantity, cost
