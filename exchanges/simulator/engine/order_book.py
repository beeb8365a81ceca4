"""Keep the two sides of a book in price-time priority."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator

from exchanges.simulator.engine.enums import Side
from exchanges.simulator.engine.types import Order


class Level:
    """Queue the orders at one price. Depth shows `visible`."""

    __slots__ = ("orders", "price", "visible")

    def __init__(self, price: int) -> None:
        self.price = price
        # An OrderedDict, because a plain dict gets slow when items leave at its front.
        self.orders: OrderedDict[int, Order] = OrderedDict()
        self.visible = 0


class BookSide:
    """Keep the levels of one side.

    `_keys` is sorted with the best price last, where it is cheap to read and to drop.
    """

    __slots__ = ("_keys", "levels", "sign")

    def __init__(self, side: Side) -> None:
        self.sign = 1 if side is Side.BUY else -1
        self.levels: dict[int, Level] = {}
        self._keys: list[int] = []

    def best(self) -> Level | None:
        return self.levels[self._keys[-1] * self.sign] if self._keys else None

    def best_price(self) -> int:
        """Return the best price, 0 if the side is empty."""
        return self._keys[-1] * self.sign if self._keys else 0

    def __iter__(self) -> Iterator[Level]:
        """Yield the levels, best price first."""
        for key in reversed(self._keys):
            yield self.levels[key * self.sign]

    def add(self, order: Order) -> None:
        """Add the order to the end of its level's queue. An iceberg shows its next slice."""
        level = self.levels.get(order.price)
        if level is None:
            level = self.levels[order.price] = Level(order.price)
            insort(self._keys, order.price * self.sign)
        remaining = order.remaining
        order.visible = (
            min(order.iceberg_quantity, remaining) if order.iceberg_quantity else remaining
        )
        level.visible += order.visible
        level.orders[order.order_id] = order

    def remove(self, order: Order) -> None:
        level = self.levels[order.price]
        del level.orders[order.order_id]
        level.visible -= order.visible
        order.visible = 0
        if not level.orders:
            self._drop(order.price)

    def reduce(self, order: Order, quantity: int) -> None:
        """Update the book after the order lost `quantity`, which the order already shows.

        The order leaves the book, shows its next slice at the end of the queue, or keeps its place.
        """
        if order.remaining == 0:
            self.remove(order)
            return
        level = self.levels[order.price]
        if quantity < order.visible:
            order.visible -= quantity
            level.visible -= quantity
            return
        del level.orders[order.order_id]
        level.visible -= order.visible
        self.add(order)

    def shrink(self, order: Order) -> None:
        """Update the book after an amendment. The order keeps its place in the queue."""
        hidden = order.visible - min(order.visible, order.remaining)
        order.visible -= hidden
        self.levels[order.price].visible -= hidden

    def _drop(self, price: int) -> None:
        del self.levels[price]
        key = price * self.sign
        if self._keys[-1] == key:
            self._keys.pop()
        else:
            del self._keys[bisect_left(self._keys, key)]
