"""What an order would meet on the other side of the book, before anything happens."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from exchanges.simulator.book import BookSide, Level
from exchanges.simulator.model import SCALE, Account, Order, Side, StpMode
from exchanges.simulator.prevention import effective_mode, is_self_trade


def crosses(side: Side, limit: int, price: int) -> bool:
    """A `side` order with this limit takes that opposite price."""
    return price <= limit if side is Side.BUY else price >= limit


def affordable(amount: int, price: int, step: int) -> int:
    """The base quantity, a multiple of `step`, that a quote amount pays for."""
    quantity = amount * SCALE // price
    return quantity - quantity % (step or 1)


@dataclass(frozen=True, slots=True)
class Lookahead:
    """A `side` order of the account against `book`, down to `limit`; 0 takes any price."""

    book: BookSide
    account: Account
    stp_mode: StpMode
    side: Side
    limit: int = 0

    def available(self) -> Iterator[tuple[int, int, bool]]:
        """What it would meet, best first: (price, quantity, prevented). Prevented is what self-trade prevention
        would take from the order for nothing; where that would end the order, this ends."""
        for level in self.book:
            if self.limit and not crosses(self.side, self.limit, level.price):
                return
            for order, quantity in _slices(level):
                own = self.stp_mode is not StpMode.NONE and is_self_trade(self.account, order.account)
                if own and self.stp_mode in (StpMode.EXPIRE_TAKER, StpMode.EXPIRE_BOTH):
                    return
                if not own or self.stp_mode is not StpMode.EXPIRE_MAKER:
                    prevented = own and effective_mode(self.account, self.stp_mode, order) is not StpMode.TRANSFER
                    yield level.price, quantity, prevented

    def cost(self, quantity: int) -> tuple[int, bool]:
        """(The quote amount for as much of `quantity` as the book has, whether it has all of it)."""
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
        """(The quantity that the quote amount `budget` is good for, how much of it the book has, the cost of
        that). What the book has not is reckoned at the last price it has."""
        done = cost = price = 0
        for price, offered, prevented in self.available():
            if prevented:
                continue
            if price * offered // SCALE >= budget - cost:
                take = affordable(budget - cost, price, step)
                return done + take, done + take, cost + price * take // SCALE
            done += offered
            cost += price * offered // SCALE
        missing = affordable(budget - cost, price, step) if price else 0
        return done + missing, done, cost


def _slices(level: Level) -> Iterator[tuple[Order, int]]:
    """All that a level has in the order in which it trades: what an iceberg hides comes slice by slice at the
    end of the queue."""
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
