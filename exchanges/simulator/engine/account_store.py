"""Keep an account's orders, trades and unfilled-order counts."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

from exchanges.simulator.engine.enums import STOP_TYPES, Side
from exchanges.simulator.engine.filters import OpenOrders
from exchanges.simulator.engine.types import Account, Order, OrderLimit, Trade

# A first fill gives back one order to a taker and more to a maker. The published example gives back
# five.
TAKER_CREDIT = 1
MAKER_CREDIT = 5


class OrderCounter:
    """Count unfilled orders in fixed windows that start on the clock (10 s, UTC day)."""

    def __init__(self, limits: Iterable[OrderLimit]) -> None:
        self._limits = tuple((limit, limit.microseconds) for limit in limits)
        self._windows = [0] * len(self._limits)
        self._counts = [0] * len(self._limits)
        # No window ends between these two times.
        self._since = self._until = 0

    def _roll(self, now: int) -> None:
        if self._since <= now < self._until or not self._limits:
            return
        for index, (_, span) in enumerate(self._limits):
            window = now // span
            if window != self._windows[index]:
                self._windows[index] = window
                self._counts[index] = 0
        spans = [span for _, span in self._limits]
        self._since = max(now - now % span for span in spans)
        self._until = min(now - now % span + span for span in spans)

    def add(self, now: int) -> None:
        self._roll(now)
        for index in range(len(self._counts)):
            self._counts[index] += 1

    def fill(self, now: int, *, is_maker: bool) -> None:
        """Give credit for the first fill of an order, no matter when it was placed."""
        self._roll(now)
        credit = MAKER_CREDIT if is_maker else TAKER_CREDIT
        for index, count in enumerate(self._counts):
            self._counts[index] = max(0, count - credit)

    def counts(self, now: int) -> dict[OrderLimit, int]:
        self._roll(now)
        return {limit: self._counts[index] for index, (limit, _) in enumerate(self._limits)}

    def exceeded(self, now: int) -> OrderLimit | None:
        """Return the limit that one more order would break, or None.

        The longest window comes first, because a broken day limit leaves the shorter windows
        uncounted.
        """
        self._roll(now)
        broken = [
            limit
            for index, (limit, _) in enumerate(self._limits)
            if limit.limit and self._counts[index] >= limit.limit
        ]
        return max(broken, key=lambda limit: limit.microseconds, default=None)


class AccountStore:
    """Keep all open orders of one account and its last `history_limit` closed ones."""

    def __init__(self, account: Account, limits: Iterable[OrderLimit], history_limit: int) -> None:
        self.account = account
        self.history_limit = history_limit
        self.open: dict[tuple[str, int], Order] = {}
        self.open_by_client: dict[str, Order] = {}
        self.by_symbol: dict[str, dict[int, Order]] = {}
        self.by_client: dict[tuple[str, str], Order] = {}
        self.closed: deque[Order] = deque()
        self.trades: dict[str, deque[Trade]] = {}
        self.open_counts: dict[str, OpenOrders] = {}
        self.open_total = OpenOrders()
        self.counter = OrderCounter(limits)
        self.renamed = False
        self.accepted = 0
        self.traded = 0
        # Count the accepted orders per client order id, for the last `history_limit` ids.
        self.accepted_ids: OrderedDict[str, int] = OrderedDict()

    def accept(self, order: Order) -> None:
        self.open[order.symbol, order.order_id] = order
        self.open_by_client[order.client_order_id] = order
        orders = self.by_symbol.get(order.symbol)
        if orders is None:
            orders = self.by_symbol[order.symbol] = {}
        orders[order.order_id] = order
        self.by_client[order.symbol, order.client_order_id] = order
        self._count(order, 1)
        self.accepted += 1
        ids = self.accepted_ids
        ids[order.client_order_id] = ids.pop(order.client_order_id, 0) + 1
        if len(ids) > self.history_limit:
            ids.popitem(last=False)

    def rename(self, order: Order, client_order_id: str) -> None:
        """Give an open order another client order id. Its old id leads to the order before."""
        old = order.client_order_id
        del self.open_by_client[old]
        key = (order.symbol, old)
        if self.by_client.get(key) is order:
            del self.by_client[key]
            for other in self.by_symbol[order.symbol].values():
                if other is not order and other.client_order_id == old:
                    self.by_client[key] = other
        order.client_order_id = client_order_id
        self.open_by_client[client_order_id] = order
        self.by_client[order.symbol, client_order_id] = order
        self.renamed = True

    def close(self, order: Order) -> None:
        del self.open[order.symbol, order.order_id]
        del self.open_by_client[order.client_order_id]
        self._count(order, -1)
        self.closed.append(order)
        if len(self.closed) > self.history_limit:
            self._evict(self.closed.popleft())

    def add_trade(self, trade: Trade) -> None:
        self.traded += 1
        trades = self.trades.get(trade.symbol)
        if trades is None:
            trades = self.trades[trade.symbol] = deque(maxlen=self.history_limit)
        trades.append(trade)

    def open_on(self, symbol: str) -> list[Order]:
        return [order for order in self.open.values() if order.symbol == symbol]

    def counts_on(self, symbol: str) -> OpenOrders:
        counts = self.open_counts.get(symbol)
        if counts is None:
            counts = self.open_counts[symbol] = OpenOrders()
        return counts

    def open_buys(self, symbol: str) -> int:
        """Return the base quantity that the open BUY orders may still bring."""
        return sum(order.remaining for order in self.open_on(symbol) if order.side is Side.BUY)

    def _count(self, order: Order, change: int) -> None:
        here, everywhere = self.counts_on(order.symbol), self.open_total
        here.orders += change
        everywhere.orders += change
        if order.order_type in STOP_TYPES:
            here.algo += change
            everywhere.algo += change
        if order.iceberg_quantity:
            here.iceberg += change
            everywhere.iceberg += change

    def _evict(self, order: Order) -> None:
        del self.by_symbol[order.symbol][order.order_id]
        key = (order.symbol, order.client_order_id)
        if self.by_client.get(key) is order:
            del self.by_client[key]
