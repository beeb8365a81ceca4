"""Trade for the house: the account that quotes, and through which a test moves a market.

The house gets balances without limit, so its quotes hold nothing. It pays no commission and gets
no reports.
"""

from __future__ import annotations

from collections.abc import Iterable

from exchanges.simulator.engine.enums import OrderType, Side, StpMode, TimeInForce
from exchanges.simulator.engine.estimate import crosses
from exchanges.simulator.engine.market import Market
from exchanges.simulator.engine.types import SCALE, Order, PublicTrade

Rows = Iterable[tuple[int, int]]


def make_order(market: Market, side: Side, price: int, quantity: int) -> Order:
    """Return a limit order of the house that is ready to match."""
    now = market.context.now
    return Order(
        account=market.context.house,
        symbol=market.spec.symbol,
        order_id=market.next_order_id(),
        client_order_id="",
        side=side,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.GTC,
        quantity=quantity,
        price=price,
        stp_mode=StpMode.NONE,
        created_at=now,
        updated_at=now,
        is_working=True,
    )


def quote(market: Market, bids: Rows, asks: Rows) -> None:
    """Replace the quotes of the house by these (price, quantity) and trade where they cross."""
    withdraw(market)
    for side, rows in ((Side.BUY, bids), (Side.SELL, asks)):
        for price, quantity in rows:
            order = make_order(market, side, price, quantity)
            market.match(order, price)
            if order.remaining:
                market.own_side(side).add(order)
                market.house_quotes[order.order_id] = order


def withdraw(market: Market) -> None:
    """Take all quotes of the house off the book."""
    for order in market.house_quotes.values():
        market.own_side(order.side).remove(order)
    market.house_quotes.clear()
    market.update_id += 1


def print_trade(market: Market, price: int, quantity: int, *, buyer_is_maker: bool = False) -> None:
    """Trade with the house itself: the last price moves and no money does."""
    market.last_trade_id += 1
    trade = PublicTrade(
        trade_id=market.last_trade_id,
        price=price,
        quantity=quantity,
        quote_quantity=price * quantity // SCALE,
        time=market.context.now,
        buyer_is_maker=buyer_is_maker,
    )
    market.record(trade, taker_order_id=market.next_order_id())


def set_price(market: Market, price: int, bids: Rows | None, asks: Rows | None) -> None:
    """Make `price` the last price, see `Engine.set_price`."""
    if bids is None or asks is None:
        bids, asks = _shifted(market, price)
    withdraw(market)
    _sweep(market, price)
    quote(market, bids, asks)
    market.history.forget_averages()
    print_trade(market, price, market.filters.lot.minimum or 1)


def _sweep(market: Market, price: int) -> None:
    """Take all orders of accounts that `price` reaches or crosses, best first."""
    for side in (Side.SELL, Side.BUY):
        reached = 0
        for level in market.opposite(side):
            if not crosses(side, price, level.price):
                break
            reached += sum(order.remaining for order in level.orders.values())
        if reached:
            market.match(make_order(market, side, price, reached), price)


def _shifted(market: Market, price: int) -> tuple[Rows, Rows]:
    """Return the current (bids, asks), moved so that their middle is at `price`."""
    quotes = market.house_quotes.values()
    bids = [(order.price, order.remaining) for order in quotes if order.side is Side.BUY]
    asks = [(order.price, order.remaining) for order in quotes if order.side is Side.SELL]
    if not bids or not asks:
        return [], []
    tick = market.filters.price.step or 1
    shift = price - (max(bids)[0] + min(asks)[0]) // 2
    down, up = shift - shift % tick, shift + -shift % tick
    return (
        [(row[0] + down, row[1]) for row in bids if row[0] + down > 0],
        [(row[0] + up, row[1]) for row in asks if row[0] + up > 0],
    )
