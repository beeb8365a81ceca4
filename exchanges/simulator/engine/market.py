"""Run one symbol's market: its book, its waiting orders, and the steps by which they trade."""

from __future__ import annotations

from exchanges.simulator.engine.context import Context
from exchanges.simulator.engine.enums import (
    MARKET_TYPES,
    STOP_TYPES,
    ExecutionType,
    ExpiryReason,
    OrderStatus,
    OrderType,
    Side,
    StpMode,
    TimeInForce,
)
from exchanges.simulator.engine.estimate import Estimate, affordable, crosses
from exchanges.simulator.engine.events import ExecutionEvent, Prevention
from exchanges.simulator.engine.filters import compile_filters
from exchanges.simulator.engine.funds import Funds, exceeds_hold
from exchanges.simulator.engine.order_book import BookSide
from exchanges.simulator.engine.past import Past
from exchanges.simulator.engine.self_trade import PreventedMatches, prevention_mode
from exchanges.simulator.engine.stop_orders import Stops
from exchanges.simulator.engine.symbol_spec import SymbolSpec
from exchanges.simulator.engine.trade_history import TradeHistory
from exchanges.simulator.engine.types import (
    SCALE,
    Account,
    Amendment,
    Order,
    PreventedMatch,
    PublicTrade,
    Trade,
)


class Market:
    """Match the orders of one symbol."""

    def __init__(self, spec: SymbolSpec, context: Context) -> None:
        self.spec = spec
        self.context = context
        self.status = spec.status
        self.filters = compile_filters(spec.filters)
        self.base = spec.base_asset
        self.quote = spec.quote_asset
        self.funds = Funds(context=context, base=self.base, quote=self.quote)
        self.reset()

    def reset(self) -> None:
        """Forget all orders and trades, and count ids from the start again."""
        self.bids = BookSide(Side.BUY)
        self.asks = BookSide(Side.SELL)
        self.stops = Stops()
        self.history = TradeHistory(self.filters.average_minutes)
        self.house_quotes: dict[int, Order] = {}
        self.prevented = PreventedMatches(self.spec.symbol)
        self.last_order_id = 0
        self.last_trade_id = 0
        self.last_execution_id = 0
        self.update_id = 1
        self.begin()

    def begin_after(self, past: Past) -> None:
        """Let the market have this past. Its own trade ids follow."""
        self.history.begin_after(past)
        self.last_trade_id = past.count

    def change(self, spec: SymbolSpec) -> None:
        """Change the rules. Orders that are open stay as they are, even against the new rules.

        Raises KeyError or ValueError if a filter is incomplete or isn't a number.
        """
        self.filters = compile_filters(spec.filters)
        self.history.track(self.filters.average_minutes)
        self.spec = spec

    def begin(self) -> None:
        """Start a call: collect its fills and prevented matches for its answer."""
        self.fills: list[Trade] = []
        self.preventions: list[PreventedMatch] = []

    def next_order_id(self) -> int:
        self.last_order_id += 1
        return self.last_order_id

    # -------------------------------------------------------------------------------- looking ahead

    def opposite(self, side: Side) -> BookSide:
        return self.asks if side is Side.BUY else self.bids

    def own_side(self, side: Side) -> BookSide:
        return self.bids if side is Side.BUY else self.asks

    def estimate(self, account: Account, stp_mode: StpMode, side: Side, limit: int = 0) -> Estimate:
        """Return the estimate for a `side` order of the account, down to `limit` (0: any price)."""
        return Estimate(
            book=self.opposite(side), account=account, stp_mode=stp_mode, side=side, limit=limit
        )

    def would_match(self, side: Side, price: int) -> bool:
        best = self.opposite(side).best_price()
        return best != 0 and crosses(side, price, best)

    # -------------------------------------------------------------------------------------- placing

    def accept(self, order: Order) -> None:
        """Take a new order: hold its funds, count and report it, then execute it or let it wait."""
        store = self.context.stores[order.account_id]
        store.accept(order)
        store.counter.add(self.context.now)
        self.funds.hold(order, order.locked)
        if order.order_type in STOP_TYPES:
            self.stops.add(order, self.history.last_price, self.context.now)
            self.report(order, ExecutionType.NEW)
        else:
            self._start(order)

    def _start(self, order: Order) -> None:
        order.is_working = True
        order.working_at = self.context.now
        self.report(order, ExecutionType.NEW, on_book=True)
        self._execute(order)

    def _execute(self, order: Order) -> None:
        """Match a working order, then let the rest of it rest on the book or expire."""
        limit = order.price
        if order.time_in_force is TimeInForce.FOK and order.order_type is not OrderType.MARKET:
            estimate = self.estimate(order.account, order.stp_mode, order.side, limit)
            _, complete = estimate.cost(order.remaining)
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
        """Trade the taker with the other side of the book, best price first, down to `limit`."""
        side = self.opposite(taker.side)
        while taker.remaining > 0:
            level = side.best()
            if level is None or (limit and not crosses(taker.side, limit, level.price)):
                return
            maker = next(iter(level.orders.values()))
            mode = prevention_mode(taker.account, taker.stp_mode, maker)
            quantity = min(taker.remaining, maker.visible)
            if (mode is StpMode.NONE or mode is StpMode.TRANSFER) and exceeds_hold(
                taker, quantity, level.price
            ):
                quantity = affordable(taker.locked, level.price, self.filters.lot.step)
                if quantity == 0:
                    return
            if mode is StpMode.NONE:
                self.trade(taker, maker, quantity, level.price)
                continue
            self._prevent(taker, maker, mode, quantity)
            if not taker.is_open:
                return

    # -------------------------------------------------------------------------------------- trading

    def trade(self, taker: Order, maker: Order, quantity: int, price: int) -> Trade:
        """Trade `quantity` at `price`, report it to both owners, and return the maker's side."""
        self.last_trade_id += 1
        self.update_id += 1
        quote = price * quantity // SCALE
        taken = self._fill(taker, quantity, price, quote, is_maker=False)
        made = self._fill(maker, quantity, price, quote, is_maker=True)
        self.own_side(maker.side).reduce(maker, quantity)
        self._report_fill(taker, taken)
        self._report_fill(maker, made)
        self.fills.append(taken)
        self.record(
            PublicTrade(
                trade_id=self.last_trade_id,
                price=price,
                quantity=quantity,
                quote_quantity=quote,
                time=self.context.now,
                buyer_is_maker=maker.side is Side.BUY,
            ),
            taker.order_id,
        )
        return made

    def _fill(
        self, order: Order, quantity: int, price: int, quote: int, *, is_maker: bool
    ) -> Trade:
        """Book one side of the latest trade on its order and its account."""
        is_first = order.executed_quantity == 0
        order.executed_quantity += quantity
        order.executed_quote += quote
        order.status = OrderStatus.PARTIALLY_FILLED if order.remaining else OrderStatus.FILLED
        commission, asset = self.funds.settle(
            order, quantity=quantity, quote=quote, is_maker=is_maker
        )
        account = order.account
        now = self.context.now
        if is_first and not account.is_house:
            self.context.stores[account.account_id].counter.fill(now, is_maker=is_maker)
        return Trade(
            symbol=order.symbol,
            trade_id=self.last_trade_id,
            order_id=order.order_id,
            client_order_id=order.client_order_id,
            account_id=account.account_id,
            side=order.side,
            price=price,
            quantity=quantity,
            quote_quantity=quote,
            commission=commission,
            commission_asset=asset,
            is_maker=is_maker,
            time=now,
        )

    def _report_fill(self, order: Order, trade: Trade) -> None:
        if not order.account.is_house:
            self.context.stores[order.account_id].add_trade(trade)
            resting = trade.is_maker or (
                order.price != 0 and order.time_in_force is TimeInForce.GTC
            )
            self.report(
                order,
                ExecutionType.TRADE,
                on_book=resting and order.status is OrderStatus.PARTIALLY_FILLED,
                trade=trade,
            )
        if order.status is OrderStatus.FILLED:
            self._finish(order)

    def record(self, trade: PublicTrade, taker_order_id: int) -> None:
        """Add a trade to the public history. Its price may trigger stop orders."""
        self.history.record(trade, taker_order_id)
        self.stops.move(trade.price, trade.time)

    # ------------------------------------------------------------------------ self-trade prevention

    def _prevent(self, taker: Order, maker: Order, mode: StpMode, quantity: int) -> None:
        """Let both orders lose their part instead of trading `quantity`."""
        match = self.prevented.record(
            taker, maker, mode=mode, quantity=quantity, now=self.context.now
        )
        self.preventions.append(match)
        if mode is StpMode.TRANSFER:
            self.funds.transfer(taker, maker, quantity=quantity, price=maker.price)
        if lost := match.maker_prevented_quantity:
            maker.prevented_quantity += lost
            self.own_side(maker.side).reduce(maker, lost)
            self.update_id += 1
            self._report_prevention(
                maker,
                Prevention(
                    match=match,
                    counter_order_id=taker.order_id,
                    lost=lost,
                    would_have_traded=quantity,
                ),
            )
        if lost := match.taker_prevented_quantity:
            taker.prevented_quantity += lost
            self._report_prevention(
                taker,
                Prevention(
                    match=match,
                    counter_order_id=maker.order_id,
                    lost=lost,
                    would_have_traded=quantity,
                ),
            )

    def _report_prevention(self, order: Order, prevention: Prevention) -> None:
        order.prevented_match_id = prevention.match.prevented_match_id
        self.funds.release_surplus(order)
        if order.remaining == 0:
            order.status = OrderStatus.EXPIRED_IN_MATCH
            self._finish(order)
        self.report(
            order,
            ExecutionType.TRADE_PREVENTION,
            on_book=order.visible > 0,
            prevention=prevention,
        )

    # ---------------------------------------------------------------------------------- stop orders

    def run_triggers(self) -> None:
        """Activate triggered orders one after the other. Their trades may trigger more."""
        triggered = self.stops.triggered
        while triggered:
            order = triggered.popleft()
            if order.order_type in MARKET_TYPES and order.side is Side.BUY:
                estimate = self.estimate(order.account, order.stp_mode, order.side)
                cost, _ = estimate.cost(order.remaining)
                self.funds.hold_for_market(order, cost)
            self._start(order)
            self.context.flush()

    # -------------------------------------------------------------------------------------- endings

    def cancel(self, order: Order, client_order_id: str) -> None:
        """Cancel an open order. `client_order_id` is the id of the cancel request."""
        self._leave(order)
        order.status = OrderStatus.CANCELED
        self._finish(order)
        self.report(
            order,
            ExecutionType.CANCELED,
            client_order_id=client_order_id,
            orig_client_order_id=order.client_order_id,
        )

    def amend(self, order: Order, quantity: int, client_order_id: str) -> Amendment:
        """Reduce an open order to `quantity`, which must be more than it executed."""
        amendment = Amendment(
            order=order,
            execution_id=self.last_execution_id + 1,
            transact_time=self.context.now,
            orig_client_order_id=order.client_order_id,
            new_client_order_id=client_order_id,
            orig_quantity=order.quantity,
            new_quantity=quantity,
        )
        order.quantity = quantity
        order.amendments.append(amendment)
        if client_order_id != order.client_order_id:
            self.context.stores[order.account_id].rename(order, client_order_id)
        if order.visible:
            self.own_side(order.side).shrink(order)
            self.update_id += 1
        self.funds.release_surplus(order)
        self.report(
            order,
            ExecutionType.REPLACED,
            orig_client_order_id=amendment.orig_client_order_id,
            on_book=order.visible > 0,
        )
        return amendment

    def end_by_amendment(self, order: Order) -> Amendment:
        """Expire an order that has executed all that an amendment leaves it."""
        self.expire(order, ExpiryReason.NONE)
        return Amendment(
            order=order,
            execution_id=self.last_execution_id,
            transact_time=self.context.now,
            orig_client_order_id=order.client_order_id,
            new_client_order_id=order.client_order_id,
            orig_quantity=order.quantity,
            new_quantity=order.quantity,
        )

    def expire(self, order: Order, reason: ExpiryReason) -> None:
        self._leave(order)
        order.status = OrderStatus.EXPIRED
        order.expiry_reason = reason
        self._finish(order)
        self.report(order, ExecutionType.EXPIRED)

    def _leave(self, order: Order) -> None:
        """Take the order off the book or the stop queue. While it executes it is on neither."""
        if not order.is_working:
            self.stops.remove(order)
        elif order.visible:
            self.own_side(order.side).remove(order)
            self.update_id += 1

    def _finish(self, order: Order) -> None:
        """Close the order and release the money it still holds."""
        if order.account.is_house:
            self.house_quotes.pop(order.order_id, None)
            return
        self.funds.release(order, order.locked)
        self.context.stores[order.account_id].close(order)

    # -------------------------------------------------------------------------------------- reports

    def report(
        self,
        order: Order,
        execution_type: ExecutionType,
        *,
        client_order_id: str | None = None,
        orig_client_order_id: str = "",
        on_book: bool = False,
        trade: Trade | None = None,
        prevention: Prevention | None = None,
    ) -> None:
        """Send an execution report to the owner of the order. The house gets none."""
        self.last_execution_id += 1
        account = order.account
        if account.is_house:
            return
        context = self.context
        # By position: this runs on every report, and keywords would double its time.
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
                on_book,
                trade,
                prevention,
            )
        )
