"""Whether an order is taken, and what it must hold: everything between a request and the book."""

from __future__ import annotations

from exchanges.simulator.context import Context
from exchanges.simulator.filters import check_assets, failure
from exchanges.simulator.ledger import INSUFFICIENT
from exchanges.simulator.matching import Market
from exchanges.simulator.model import (
    BASIS_POINTS,
    SCALE,
    STOP_TYPES,
    Account,
    EngineError,
    NewOrder,
    Order,
    OrderType,
    Side,
    StpMode,
    SymbolStatus,
    TimeInForce,
)
from exchanges.simulator.request import check_parameters, check_symbol
from exchanges.simulator.tape import AVERAGE_MINUTES

MARKET_CLOSED = "Market is closed."


def check(context: Context, market: Market, account: Account, request: NewOrder) -> None:
    """What is refused before the engine: parameters, the symbol, its filters."""
    check_parameters(request)
    if market.status is not SymbolStatus.TRADING:
        raise EngineError(-1013, MARKET_CLOSED)
    check_symbol(market.spec, request)
    now = context.now
    market.filters.check(request, lambda minutes: market.tape.average(minutes, now))
    if account.asset_filters:
        reference = market.tape.average(AVERAGE_MINUTES, now)
        check_assets(account.asset_filters, request, market.base, market.quote, reference)
    if request.price and request.quantity and request.price * request.quantity < SCALE:
        raise EngineError(-1013, "Price * QTY is zero or less.")


def check_account(context: Context, market: Market, account: Account, request: NewOrder) -> None:
    """What the engine refuses for the account's sake."""
    if not account.can_trade:
        raise EngineError(-2010, "This account may not place or cancel orders.")
    if not all(any(name in account.permissions for name in names) for names in market.spec.permission_sets):
        raise EngineError(-2010, "This symbol is not permitted for this account.")
    store = context.stores[account.account_id]
    if request.client_order_id in store.open_by_client:
        raise EngineError(-2010, "Duplicate order sent.")
    algo = request.order_type in STOP_TYPES
    iceberg = bool(request.iceberg_quantity)
    market.filters.caps.check(store.counts_on(request.symbol), algo, iceberg)
    context.exchange_caps.check(store.open_total, algo, iceberg)
    if request.order_type is OrderType.LIMIT_MAKER and market.would_match(request.side, request.price or 0):
        raise EngineError(-2010, "Order would immediately match and take.")
    if algo and request.stop_price and market.tape.last_price:
        queue = market.stops.queue(request.order_type, request.side)
        if queue.is_reached(request.stop_price, market.tape.last_price):
            raise EngineError(-2010, "Order would trigger immediately.")


def new_order(context: Context, market: Market, account: Account, request: NewOrder) -> Order:
    """The order with what it must hold, which its account has."""
    stp_mode = request.stp_mode or market.spec.default_stp_mode
    quantity, lock_price, hold = _funds(market, account, request, stp_mode)
    balance = account.balances.get(market.paying_asset(request.side))
    if hold > (balance.free if balance else 0):
        raise EngineError(-2010, INSUFFICIENT)
    if market.filters.max_position and request.side is Side.BUY:
        _check_position(context, market, account, quantity)
    now = context.now
    return Order(
        account,
        request.symbol,
        market.next_order_id(),
        request.client_order_id or context.new_client_order_id(),
        request.side,
        request.order_type,
        request.time_in_force or TimeInForce.GTC,
        quantity,
        request.price or 0,
        request.quote_quantity or 0,
        request.stop_price or 0,
        request.trailing_delta,
        request.iceberg_quantity or 0,
        stp_mode,
        request.strategy_id,
        request.strategy_type,
        now,
        now,
        locked=hold,
        lock_price=lock_price,
    )


def _check_position(context: Context, market: Market, account: Account, quantity: int) -> None:
    held = account.balances.get(market.base)
    owned = held.free + held.locked if held else 0
    open_buys = context.stores[account.account_id].open_buys(market.spec.symbol)
    market.filters.check_position(owned + open_buys + quantity)


def _funds(market: Market, account: Account, request: NewOrder, stp_mode: StpMode) -> tuple[int, int, int]:
    """(quantity, the price a BUY holds its quote amount at, what the order must hold)."""
    side = request.side
    quantity = request.quantity or 0
    if request.order_type is OrderType.MARKET:
        if request.quote_quantity is not None:
            quantity, cost = _quantity_for_quote(market, account, request, stp_mode)
        else:
            cost, _ = market.ahead(account, stp_mode, side).cost(quantity)
        return quantity, 0, cost if side is Side.BUY else quantity
    if side is Side.SELL:
        return quantity, 0, quantity
    price = request.price or request.stop_price or 0
    if not price:  # a trailing market BUY: the highest price it triggers at as of now
        price = market.tape.last_price * (BASIS_POINTS + (request.trailing_delta or 0)) // BASIS_POINTS
    return quantity, price, price * quantity // SCALE


def _quantity_for_quote(market: Market, account: Account, request: NewOrder, stp_mode: StpMode) -> tuple[int, int]:
    """The base quantity closest to `quoteOrderQty` from below that the lot size and the book allow."""
    quote = request.quote_quantity or 0
    if request.side is Side.BUY:
        balance = account.balances.get(market.quote)
        if quote > (balance.free if balance else 0):
            raise EngineError(-2010, INSUFFICIENT)
    if market.opposite(request.side).best() is None:
        raise EngineError(-2010, "Order book liquidity is less than symbol minimum quantity.")
    ahead = market.ahead(account, stp_mode, request.side)
    quantity, offered, cost = ahead.quantity(quote, market.filters.lot.step)
    for rule in (market.filters.lot, market.filters.market_lot):
        if quantity < max(rule.minimum, 1) or (rule.maximum and quantity > rule.maximum):
            raise failure(rule.name)
        if offered < max(rule.minimum, 1):
            raise EngineError(-2010, f"Order book liquidity is less than `{rule.name}` filter minimum quantity.")
    return quantity, cost
