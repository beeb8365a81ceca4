"""The exchange's matching engine: pure, with an injected clock and injected ids, no input or output.

One call happens at one time (`clock()` is read once), either refuses with `EngineError` and changes nothing, or
is done completely, orders that it triggers included. `drain_events` then has what happened, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any

from exchanges.simulator import house, intake
from exchanges.simulator.accounts import AccountStore, OrderCounter
from exchanges.simulator.context import Context
from exchanges.simulator.filters import compile_exchange_filters
from exchanges.simulator.ledger import Ledger
from exchanges.simulator.matching import Market
from exchanges.simulator.model import (
    DEFAULT_ORDER_LIMITS,
    SCALE,
    Account,
    BalanceUpdateEvent,
    Cancellation,
    CancelRestriction,
    EngineError,
    Event,
    ExpiryReason,
    ExternalLockEvent,
    NewOrder,
    Order,
    OrderLimit,
    OrderStatus,
    Placement,
    Side,
    SymbolSpec,
    SymbolStatus,
    Trade,
)
from exchanges.simulator.queries import Queries
from exchanges.simulator.symbols import DEFAULT_SYMBOLS

HOUSE = "house"
UNKNOWN_ORDER = "Unknown order sent."


class Engine(Queries):
    """`history_limit` closed orders (and trades per symbol) are kept per account; queries with `at` can look back
    `journal_seconds`, and for balances twice `history_limit` changes."""

    def __init__(
        self,
        symbols: Iterable[SymbolSpec] = DEFAULT_SYMBOLS,
        *,
        clock: Callable[[], int],
        new_client_order_id: Callable[[], str] | None = None,
        seed: int = 0,
        exchange_filters: Sequence[dict[str, Any]] = (),
        history_limit: int = 10_000,
        order_limits: Sequence[OrderLimit] = DEFAULT_ORDER_LIMITS,
        journal_seconds: int = 120,
    ) -> None:
        self._clock = clock
        self.exchange_filters = tuple(exchange_filters)
        self.order_limits = tuple(order_limits)
        self._history_limit = history_limit
        self.accounts: dict[str, Account] = {}
        self._initial: dict[str, dict[str, int]] = {}
        journal = journal_seconds * 1_000_000
        self.house = Account(HOUSE, is_house=True)
        self._context = Context(
            ledger=Ledger(journal, journal_limit=2 * history_limit),
            house=self.house,
            exchange_caps=compile_exchange_filters(exchange_filters),
            new_client_order_id=new_client_order_id or _random_ids(seed),
            convert=self._convert,
            journal_microseconds=journal,
        )
        self._markets: dict[str, Market] = {}
        for spec in symbols:
            self.add_symbol(spec)

    # ---------------------------------------------------------------------------------------- set-up

    def add_symbol(self, spec: SymbolSpec) -> None:
        if spec.symbol in self._markets:
            raise ValueError(f"Symbol {spec.symbol} exists.")
        self._markets[spec.symbol] = Market(spec, self._context)

    def add_account(self, account_id: str, balances: Mapping[str, int] | None = None, **fields: Any) -> Account:
        """`fields` are those of `Account`; the balances are what `wipe` returns to."""
        if account_id in self.accounts or account_id == HOUSE:
            raise ValueError(f"Account {account_id} exists.")
        account = Account(account_id, **{"uid": len(self.accounts) + 1, **fields})
        self.accounts[account_id] = account
        self._initial[account_id] = dict(balances or {})
        self._open_account(account)
        return account

    def _open_account(self, account: Account) -> None:
        self._context.stores[account.account_id] = AccountStore(account, self.order_limits, self._history_limit)
        account.updated_at = self._clock()
        for asset, amount in self._initial[account.account_id].items():
            self._context.ledger.endow(account, asset, amount)

    def set_order_limits(self, limits: Iterable[OrderLimit]) -> None:
        """Other windows for the unfilled-order counts, which start anew."""
        self.order_limits = tuple(limits)
        for store in self._context.stores.values():
            store.counter = OrderCounter(self.order_limits)

    def wipe(self) -> None:
        """A testnet reset: orders, trades, prices and counts are gone, balances as they were at first, ids start
        again. Events not drained yet are lost."""
        self._context.events.clear()
        self._context.ledger.forget()
        self.house.balances.clear()
        for market in self._markets.values():
            market.reset()
        for account in self.accounts.values():
            account.balances.clear()
            self._open_account(account)

    # ------------------------------------------------------------------------------------- reference

    def set_status(self, symbol: str, status: SymbolStatus) -> None:
        self._market(symbol).status = status

    def _begin(self, symbol: str) -> Market:
        market = self._market(symbol)
        self._context.now = self._clock()
        market.begin()
        return market

    def _end(self, market: Market) -> None:
        self._context.flush()
        if market.stops.triggered:
            market.run_triggers()

    def drain_events(self) -> list[Event]:
        events, self._context.events = self._context.events, []
        return events

    # --------------------------------------------------------------------------------------- trading

    def place(self, account_id: str, request: NewOrder) -> Placement:
        """Accept and execute an order, or refuse it: -1102, -1106, -1013 before the engine, -2010 by it."""
        market = self._begin(request.symbol)
        account = self.accounts[account_id]
        intake.check(self._context, market, account, request)
        intake.check_account(self._context, market, account, request)
        order = intake.new_order(self._context, market, account, request)
        market.accept(order)
        placement = Placement(order, order.history[-1], tuple(market.fills), tuple(market.preventions))
        self._end(market)
        return placement

    def test_order(self, account_id: str, request: NewOrder) -> None:
        """What is checked before the engine: parameters, the symbol, its filters."""
        market = self._begin(request.symbol)
        intake.check(self._context, market, self.accounts[account_id], request)

    def cancel(
        self,
        account_id: str,
        symbol: str,
        *,
        order_id: int | None = None,
        orig_client_order_id: str | None = None,
        new_client_order_id: str | None = None,
        restriction: CancelRestriction | None = None,
    ) -> Cancellation:
        """Cancel an open order; -2011 when it is not open or the restriction forbids it, -2039 when the two ids
        do not belong together."""
        market = self._begin(symbol)
        self._check_cancel(market, self.accounts[account_id])
        store = self._context.stores[account_id]
        if order_id is not None:
            order = store.open.get((symbol, order_id))
            if order is not None and orig_client_order_id not in (None, order.client_order_id):
                raise EngineError(-2039, "Client order ID is not correct for this order ID.")
        elif orig_client_order_id is not None:
            order = store.open_by_client.get(orig_client_order_id)
        else:
            raise EngineError(-2011, "Cancel order is invalid. Check origClOrdId and orderId.")
        if order is None or order.symbol != symbol:
            raise EngineError(-2011, UNKNOWN_ORDER)
        wanted = {
            CancelRestriction.ONLY_NEW: OrderStatus.NEW,
            CancelRestriction.ONLY_PARTIALLY_FILLED: OrderStatus.PARTIALLY_FILLED,
        }
        if restriction is not None and order.status is not wanted[restriction]:
            raise EngineError(-2011, "Order was not canceled due to cancel restrictions.")
        cancellation = self._cancel(market, order, new_client_order_id)
        self._end(market)
        return cancellation

    def cancel_all(self, account_id: str, symbol: str) -> list[Cancellation]:
        """Cancel every open order on the symbol; -2011 when there is none."""
        market = self._begin(symbol)
        self._check_cancel(market, self.accounts[account_id])
        orders = self._context.stores[account_id].open_on(symbol)
        if not orders:
            raise EngineError(-2011, UNKNOWN_ORDER)
        cancellations = [self._cancel(market, order, None) for order in orders]
        self._end(market)
        return cancellations

    def _cancel(self, market: Market, order: Order, client_order_id: str | None) -> Cancellation:
        client_order_id = client_order_id or self._context.new_client_order_id()
        market.cancel(order, client_order_id)
        return Cancellation(order, client_order_id, self._context.now)

    def _check_cancel(self, market: Market, account: Account) -> None:
        if not account.can_trade:
            raise EngineError(-2011, "This account may not place or cancel orders.")
        if market.status not in (SymbolStatus.TRADING, SymbolStatus.CANCEL_ONLY):
            raise EngineError(-2011, intake.MARKET_CLOSED)

    # --------------------------------------------------------------------------------- control plane

    def quote(self, symbol: str, bids: Iterable[tuple[int, int]], asks: Iterable[tuple[int, int]]) -> None:
        """Replace the house's quotes, (price, quantity); they trade with what they cross."""
        market = self._begin(symbol)
        house.quote(market, bids, asks)
        self._end(market)

    def print_trade(self, symbol: str, price: int, quantity: int, *, buyer_is_maker: bool = False) -> None:
        """A trade of the house with itself: the last price moves, stops trigger."""
        market = self._begin(symbol)
        house.print_trade(market, price, quantity, buyer_is_maker=buyer_is_maker)
        self._end(market)

    def set_price(
        self,
        symbol: str,
        price: int,
        *,
        bids: Iterable[tuple[int, int]] | None = None,
        asks: Iterable[tuple[int, int]] | None = None,
    ) -> None:
        """Make `price` the last price. Orders that it reaches or crosses are filled by the house at their own
        prices, the house quotes anew (by default what it had, moved along), then stops trigger."""
        market = self._begin(symbol)
        house.set_price(market, price, bids, asks)
        self._end(market)

    def fill(self, symbol: str, order_id: int, quantity: int | None = None, price: int | None = None) -> Trade:
        """The house takes `quantity` (default all) of an order on the book, at its price or a better one."""
        market = self._begin(symbol)
        order = self._open_order(symbol, order_id)
        if not order.visible:
            raise EngineError(-2011, UNKNOWN_ORDER)
        quantity = order.remaining if quantity is None else quantity
        price = order.price if price is None else price
        better = price <= order.price if order.side is Side.BUY else price >= order.price
        if not 0 < quantity <= order.remaining or price <= 0 or not better:
            raise ValueError("The order cannot be filled for that quantity and price.")
        side = Side.SELL if order.side is Side.BUY else Side.BUY
        trade = market.trade(market.house_order(side, price, quantity), order, quantity, price)
        self._end(market)
        return trade

    def cancel_by_exchange(self, symbol: str, order_id: int) -> Order:
        """CANCELED, as when the owner did it elsewhere."""
        market = self._begin(symbol)
        order = self._open_order(symbol, order_id)
        self._cancel(market, order, None)
        self._end(market)
        return order

    def expire(self, symbol: str, order_id: int, reason: ExpiryReason = ExpiryReason.EXCHANGE_CANCELED) -> Order:
        market = self._begin(symbol)
        order = self._open_order(symbol, order_id)
        market.expire(order, reason)
        self._end(market)
        return order

    def _open_order(self, symbol: str, order_id: int) -> Order:
        order = self.find_order(symbol, order_id)
        if not order.is_open:
            raise EngineError(-2011, UNKNOWN_ORDER)
        return order

    def deposit(self, account_id: str, asset: str, amount: int) -> None:
        self._move(account_id, asset, _positive(amount))

    def withdraw(self, account_id: str, asset: str, amount: int) -> None:
        """-2010 when that much is not free."""
        self._move(account_id, asset, -_positive(amount))

    def _move(self, account_id: str, asset: str, delta: int) -> None:
        context = self._context
        context.now = self._clock()
        context.ledger.issue(self.accounts[account_id], asset, delta)
        context.events.append(BalanceUpdateEvent(account_id, asset, delta, context.now))
        context.flush()

    def external_lock(self, account_id: str, asset: str, delta: int) -> None:
        """Another system locks (positive) or releases (negative) a part of the balance."""
        context = self._context
        context.now = self._clock()
        context.ledger.lock_external(self.accounts[account_id], asset, delta)
        context.events.append(ExternalLockEvent(account_id, asset, delta, context.now))
        context.flush()

    def _convert(self, asset: str, into: str, amount: int) -> int | None:
        """`amount` of `asset` in `into` by last prices, directly or through one asset; None without a price."""
        direct = self._cross(asset, into, amount)
        if direct is not None:
            return direct
        for middle in {market.quote for market in self._markets.values()}:
            first = self._cross(asset, middle, amount)
            if first is not None:
                second = self._cross(middle, into, first)
                if second is not None:
                    return second
        return None

    def _cross(self, asset: str, into: str, amount: int) -> int | None:
        market = self._markets.get(asset + into)
        if market is not None and market.tape.last_price:
            return amount * market.tape.last_price // SCALE
        market = self._markets.get(into + asset)
        if market is not None and market.tape.last_price:
            return amount * SCALE // market.tape.last_price
        return None


def _random_ids(seed: int) -> Callable[[], str]:
    """Client order ids for those who send none: 22 characters, as long as the exchange's."""
    random = Random(seed)
    return lambda: f"{random.getrandbits(88):022x}"


def _positive(amount: int) -> int:
    if amount <= 0:
        raise ValueError("The amount must be positive.")
    return amount
