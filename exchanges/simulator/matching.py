"""One symbol's market: its book, its waiting orders, and the steps by which they trade."""

from __future__ import annotations

from collections import deque
from typing import Any

from exchanges.simulator.book import BookSide
from exchanges.simulator.commission import charge
from exchanges.simulator.context import Context
from exchanges.simulator.filters import compile_filters
from exchanges.simulator.lookahead import Lookahead, affordable, crosses
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
    RejectReason,
    Side,
    StpMode,
    SymbolSpec,
    TimeInForce,
    Trade,
)
from exchanges.simulator.prevention import effective_mode, is_self_trade, losses
from exchanges.simulator.stops import Stops
from exchanges.simulator.tape import Tape

PREVENTED_MATCHES = 5_000

# the fields of an ExecutionEvent that say nothing unless it is about a trade, or about a prevented one
_NOT_TRADED = (0, 0, 0, 0, None, NO_ID, False)
_NOT_PREVENTED = (None,) * 6


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

    def ahead(self, account: Account, stp_mode: StpMode, side: Side, limit: int = 0) -> Lookahead:
        return Lookahead(self.opposite(side), account, stp_mode, side, limit)

    def would_match(self, side: Side, price: int) -> bool:
        best = self.opposite(side).best_price()
        return best != 0 and crosses(side, price, best)

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
            _, complete = self.ahead(order.account, order.stp_mode, order.side, limit).cost(order.remaining)
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
            own = taker.stp_mode is not StpMode.NONE and is_self_trade(taker.account, maker.account)
            mode = effective_mode(taker.account, taker.stp_mode, maker) if own else StpMode.NONE
            quantity = min(taker.remaining, maker.visible)
            if mode in (StpMode.NONE, StpMode.TRANSFER) and self._exceeds_hold(taker, quantity, level.price):
                quantity = affordable(taker.locked, level.price, self.filters.lot.step)
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
        taker_loss, maker_loss = losses(mode, taker, maker, quantity)
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
            self._finish(order)
        self.report(
            order,
            ExecutionType.TRADE_PREVENTION,
            on_book=order.visible > 0,
            prevention=(
                loss,
                counter.order_id,
                self.spec.symbol,
                match,
                record.price,
                record.price * match // SCALE,
            ),
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
        cost, _ = self.ahead(order.account, order.stp_mode, order.side).cost(order.remaining)
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
        self._finish(order)
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
        self._finish(order)
        self.report(order, ExecutionType.EXPIRED)

    def _leave(self, order: Order) -> None:
        """Take it from wherever it waits; an order under way waits nowhere."""
        if not order.is_working:
            self.stops.remove(order)
        elif order.visible:
            self.own_side(order.side).remove(order)
            self.update_id += 1

    def _finish(self, order: Order) -> None:
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
        prevention: tuple[Any, ...] = _NOT_PREVENTED,
    ) -> None:
        """Tell the order's owner. `prevention` are the event's last six fields."""
        self.last_execution_id += 1
        account = order.account
        if account.is_house:
            return
        context = self.context
        context.events.append(
            ExecutionEvent(
                account.account_id,
                order,
                execution_type,
                self.last_execution_id,
                context.now,
                context.snapshot(order),
                client_order_id or order.client_order_id,
                orig_client_order_id,
                RejectReason.NONE,
                on_book,
                *(_NOT_TRADED if trade is None else _traded(trade)),
                *prevention,
            )
        )

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


def _traded(trade: Trade) -> tuple[Any, ...]:
    return (
        trade.quantity,
        trade.price,
        trade.quote_quantity,
        trade.commission,
        trade.commission_asset,
        trade.trade_id,
        trade.is_maker,
    )
