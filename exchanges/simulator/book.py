"""Price-time priority: the two sides of a book."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator

from exchanges.simulator.model import Order, Side


class Level:
    """The orders at one price in order of arrival; `visible` is what depth shows of them."""

    __slots__ = ("orders", "price", "visible")

    def __init__(self, price: int) -> None:
        self.price = price
        # ordered: a plain dict grows slow at its front when it is emptied from there
        self.orders: OrderedDict[int, Order] = OrderedDict()
        self.visible = 0


class BookSide:
    """Levels by price. `_keys` is sorted so that the best price is last: cheap to read and to drop."""

    __slots__ = ("_keys", "levels", "sign")

    def __init__(self, side: Side) -> None:
        self.sign = 1 if side is Side.BUY else -1
        self.levels: dict[int, Level] = {}
        self._keys: list[int] = []

    def best(self) -> Level | None:
        return self.levels[self._keys[-1] * self.sign] if self._keys else None

    def best_price(self) -> int:
        """0 when the side is empty."""
        return self._keys[-1] * self.sign if self._keys else 0

    def __iter__(self) -> Iterator[Level]:
        """Best first."""
        for key in reversed(self._keys):
            yield self.levels[key * self.sign]

    def add(self, order: Order) -> None:
        """At the end of its level's queue; an iceberg shows its next slice."""
        level = self.levels.get(order.price)
        if level is None:
            level = self.levels[order.price] = Level(order.price)
            insort(self._keys, order.price * self.sign)
        remaining = order.remaining
        order.visible = min(order.iceberg_quantity, remaining) if order.iceberg_quantity else remaining
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
        """Its resting order lost `quantity` (already booked on the order): leaves, shows its next slice at the
        end of the queue, or keeps its place."""
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

    def _drop(self, price: int) -> None:
        del self.levels[price]
        key = price * self.sign
        if self._keys[-1] == key:
            self._keys.pop()
        else:
            del self._keys[bisect_left(self._keys, key)]
