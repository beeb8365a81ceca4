"""Estimate an order's result: walk the other side of the book before anything happens."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from exchanges.simulator.engine.enums import Side, StpMode
from exchanges.simulator.engine.order_book import BookSide, Level
from exchanges.simulator.engine.self_trade import prevention_mode
from exchanges.simulator.engine.types import SCALE, Account, Order


def crosses(side: Side, limit: int, price: int) -> bool:
    """Check whether a `side` order with this limit takes that opposite price."""
    return price <= limit if side is Side.BUY else price >= limit


def affordable(amount: int, price: int, step: int) -> int:
    """Return the largest base quantity, a multiple of `step`, that a quote amount pays for.

    Notionals are rounded down, so that it may be worth a fraction of a unit more than the amount.
    """
    quantity = ((amount + 1) * SCALE - 1) // price
    return quantity - quantity % (step or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Walk `book` as a `side` order of the account would, down to `limit` (0: any price)."""

    book: BookSide
    account: Account
    stp_mode: StpMode
    side: Side
    limit: int = 0

    def available(self) -> Iterator[tuple[int, int, bool]]:
        """Yield (price, quantity, is prevented), best price first.

        Self-trade prevention takes a prevented quantity from the order without a trade. The walk
        ends where it would end the order.
        """
        for level in self.book:
            if self.limit and not crosses(self.side, self.limit, level.price):
                return
            for order, quantity in _slices(level):
                mode = prevention_mode(self.account, self.stp_mode, order)
                if mode is StpMode.EXPIRE_TAKER or mode is StpMode.EXPIRE_BOTH:
                    return
                if mode is not StpMode.EXPIRE_MAKER:
                    trades = mode is StpMode.NONE or mode is StpMode.TRANSFER
                    yield level.price, quantity, not trades

    def cost(self, quantity: int) -> tuple[int, bool]:
        """Return the quote amount for `quantity` and whether the book has all of it.

        If the book has less, the amount is for the part that it has.
        """
        cost = 0
        for price, offered, prevented in self.available():
            take = min(offered, quantity)
            quantity -= take
            if not prevented:
                cost += price * take // SCALE
            if quantity == 0:
                return cost, True
        return cost, False

    def quantity(self, budget: int, step: int) -> tuple[int, int, int]:
        """Return the quantity that `budget` buys, the part the book has, and that part's cost.

        Beyond the end of the book, the last price of the book counts.
        """
        done = cost = price = 0
        for price, offered, prevented in self.available():
            if prevented:
                continue
            if price * offered // SCALE >= budget - cost:
                take = min(offered, affordable(budget - cost, price, step))
                return done + take, done + take, cost + price * take // SCALE
            done += offered
            cost += price * offered // SCALE
        missing = affordable(budget - cost, price, step) if price else 0
        return done + missing, done, cost


def _slices(level: Level) -> Iterator[tuple[Order, int]]:
    """Yield the level's orders and quantities as they trade.

    The hidden part of an iceberg comes slice by slice, each at the end of the queue.
    """
    hidden: deque[tuple[Order, int]] = deque()
    for order in level.orders.values():
        yield order, order.visible
        if order.visible < order.remaining:
            hidden.append((order, order.remaining - order.visible))
    while hidden:
        order, left = hidden.popleft()
        size = min(order.iceberg_quantity, left)
        yield order, size
        if size < left:
            hidden.append((order, left - size))
