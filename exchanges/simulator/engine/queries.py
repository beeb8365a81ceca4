"""Read from the engine: orders, trades, balances, books and prices, now or in the past."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from exchanges.simulator.engine.account_store import AccountStore
from exchanges.simulator.engine.context import Context
from exchanges.simulator.engine.enums import OrderStatus, SymbolStatus
from exchanges.simulator.engine.ledger import Ledger
from exchanges.simulator.engine.market import Market
from exchanges.simulator.engine.snapshot import snapshot
from exchanges.simulator.engine.symbol_spec import SymbolSpec
from exchanges.simulator.engine.trade_history import AVERAGE_MINUTES
from exchanges.simulator.engine.types import (
    Account,
    AggregateTrade,
    Bar,
    DayStats,
    Depth,
    EngineError,
    Order,
    OrderLimit,
    OrderState,
    PreventedMatch,
    PublicTrade,
    Trade,
)

ARCHIVED = (
    "Order was canceled or expired with no executed qty over 90 days ago and has been archived."
)


class Queries:
    """Answer queries about the engine's state.

    With `at` (microseconds) a query answers as of that moment, as far as the journal reaches.
    """

    accounts: dict[str, Account]
    _context: Context
    _markets: dict[str, Market]
    _clock: Callable[[], int]

    @property
    def symbols(self) -> dict[str, SymbolSpec]:
        return {symbol: market.spec for symbol, market in self._markets.items()}

    def spec(self, symbol: str) -> SymbolSpec:
        return self._market(symbol).spec

    def status(self, symbol: str) -> SymbolStatus:
        return self._market(symbol).status

    def account(self, account_id: str) -> Account:
        return self.accounts[account_id]

    def find_order(self, symbol: str, order_id: int) -> Order:
        """Return any account's order. Raise -2013 if there is none."""
        self._market(symbol)
        for store in self._context.stores.values():
            order = store.by_symbol.get(symbol, {}).get(order_id)
            if order is not None:
                return order
        raise EngineError(-2013, "Order does not exist.")

    def _market(self, symbol: str) -> Market:
        market = self._markets.get(symbol)
        if market is None:
            raise EngineError(-1121, "Invalid symbol.")
        return market

    def order(
        self,
        account_id: str,
        symbol: str,
        *,
        order_id: int | None = None,
        orig_client_order_id: str | None = None,
        at: int | None = None,
    ) -> Order:
        """Return an order by id, or the newest with that client order id.

        Raises -2013 if it doesn't exist (at that time), and -2039 if the two ids belong to
        different orders.
        """
        self._market(symbol)
        store = self._context.stores[account_id]
        if order_id is not None:
            order = store.by_symbol.get(symbol, {}).get(order_id)
        else:
            order = self._by_client(store, symbol, orig_client_order_id or "", at)
        state = None if order is None else self.order_state(order, at)
        if order is None or state is None:
            raise EngineError(-2013, "Order does not exist.")
        if order_id is not None and orig_client_order_id not in (None, state.client_order_id):
            raise EngineError(-2039, "Client order ID is not correct for this order ID.")
        if order.archived:
            raise EngineError(-2026, ARCHIVED)
        return order

    def _by_client(
        self, store: AccountStore, symbol: str, client_order_id: str, at: int | None
    ) -> Order | None:
        """Return the newest order with that client order id, now or at `at`."""
        order = store.by_client.get((symbol, client_order_id))
        if at is None:
            return order
        if order is not None and not store.renamed and order.created_at <= at:
            return order
        for other in reversed(store.by_symbol.get(symbol, {}).values()):
            state = self.order_state(other, at)
            if state is not None and state.client_order_id == client_order_id:
                return other
        return None

    def order_state(self, order: Order, at: int | None = None) -> OrderState | None:
        """Return the changing fields of the order, or None before the order existed."""
        if at is None:
            return order.history[-1]
        return next((state for state in reversed(order.history) if state.at <= at), None)

    def open_orders(
        self, account_id: str, symbol: str | None = None, at: int | None = None
    ) -> list[Order]:
        """Return the open orders, by symbol and then oldest first."""
        if symbol is not None:
            self._market(symbol)
        store = self._context.stores[account_id]
        orders = list(store.open.values())
        if at is not None:
            orders = [
                order for order in (*orders, *_closed_since(store, at)) if self._was_open(order, at)
            ]
        if symbol is not None:
            orders = [order for order in orders if order.symbol == symbol]
        return sorted(orders, key=lambda order: (order.symbol, order.order_id))

    def _was_open(self, order: Order, at: int) -> bool:
        state = self.order_state(order, at)
        return state is not None and state.status in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)

    def all_orders(
        self,
        account_id: str,
        symbol: str,
        *,
        order_id: int | None = None,
        start: int | None = None,
        end: int | None = None,
        limit: int = 500,
        at: int | None = None,
    ) -> list[Order]:
        """Return orders by ascending id.

        With `order_id` or `start`, return the first `limit` from there, otherwise the last `limit`.
        `start` and `end` compare with the time of the last change. With either of them, `order_id`
        is ignored.
        """
        self._market(symbol)
        stored = self._context.stores[account_id].by_symbol.get(symbol, {}).values()
        orders = [order for order in stored if not order.archived]
        if start is not None or end is not None:
            first, last = start or 0, sys.maxsize if end is None else end
            found = [order for order in orders if self._changed_between(order, first, last, at)]
        else:
            found = [
                order
                for order in orders
                if (order_id is None or order.order_id >= order_id)
                and (at is None or order.created_at <= at)
            ]
        from_start = start is not None or (order_id is not None and end is None)
        return found[:limit] if from_start else found[-limit:]

    def _changed_between(self, order: Order, first: int, last: int, at: int | None) -> bool:
        state = self.order_state(order, at)
        return state is not None and first <= state.at <= last

    def trades(
        self,
        account_id: str,
        symbol: str,
        *,
        order_id: int | None = None,
        from_id: int | None = None,
        start: int | None = None,
        end: int | None = None,
        limit: int = 500,
        at: int | None = None,
    ) -> list[Trade]:
        """Return trades by ascending id.

        With `from_id` or `start`, return the first `limit` from there, otherwise the last `limit`.
        """
        self._market(symbol)
        trades = [
            trade
            for trade in self._context.stores[account_id].trades.get(symbol, ())
            if (order_id is None or trade.order_id == order_id)
            and (from_id is None or trade.trade_id >= from_id)
            and (start is None or trade.time >= start)
            and (end is None or trade.time <= end)
            and (at is None or trade.time <= at)
        ]
        return trades[:limit] if from_id is not None or start is not None else trades[-limit:]

    def prevented_matches(
        self,
        account_id: str,
        symbol: str,
        *,
        prevented_match_id: int | None = None,
        order_id: int | None = None,
        from_prevented_match_id: int | None = None,
        limit: int = 500,
    ) -> list[PreventedMatch]:
        return [
            match
            for match in self._market(symbol).prevented.kept
            if account_id in (match.taker_account_id, match.maker_account_id)
            and (prevented_match_id is None or match.prevented_match_id == prevented_match_id)
            and (order_id is None or order_id in (match.taker_order_id, match.maker_order_id))
            and (
                from_prevented_match_id is None
                or match.prevented_match_id >= from_prevented_match_id
            )
        ][:limit]

    def balances(self, account_id: str, at: int | None = None) -> dict[str, tuple[int, int]]:
        """Return (free, locked) by asset."""
        return self._context.ledger.balances(self.accounts[account_id], at)

    def balances_updated_at(self, account_id: str, at: int | None = None) -> int:
        """Return the time of the last change of a balance."""
        return self._context.ledger.updated_at(self.accounts[account_id], at)

    def depth(self, symbol: str, limit: int = 100) -> Depth:
        market = self._market(symbol)
        sides = []
        for side in (market.bids, market.asks):
            rows: list[tuple[int, int]] = []
            for level in side:
                if len(rows) == limit:
                    break
                rows.append((level.price, level.visible))
            sides.append(tuple(rows))
        return Depth(last_update_id=market.update_id, bids=sides[0], asks=sides[1])

    def best(self, symbol: str) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
        """Return (price, quantity) of the best bid and of the best ask."""
        market = self._market(symbol)
        bid, ask = market.bids.best(), market.asks.best()
        return (bid.price, bid.visible) if bid else None, (ask.price, ask.visible) if ask else None

    def recent_trades(
        self, symbol: str, limit: int = 500, from_id: int | None = None
    ) -> list[PublicTrade]:
        return self._market(symbol).history.trades(limit, from_id)

    def aggregate_trades(
        self,
        symbol: str,
        *,
        from_id: int | None = None,
        start: int | None = None,
        end: int | None = None,
        limit: int = 500,
    ) -> list[AggregateTrade]:
        return self._market(symbol).history.aggregate_trades(limit, from_id, start, end)

    def last_price(self, symbol: str) -> int:
        """Return the last price, 0 before the first trade."""
        return self._market(symbol).history.last_price

    def average_price(self, symbol: str) -> tuple[int, int, int]:
        """Return the minutes, the volume-weighted price and the time of the last trade."""
        history = self._market(symbol).history
        return AVERAGE_MINUTES, history.average(AVERAGE_MINUTES, self._clock()), history.last_at

    def day_stats(self, symbol: str) -> DayStats:
        return self._market(symbol).history.day(self._clock())

    def bars(
        self,
        symbol: str,
        seconds: int,
        *,
        start: int | None = None,
        end: int | None = None,
        limit: int = 500,
    ) -> list[Bar]:
        return self._market(symbol).history.bars(seconds, start, end, limit)

    # ------------------------------------------------------------------------ unfilled-order counts

    def order_counts(self, account_id: str) -> dict[OrderLimit, int]:
        return self._context.stores[account_id].counter.counts(self._clock())

    def exceeded_order_limit(self, account_id: str) -> OrderLimit | None:
        """Return the limit that one more order would break (-1015), or None."""
        return self._context.stores[account_id].counter.exceeded(self._clock())

    def count_order(self, account_id: str) -> None:
        """Count a placement that failed just before the engine because its recvWindow ended."""
        self._context.stores[account_id].counter.add(self._clock())

    @property
    def ledger(self) -> Ledger:
        return self._context.ledger

    def truth(self) -> dict[str, Any]:
        """Return everything that the engine accepted, as plain data for assertions."""
        return snapshot(self._context, self._markets)


def _closed_since(store: AccountStore, at: int) -> Iterable[Order]:
    for order in reversed(store.closed):
        if order.updated_at <= at:
            return
        yield order
