"""Run the matching engine: pure, with an injected clock and injected ids, without I/O.

Each call reads `clock()` once, so all of it happens at one time. It either raises `EngineError` and
changes nothing, or completes, including the orders that it triggers. `drain_events` then returns
its events in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any

from exchanges.simulator.engine import admission, amending, house_account
from exchanges.simulator.engine.account_store import AccountStore, OrderCounter
from exchanges.simulator.engine.context import Context
from exchanges.simulator.engine.default_symbols import DEFAULT_SYMBOLS
from exchanges.simulator.engine.enums import (
    CancelRestriction,
    ExpiryReason,
    OrderStatus,
    Side,
    SymbolStatus,
)
from exchanges.simulator.engine.events import BalanceUpdateEvent, Event, ExternalLockEvent
from exchanges.simulator.engine.filters import AMEND_REJECTED, compile_exchange_filters
from exchanges.simulator.engine.ledger import Ledger
from exchanges.simulator.engine.listings import Listings
from exchanges.simulator.engine.market import Market
from exchanges.simulator.engine.symbol_spec import SymbolSpec
from exchanges.simulator.engine.types import (
    DEFAULT_ORDER_LIMITS,
    SCALE,
    Account,
    Amendment,
    Cancellation,
    EngineError,
    NewOrder,
    Order,
    OrderLimit,
    Placement,
    Trade,
)

HOUSE = "house"
UNKNOWN_ORDER = "Unknown order sent."
_CANCELABLE = {
    CancelRestriction.ONLY_NEW: OrderStatus.NEW,
    CancelRestriction.ONLY_PARTIALLY_FILLED: OrderStatus.PARTIALLY_FILLED,
}


class Engine(Listings):
    """Match orders and keep accounts, books and history.

    The engine keeps `history_limit` closed orders per account, and as many trades per account and
    symbol. Queries with `at` can look back `journal_seconds`, and for balances up to twice
    `history_limit` changes.
    """

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
        self._delisted: dict[str, Market] = {}
        for spec in symbols:
            self.add_symbol(spec)

    # --------------------------------------------------------------------------------------- set-up

    def add_account(
        self, account_id: str, balances: Mapping[str, int] | None = None, **fields: Any
    ) -> Account:
        """Add an account.

        `fields` are fields of `Account`. `wipe` restores the balances given here.
        """
        if account_id in self.accounts or account_id == HOUSE:
            raise ValueError(f"Account {account_id} exists.")
        account = Account(account_id, **{"uid": len(self.accounts) + 1, **fields})
        self.accounts[account_id] = account
        self._initial[account_id] = dict(balances or {})
        self._open_account(account)
        return account

    def _open_account(self, account: Account) -> None:
        self._context.stores[account.account_id] = AccountStore(
            account, self.order_limits, self._history_limit
        )
        account.updated_at = self._clock()
        for asset, amount in self._initial[account.account_id].items():
            self._context.ledger.endow(account, asset, amount)

    def set_order_limits(self, limits: Iterable[OrderLimit]) -> None:
        """Replace the windows of the unfilled-order counts. All counts start at zero."""
        self.order_limits = tuple(limits)
        for store in self._context.stores.values():
            store.counter = OrderCounter(self.order_limits)

    def wipe(self) -> None:
        """Reset as a testnet does.

        Orders, trades, prices and counts disappear, balances return to their first values, and ids
        start again. Undrained events are lost.
        """
        self._context.events.clear()
        self._context.ledger.forget()
        self.house.balances.clear()
        for market in (*self._markets.values(), *self._delisted.values()):
            market.reset()
        for account in self.accounts.values():
            account.balances.clear()
            self._open_account(account)

    def drain_events(self) -> list[Event]:
        events, self._context.events = self._context.events, []
        return events

    # -------------------------------------------------------------------------------------- trading

    def place(self, account_id: str, request: NewOrder) -> Placement:
        """Accept and execute an order.

        Raises -1102, -1106 or -1013 if the exchange refuses the order before its engine, and -2010
        if the engine refuses it.
        """
        market = self._begin(request.symbol)
        account = self.accounts[account_id]
        admission.check(self._context, market, account, request)
        admission.check_account(self._context, market, account, request)
        order = admission.new_order(self._context, market, account, request)
        market.accept(order)
        placement = Placement(
            order=order,
            state=order.history[-1],
            fills=tuple(market.fills),
            prevented_matches=tuple(market.preventions),
        )
        self._end(market)
        return placement

    def test_order(self, account_id: str, request: NewOrder) -> None:
        """Check parameters, symbol and filters of an order, and place nothing."""
        market = self._begin(request.symbol)
        admission.check(self._context, market, self.accounts[account_id], request)

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
        """Cancel an open order.

        Raises -2011 if the order isn't open or the restriction forbids it, and -2039 if the two ids
        belong to different orders.
        """
        market = self._begin(symbol)
        self._check_cancel(market, self.accounts[account_id])
        if order_id is None and orig_client_order_id is None:
            raise EngineError(-2011, "Cancel order is invalid. Check origClOrdId and orderId.")
        order = self._own_order(account_id, symbol, order_id, orig_client_order_id, refusal=-2011)
        if restriction is not None and order.status is not _CANCELABLE[restriction]:
            raise EngineError(-2011, "Order was not canceled due to cancel restrictions.")
        cancellation = self._cancel(market, order, new_client_order_id)
        self._end(market)
        return cancellation

    def _own_order(
        self,
        account_id: str,
        symbol: str,
        order_id: int | None,
        client_order_id: str | None,
        *,
        refusal: int,
    ) -> Order:
        """Return an open order of the account by one of its ids or by both.

        Raises the code `refusal` if it isn't open, and -2039 if the ids belong to different orders.
        """
        store = self._context.stores[account_id]
        if order_id is not None:
            order = store.open.get((symbol, order_id))
            if order is not None and client_order_id not in (None, order.client_order_id):
                raise EngineError(-2039, "Client order ID is not correct for this order ID.")
        else:
            order = store.open_by_client.get(client_order_id or "")
        if order is None or order.symbol != symbol:
            raise EngineError(refusal, UNKNOWN_ORDER)
        return order

    def amend(
        self,
        account_id: str,
        symbol: str,
        quantity: int,
        *,
        order_id: int | None = None,
        orig_client_order_id: str | None = None,
        new_client_order_id: str | None = None,
    ) -> Amendment:
        """Reduce an open order to `quantity`. It keeps its number and its place in the queue.

        If the order has executed that much already, it expires and keeps its quantity. Raises -2038
        or -1013 if the exchange refuses, and -2039 if the two ids belong to different orders.
        """
        market = self._begin(symbol)
        amending.check_market(market, self.accounts[account_id])
        order = self._own_order(
            account_id, symbol, order_id, orig_client_order_id, refusal=AMEND_REJECTED
        )
        client_order_id = new_client_order_id or self._context.new_client_order_id()
        amending.check_order(self._context, market, order, quantity, client_order_id)
        if quantity > order.quantity - order.remaining:
            amendment = market.amend(order, quantity, client_order_id)
        else:
            amendment = market.end_by_amendment(order)
        self._end(market)
        return amendment

    def cancel_all(self, account_id: str, symbol: str) -> list[Cancellation]:
        """Cancel all open orders on the symbol. Raise -2011 if there are none."""
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
            raise EngineError(-2011, admission.MARKET_CLOSED)

    # -------------------------------------------------------------------------------- control plane

    def quote(
        self, symbol: str, bids: Iterable[tuple[int, int]], asks: Iterable[tuple[int, int]]
    ) -> None:
        """Replace the quotes of the house by these (price, quantity) and trade where they cross."""
        market = self._begin(symbol)
        house_account.quote(market, bids, asks)
        self._end(market)

    def print_trade(
        self, symbol: str, price: int, quantity: int, *, buyer_is_maker: bool = False
    ) -> None:
        """Trade with the house itself: the last price moves and stop orders may trigger."""
        market = self._begin(symbol)
        house_account.print_trade(market, price, quantity, buyer_is_maker=buyer_is_maker)
        self._end(market)

    def set_price(
        self,
        symbol: str,
        price: int,
        *,
        bids: Iterable[tuple[int, int]] | None = None,
        asks: Iterable[tuple[int, int]] | None = None,
    ) -> None:
        """Make `price` the last price.

        The house fills the orders that the price reaches or crosses, each at its own price. Then it
        quotes again, by default its old quotes moved to the new price, and stop orders trigger.
        """
        market = self._begin(symbol)
        house_account.set_price(market, price, bids, asks)
        self._end(market)

    def fill(
        self, symbol: str, order_id: int, quantity: int | None = None, price: int | None = None
    ) -> Trade:
        """Fill `quantity` (default: all) of a resting order at its price or a better one.

        The house is the other side of the trade.
        """
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
        trade = market.trade(
            house_account.make_order(market, side, price, quantity), order, quantity, price
        )
        self._end(market)
        return trade

    def cancel_by_exchange(self, symbol: str, order_id: int) -> Order:
        """Cancel an order as if its owner had canceled it elsewhere."""
        market = self._begin(symbol)
        order = self._open_order(symbol, order_id)
        self._cancel(market, order, None)
        self._end(market)
        return order

    def expire(
        self, symbol: str, order_id: int, reason: ExpiryReason = ExpiryReason.EXCHANGE_CANCELED
    ) -> Order:
        market = self._begin(symbol)
        order = self._open_order(symbol, order_id)
        market.expire(order, reason)
        self._end(market)
        return order

    def archive(self, symbol: str, order_id: int) -> None:
        """Archive a closed order without fills, as the exchange does after 90 days.

        Queries then answer -2026. Raises ValueError if the order is open or has fills.
        """
        order = self.find_order(symbol, order_id)
        if order.is_open or order.executed_quantity:
            raise ValueError("Only a closed order without fills can be archived.")
        order.archived = True

    def _open_order(self, symbol: str, order_id: int) -> Order:
        order = self.find_order(symbol, order_id)
        if not order.is_open:
            raise EngineError(-2011, UNKNOWN_ORDER)
        return order

    def deposit(self, account_id: str, asset: str, amount: int) -> None:
        self._move(account_id, asset, _positive(amount))

    def withdraw(self, account_id: str, asset: str, amount: int) -> None:
        """Withdraw an amount. Raise -2010 if less is free."""
        self._move(account_id, asset, -_positive(amount))

    def _move(self, account_id: str, asset: str, delta: int) -> None:
        context = self._context
        context.now = self._clock()
        context.ledger.issue(self.accounts[account_id], asset, delta)
        context.events.append(
            BalanceUpdateEvent(account_id=account_id, asset=asset, delta=delta, time=context.now)
        )
        context.flush()

    def external_lock(self, account_id: str, asset: str, delta: int) -> None:
        """Lock (positive) or release (negative) an amount for a system outside of the exchange."""
        context = self._context
        context.now = self._clock()
        context.ledger.lock_external(self.accounts[account_id], asset, delta)
        context.events.append(
            ExternalLockEvent(account_id=account_id, asset=asset, delta=delta, time=context.now)
        )
        context.flush()

    def _convert(self, asset: str, into: str, amount: int) -> int | None:
        """Convert `amount` of `asset` by last prices, directly or through one asset between.

        Returns None if there is no price.
        """
        direct = self._cross(asset, into, amount)
        if direct is not None:
            return direct
        # A dict, because the order of a set of texts differs from process to process.
        for middle in dict.fromkeys(market.quote for market in self._markets.values()):
            first = self._cross(asset, middle, amount)
            if first is not None:
                second = self._cross(middle, into, first)
                if second is not None:
                    return second
        return None

    def _cross(self, asset: str, into: str, amount: int) -> int | None:
        market = self._markets.get(asset + into)
        if market is not None and market.history.last_price:
            return amount * market.history.last_price // SCALE
        market = self._markets.get(into + asset)
        if market is not None and market.history.last_price:
            return amount * SCALE // market.history.last_price
        return None


def _random_ids(seed: int) -> Callable[[], str]:
    """Return a generator of client order ids: 22 characters, as long as the exchange's."""
    random = Random(seed)
    return lambda: f"{random.getrandbits(88):022x}"


def _positive(amount: int) -> int:
    if amount <= 0:
        raise ValueError("The amount must be positive.")
    return amount
