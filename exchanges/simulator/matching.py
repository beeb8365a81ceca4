"""One symbol's market: its book, its waiting orders, and the steps by which they trade."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from exchanges.simulator.book import BookSide, Level
from exchanges.simulator.commission import charge
from exchanges.simulator.context import Context
from exchanges.simulator.filters import compile_filters
from exchanges.simulator.model import (
    MARKET_TYPES,
    NO_ID,
    SCALE,
    STOP_TYPES,
    Account,
    ExecutionEvent,
    ExecutionType,
    ExpiryReason,
    Order,
    OrderStatus,
    OrderType,
    PreventedMatch,
    Side,
    StpMode,
    SymbolSpec,
    TimeInForce,
    Trade,
)
from exchanges.simulator.stops import Stops
from exchanges.simulator.tape import Tape

PREVENTED_MATCHES = 5_000


class Market:
    def __init__(self, spec: SymbolSpec, context: Context) -> None:
        self.spec = spec
        self.context = context
        self.status = spec.status
        self.filters = compile_filters(spec.filters)
        self.base = spec.base_asset
        self.quote = spec.quote_asset
        self.reset()

    def reset(self) -> None:
        """As new: no orders, no trades, ids from the start."""
        self.bids = BookSide(Side.BUY)
        self.asks = BookSide(Side.SELL)
        self.stops = Stops()
        self.tape = Tape(self.filters.average_minutes)
        self.quotes: dict[int, Order] = {}
        self.prevented: deque[PreventedMatch] = deque(maxlen=PREVENTED_MATCHES)
        self.last_order_id = 0
        self.last_trade_id = 0
        self.last_execution_id = 0
        self.last_prevented_id = NO_ID
        self.update_id = 1
        self.begin()

    def begin(self) -> None:
        """A new call: what it does is collected for its answer."""
        self.fills: list[Trade] = []
        self.preventions: list[PreventedMatch] = []

    # ------------------------------------------------------------------------------------- looking ahead

    def opposite(self, side: Side) -> BookSide:
        return self.asks if side is Side.BUY else self.bids

    def own_side(self, side: Side) -> BookSide:
        return self.bids if side is Side.BUY else self.asks

    def would_match(self, side: Side, price: int) -> bool:
        best = self.opposite(side).best_price()
        return best != 0 and crosses(side, price, best)

    def available(self, account: Account, stp_mode: StpMode, side: Side, limit: int) -> Iterator[tuple[int, int, bool]]:
        """What a `side` order of the account would meet, best first: (price, quantity, prevented). Prevented is
        what self-trade prevention would take from the order for nothing; where it would end it, this ends.
        `limit` 0 takes any price."""
        for level in self.opposite(side):
            if limit and not crosses(side, limit, level.price):
                return
            for order, quantity in _slices(level):
                own = stp_mode is not StpMode.NONE and _is_self_trade(account, order.account)
                if own and stp_mode in (StpMode.EXPIRE_TAKER, StpMode.EXPIRE_BOTH):
                    return
                if not own or stp_mode is not StpMode.EXPIRE_MAKER:
                    prevented = own and _effective_mode(account, stp_mode, order) is not StpMode.TRANSFER
                    yield level.price, quantity, prevented

    def walk(self, account: Account, stp_mode: StpMode, side: Side, limit: int, quantity: int) -> tuple[int, bool]:
        """(The quote amount for as much of `quantity` as the book has, whether it has all of it)."""
        cost = 0
        for price, offered, prevented in self.available(account, stp_mode, side, limit):
            take = min(offered, quantity)
            quantity -= take
            if not prevented:
                cost += price * take // SCALE
            if quantity == 0:
                return cost, True
        return cost, False

    def walk_budget(self, account: Account, stp_mode: StpMode, side: Side, budget: int) -> tuple[int, int, int]:
        """(The quantity that the quote amount `budget` is good for, how much of it the book has, the cost of
        that). What the book has not is reckoned at the last price it has."""
        done = cost = price = 0
        for price, offered, prevented in self.available(account, stp_mode, side, 0):
            if prevented:
                continue
            if price * offered // SCALE >= budget - cost:
                take = self._affordable(budget - cost, price)
                return done + take, done + take, cost + price * take // SCALE
            done += offered
            cost += price * offered // SCALE
        missing = self._affordable(budget - cost, price) if price else 0
        return done + missing, done, cost

    # ------------------------------------------------------------------------------------------- placing

    def accept(self, order: Order) -> None:
        """The order exists from here on: funds held, counted, told."""
        store = self.context.stores[order.account_id]
        store.accept(order)
        store.counter.add(self.context.now)
        self._hold(order, order.locked)
        if order.order_type in STOP_TYPES:
            self.stops.add(order, self.tape.last_price, self.context.now)
            self.report(order, ExecutionType.NEW)
            return
        order.is_working = True
        order.working_at = self.context.now
        self.report(order, ExecutionType.NEW, on_book=True)
        self.execute(order)

    def execute(self, order: Order) -> None:
        """Match a working order that is not on the book yet, then rest or expire what is left of it."""
        limit = order.price
        if order.time_in_force is TimeInForce.FOK and order.order_type is not OrderType.MARKET:
            _, complete = self.walk(order.account, order.stp_mode, order.side, limit, order.remaining)
            if not complete:
                self.expire(order, ExpiryReason.UNFILLED_FOK_ORDER_EXPIRED)
                return
        self.match(order, limit)
        if not order.is_open:
            return
        if order.order_type in MARKET_TYPES:
            self.expire(order, ExpiryReason.INSUFFICIENT_LIQUIDITY)
        elif order.time_in_force is TimeInForce.IOC:
            self.expire(order, ExpiryReason.UNFILLED_IOC_QUANTITY_EXPIRED)
        elif order.time_in_force is TimeInForce.FOK:
            self.expire(order, ExpiryReason.UNFILLED_FOK_ORDER_EXPIRED)
        else:
            self.own_side(order.side).add(order)
            self.update_id += 1

    def match(self, taker: Order, limit: int) -> None:
        side = self.opposite(taker.side)
        while taker.remaining > 0:
            level = side.best()
            if level is None or (limit and not crosses(taker.side, limit, level.price)):
                return
            maker = next(iter(level.orders.values()))
            own = taker.stp_mode is not StpMode.NONE and _is_self_trade(taker.account, maker.account)
            mode = _effective_mode(taker.account, taker.stp_mode, maker) if own else StpMode.NONE
            quantity = min(taker.remaining, maker.visible)
            if mode in (StpMode.NONE, StpMode.TRANSFER) and self._exceeds_hold(taker, quantity, level.price):
                quantity = self._affordable(taker.locked, level.price)
                if quantity == 0:
                    return
            if not own:
                self.trade(taker, maker, quantity, level.price)
                continue
            self._prevent(taker, maker, mode, quantity)
            if not taker.is_open:
                return

    def _exceeds_hold(self, taker: Order, quantity: int, price: int) -> bool:
        """A market BUY spends what it holds; a limited one holds enough."""
        return taker.price == 0 and taker.side is Side.BUY and price * quantity // SCALE > taker.locked

    def _affordable(self, amount: int, price: int) -> int:
        quantity = amount * SCALE // price
        return quantity - quantity % (self.filters.lot.step or 1)

    # ------------------------------------------------------------------------------------------- trading

    def trade(self, taker: Order, maker: Order, quantity: int, price: int) -> Trade:
        """Exchange `quantity` at `price` and tell everyone; the maker's side of it is returned."""
        context = self.context
        quote = price * quantity // SCALE
        self.last_trade_id += 1
        trade_id = self.last_trade_id
        self.update_id += 1
        results = []
        for order, is_maker in ((taker, False), (maker, True)):
            first = order.executed_quantity == 0
            order.executed_quantity += quantity
            order.executed_quote += quote
            order.status = OrderStatus.PARTIALLY_FILLED if order.remaining else OrderStatus.FILLED
            commission, asset = self._settle(order, quantity, quote, is_maker)
            if first and not order.account.is_house:
                context.stores[order.account_id].counter.fill(context.now, is_maker=is_maker)
            results.append(
                Trade(
                    self.spec.symbol,
                    trade_id,
                    order.order_id,
                    order.client_order_id,
                    order.account_id,
                    order.side,
                    price,
                    quantity,
                    quote,
                    commission,
                    asset,
                    is_maker,
                    context.now,
                )
            )
        self.own_side(maker.side).reduce(maker, quantity)
        for order, result in ((taker, results[0]), (maker, results[1])):
            self._tell_trade(order, result)
            if order.status is OrderStatus.FILLED:
                self._finish(order)
        self.fills.append(results[0])
        self.record(trade_id, price, quantity, quote, maker.side is Side.BUY, taker.order_id)
        return results[1]

    def _tell_trade(self, order: Order, trade: Trade) -> None:
        if order.account.is_house:
            return
        self.context.stores[order.account_id].add_trade(trade)
        resting = trade.is_maker or (order.price != 0 and order.time_in_force is TimeInForce.GTC)
        self.report(
            order,
            ExecutionType.TRADE,
            on_book=resting and order.status is OrderStatus.PARTIALLY_FILLED,
            trade=trade,
        )

    def record(
        self, trade_id: int, price: int, quantity: int, quote: int, buyer_is_maker: bool, taker_order_id: int
    ) -> None:
        self.tape.record(
            self.context.now,
            trade_id,
            price,
            quantity,
            quote,
            buyer_is_maker=buyer_is_maker,
            taker_order_id=taker_order_id,
        )
        self.stops.move(price, self.context.now)

    def _settle(self, order: Order, quantity: int, quote: int, is_maker: bool) -> tuple[int, str]:
        """Give and take one side of a trade: (commission, its asset)."""
        ledger = self.context.ledger
        account = order.account
        if order.side is Side.BUY:
            paid, paid_asset, received, asset = quote, self.quote, quantity, self.base
        else:
            paid, paid_asset, received, asset = quantity, self.base, quote, self.quote
        if account.is_house:
            ledger.pay_house(account, paid_asset, -paid)
            ledger.pay_house(account, asset, received)
            return 0, asset
        balance = ledger.touch(account, paid_asset)
        order.locked -= paid
        balance.in_orders -= paid
        self._release_surplus(order)
        balance = ledger.touch(account, asset)
        balance.free += received
        return charge(self.context, order, asset, balance, received, is_maker)

    # --------------------------------------------------------------------------------------------- funds

    def paying_asset(self, side: Side) -> str:
        return self.quote if side is Side.BUY else self.base

    def _hold(self, order: Order, amount: int) -> None:
        balance = self.context.ledger.touch(order.account, self.paying_asset(order.side))
        balance.free -= amount
        balance.in_orders += amount

    def need(self, order: Order) -> int:
        """What an open order must hold. A market BUY under way holds its budget until it is done."""
        if order.side is Side.SELL:
            return order.remaining
        if order.lock_price == 0:
            return order.locked
        return order.lock_price * order.remaining // SCALE

    def _release_surplus(self, order: Order) -> None:
        surplus = order.locked - self.need(order)
        if surplus:
            self._release(order, surplus)

    def _release(self, order: Order, amount: int) -> None:
        if order.account.is_house or not amount:
            return
        order.locked -= amount
        balance = self.context.ledger.touch(order.account, self.paying_asset(order.side))
        balance.in_orders -= amount
        balance.free += amount

    # ------------------------------------------------------------------------------- self-trade prevention

    def _prevent(self, taker: Order, maker: Order, mode: StpMode, quantity: int) -> None:
        """`quantity` is what would have traded now."""
        taker_loss = maker_loss = 0
        if mode in (StpMode.DECREMENT, StpMode.TRANSFER):
            taker_loss = maker_loss = quantity
        if mode in (StpMode.EXPIRE_TAKER, StpMode.EXPIRE_BOTH):
            taker_loss = taker.remaining
        if mode in (StpMode.EXPIRE_MAKER, StpMode.EXPIRE_BOTH):
            maker_loss = maker.remaining
        self.last_prevented_id += 1
        record = PreventedMatch(
            self.spec.symbol,
            self.last_prevented_id,
            taker.order_id,
            maker.order_id,
            taker.account_id,
            maker.account_id,
            taker.account.trade_group_id,
            mode,
            maker.price,
            taker_loss or None,
            maker_loss or None,
            self.context.now,
        )
        self.prevented.append(record)
        self.preventions.append(record)
        if mode is StpMode.TRANSFER:
            self._transfer(taker, maker, quantity, maker.price)
        if maker_loss:
            maker.prevented_quantity += maker_loss
            self.own_side(maker.side).reduce(maker, maker_loss)
            self.update_id += 1
            self._tell_prevention(maker, taker, record, maker_loss, quantity)
        if taker_loss:
            taker.prevented_quantity += taker_loss
            self._tell_prevention(taker, maker, record, taker_loss, quantity)

    def _transfer(self, taker: Order, maker: Order, quantity: int, price: int) -> None:
        """Two accounts of one trade group settle what they would have traded, without commission."""
        quote = price * quantity // SCALE
        for order in (taker, maker):
            buys = order.side is Side.BUY
            paid, received, asset = (quote, quantity, self.base) if buys else (quantity, quote, self.quote)
            self.context.ledger.touch(order.account, self.paying_asset(order.side)).in_orders -= paid
            order.locked -= paid
            self.context.ledger.touch(order.account, asset).free += received

    def _tell_prevention(self, order: Order, counter: Order, record: PreventedMatch, loss: int, match: int) -> None:
        order.prevented_match_id = record.prevented_match_id
        self._release_surplus(order)
        if order.remaining == 0:
            order.status = OrderStatus.EXPIRED_IN_MATCH
            self._finish(order, tell=False)
        resting = order.is_open and order.order_id in self.own_side(order.side).levels.get(order.price, _NOWHERE).orders
        self.report(
            order,
            ExecutionType.TRADE_PREVENTION,
            on_book=resting,
            prevention=(loss, counter.order_id, match, record.price),
        )

    # --------------------------------------------------------------------------------------- stop orders

    def run_triggers(self) -> None:
        """Activate triggered orders one after the other; their trades may trigger more."""
        triggered = self.stops.triggered
        while triggered:
            order = triggered.popleft()
            order.is_working = True
            order.working_at = self.context.now
            if order.order_type in MARKET_TYPES and order.side is Side.BUY:
                self._hold_for_market(order)
            self.report(order, ExecutionType.NEW, on_book=True)
            self.execute(order)
            self.context.flush()

    def _hold_for_market(self, order: Order) -> None:
        """A triggered market BUY holds what the book asks for it, as far as the account can pay."""
        cost, _ = self.walk(order.account, order.stp_mode, order.side, 0, order.remaining)
        self._release(order, order.locked)
        order.lock_price = 0
        balance = self.context.ledger.touch(order.account, self.quote)
        order.locked = min(cost, balance.free)
        self._hold(order, order.locked)

    # ------------------------------------------------------------------------------------------- endings

    def cancel(self, order: Order, client_order_id: str) -> None:
        """At somebody's request, whose own id is `client_order_id`."""
        self._leave(order)
        order.status = OrderStatus.CANCELED
        self._finish(order, tell=False)
        self.report(
            order,
            ExecutionType.CANCELED,
            client_order_id=client_order_id,
            orig_client_order_id=order.client_order_id,
        )

    def expire(self, order: Order, reason: ExpiryReason) -> None:
        self._leave(order)
        order.status = OrderStatus.EXPIRED
        order.expiry_reason = reason
        self._finish(order, tell=False)
        self.report(order, ExecutionType.EXPIRED)

    def _leave(self, order: Order) -> None:
        """Take it from wherever it waits; an order under way waits nowhere."""
        if not order.is_working:
            self.stops.remove(order)
        elif order.visible:
            self.own_side(order.side).remove(order)
            self.update_id += 1

    def _finish(self, order: Order, *, tell: bool = True) -> None:
        """Closed: what it still held is free again."""
        if order.account.is_house:
            self.quotes.pop(order.order_id, None)
            return
        self._release(order, order.locked)
        self.context.stores[order.account_id].close(order)

    # ------------------------------------------------------------------------------------------- reports

    def report(
        self,
        order: Order,
        execution_type: ExecutionType,
        *,
        client_order_id: str | None = None,
        orig_client_order_id: str = "",
        on_book: bool = False,
        trade: Trade | None = None,
        prevention: tuple[int, int, int, int] | None = None,
    ) -> None:
        """Tell the order's owner. `prevention`: quantity lost, counter order, quantity and price prevented."""
        self.last_execution_id += 1
        if order.account.is_house:
            return
        context = self.context
        event = ExecutionEvent(
            order.account_id,
            order,
            execution_type,
            self.last_execution_id,
            context.now,
            context.snapshot(order),
            client_order_id or order.client_order_id,
            orig_client_order_id,
            on_book=on_book,
        )
        if trade is not None:
            event = event._replace(
                last_quantity=trade.quantity,
                last_price=trade.price,
                last_quote=trade.quote_quantity,
                commission=trade.commission,
                commission_asset=trade.commission_asset,
                trade_id=trade.trade_id,
                is_maker=trade.is_maker,
            )
        if prevention is not None:
            loss, counter_order_id, quantity, price = prevention
            event = event._replace(
                last_prevented_quantity=loss,
                counter_order_id=counter_order_id,
                counter_symbol=self.spec.symbol,
                prevented_execution_quantity=quantity,
                prevented_execution_price=price,
                prevented_execution_quote=price * quantity // SCALE,
            )
        context.events.append(event)

    # ----------------------------------------------------------------------------------------- the house

    def next_order_id(self) -> int:
        self.last_order_id += 1
        return self.last_order_id

    def house_order(self, side: Side, price: int, quantity: int) -> Order:
        now = self.context.now
        return Order(
            self.context.house,
            self.spec.symbol,
            self.next_order_id(),
            "",
            side,
            OrderType.LIMIT,
            TimeInForce.GTC,
            quantity,
            price,
            0,
            0,
            None,
            0,
            StpMode.NONE,
            None,
            None,
            now,
            now,
            is_working=True,
        )


_NOWHERE = Level(0)


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


def crosses(side: Side, limit: int, price: int) -> bool:
    """A `side` order with this limit takes that opposite price."""
    return price <= limit if side is Side.BUY else price >= limit


def _effective_mode(taker: Account, taker_mode: StpMode, maker: Order) -> StpMode:
    """The taker's mode rules; a transfer needs two accounts and the maker's consent."""
    if taker_mode is not StpMode.TRANSFER or (maker.stp_mode is StpMode.TRANSFER and taker is not maker.account):
        return taker_mode
    return StpMode.DECREMENT


def _is_self_trade(one: Account, other: Account) -> bool:
    return one is other or (one.trade_group_id != NO_ID and one.trade_group_id == other.trade_group_id)
