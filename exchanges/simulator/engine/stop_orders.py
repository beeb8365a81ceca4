"""Let orders wait for a price: stop losses, take profits and trailing ones."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

from exchanges.simulator.engine.enums import OrderType, Side
from exchanges.simulator.engine.types import BASIS_POINTS, Order


class StopQueue:
    """Queue orders until the last price reaches their stop price from one side.

    If `rising`, they trigger at or above the stop price, otherwise at or below it. `_keys` is
    sorted with the nearest stop last. Of equal stops the oldest order is last.
    """

    __slots__ = ("_keys", "_orders", "rising")

    def __init__(self, *, rising: bool) -> None:
        self.rising = rising
        self._keys: list[tuple[int, int]] = []
        self._orders: dict[int, Order] = {}

    def _key(self, order: Order) -> tuple[int, int]:
        return (-order.stop_price if self.rising else order.stop_price, -order.order_id)

    def add(self, order: Order) -> None:
        insort(self._keys, self._key(order))
        self._orders[order.order_id] = order

    def remove(self, order: Order) -> None:
        del self._keys[bisect_left(self._keys, self._key(order))]
        del self._orders[order.order_id]

    def pop_reached(self, price: int) -> Order | None:
        """Remove and return the next order that `price` triggers, or return None."""
        if not self._keys:
            return None
        order = self._orders[-self._keys[-1][1]]
        if not self.is_reached(order.stop_price, price):
            return None
        self._keys.pop()
        return self._orders.pop(order.order_id)

    def is_reached(self, stop_price: int, price: int) -> bool:
        return price >= stop_price if self.rising else price <= stop_price

    def __contains__(self, order: Order) -> bool:
        return order.order_id in self._orders


class Stops:
    """Keep all waiting orders of a market.

    `move` collects the triggered orders in `triggered`, and the market activates them once its
    current step is done.
    """

    def __init__(self) -> None:
        self._rising = StopQueue(rising=True)
        self._falling = StopQueue(rising=False)
        self._trailing: dict[int, Order] = {}
        self.triggered: deque[Order] = deque()

    def queue(self, order_type: OrderType, side: Side) -> StopQueue:
        """Return the queue of such orders.

        A stop loss follows a price that moves against the order, a take profit one that moves in
        its favor.
        """
        stop_loss = order_type in (OrderType.STOP_LOSS, OrderType.STOP_LOSS_LIMIT)
        return self._rising if stop_loss is (side is Side.BUY) else self._falling

    def add(self, order: Order, last_price: int, now: int) -> None:
        if order.trailing_delta is not None and not order.stop_price:
            self._trail(order, last_price, now)
        else:
            self.queue(order.order_type, order.side).add(order)

    def remove(self, order: Order) -> None:
        """Remove an order. Ignore orders that don't wait here."""
        if self._trailing.pop(order.order_id, None) is None:
            queue = self.queue(order.order_type, order.side)
            if order in queue:
                queue.remove(order)

    def move(self, price: int, now: int) -> None:
        """Trigger the orders that `price`, the new last price, reaches.

        An order with both a stop price and a trailing delta only begins to trail at its stop price.
        """
        for queue in (self._rising, self._falling):
            while (order := queue.pop_reached(price)) is not None:
                if order.trailing_delta is None:
                    self.triggered.append(order)
                else:
                    self._trail(order, price, now)
        if self._trailing:
            for order in [order for order in self._trailing.values() if _trails_to(order, price)]:
                del self._trailing[order.order_id]
                self.triggered.append(order)

    def _trail(self, order: Order, price: int, now: int) -> None:
        order.trailing_at = now
        order.trailing_extreme = price
        self._trailing[order.order_id] = order


def _trails_to(order: Order, price: int) -> bool:
    """Follow the price and check whether it came back by the order's delta."""
    delta = order.trailing_delta or 0
    if order.side is Side.SELL:
        order.trailing_extreme = max(order.trailing_extreme, price)
        return price * BASIS_POINTS <= order.trailing_extreme * (BASIS_POINTS - delta)
    if price < order.trailing_extreme or not order.trailing_extreme:
        order.trailing_extreme = price
    return price * BASIS_POINTS >= order.trailing_extreme * (BASIS_POINTS + delta)
