"""The house: the account that quotes, and through which a test moves a market.

Its balances are endowed without limit, so its quotes hold nothing; it pays no commission and is told nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from exchanges.simulator.lookahead import crosses
from exchanges.simulator.matching import Market
from exchanges.simulator.model import SCALE, Side

Rows = Iterable[tuple[int, int]]


def quote(market: Market, bids: Rows, asks: Rows) -> None:
    """Replace the house's quotes by these (price, quantity); what crosses an account's order trades."""
    withdraw(market)
    for side, rows in ((Side.BUY, bids), (Side.SELL, asks)):
        for price, quantity in rows:
            order = market.house_order(side, price, quantity)
            market.match(order, price)
            if order.remaining:
                market.own_side(side).add(order)
                market.quotes[order.order_id] = order


def withdraw(market: Market) -> None:
    for order in market.quotes.values():
        market.own_side(order.side).remove(order)
    market.quotes.clear()
    market.update_id += 1


def print_trade(market: Market, price: int, quantity: int, *, buyer_is_maker: bool = False) -> None:
    """The house trades with itself: money stays where it is, the last price moves."""
    market.last_trade_id += 1
    market.record(
        market.last_trade_id, price, quantity, price * quantity // SCALE, buyer_is_maker, market.next_order_id()
    )


def set_price(market: Market, price: int, bids: Rows | None, asks: Rows | None) -> None:
    """Make `price` the last one; see `Engine.set_price`."""
    if bids is None or asks is None:
        bids, asks = _shifted(market, price)
    withdraw(market)
    _sweep(market, price)
    quote(market, bids, asks)
    market.tape.forget_averages()
    print_trade(market, price, market.filters.lot.minimum or 1)


def _sweep(market: Market, price: int) -> None:
    """Take every account's order that `price` reaches or crosses, best first."""
    for side in (Side.SELL, Side.BUY):
        reached = 0
        for level in market.opposite(side):
            if not crosses(side, price, level.price):
                break
            reached += sum(order.remaining for order in level.orders.values())
        if reached:
            market.match(market.house_order(side, price, reached), price)


def _shifted(market: Market, price: int) -> tuple[Rows, Rows]:
    """The present quotes moved so that their middle is at `price`: (bids, asks)."""
    bids = [(order.price, order.remaining) for order in market.quotes.values() if order.side is Side.BUY]
    asks = [(order.price, order.remaining) for order in market.quotes.values() if order.side is Side.SELL]
    if not bids or not asks:
        return [], []
    tick = market.filters.price.step or 1
    shift = price - (max(bids)[0] + min(asks)[0]) // 2
    down, up = shift - shift % tick, shift + -shift % tick
    return (
        [(row[0] + down, row[1]) for row in bids if row[0] + down > 0],
        [(row[0] + up, row[1]) for row in asks if row[0] + up > 0],
    )
