"""Move the money of orders: hold it, pay with it, release it."""

from __future__ import annotations

from dataclasses import dataclass

from exchanges.simulator.engine.commission import charge
from exchanges.simulator.engine.context import Context
from exchanges.simulator.engine.enums import Side
from exchanges.simulator.engine.types import SCALE, Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Funds:
    """Move the money of one symbol's orders. `order.locked` is the part that an order holds."""

    context: Context
    base: str
    quote: str

    def paying_asset(self, side: Side) -> str:
        return self.quote if side is Side.BUY else self.base

    def hold(self, order: Order, amount: int) -> None:
        """Move `amount` of the account's free balance into its orders."""
        balance = self.context.ledger.touch(order.account, self.paying_asset(order.side))
        balance.free -= amount
        balance.in_orders += amount

    def release(self, order: Order, amount: int) -> None:
        """Make `amount` of the order's money free again. The house holds nothing."""
        if order.account.is_house or not amount:
            return
        order.locked -= amount
        balance = self.context.ledger.touch(order.account, self.paying_asset(order.side))
        balance.in_orders -= amount
        balance.free += amount

    def release_surplus(self, order: Order) -> None:
        """Release the money that the rest of the order doesn't need."""
        surplus = order.locked - _needed(order)
        if surplus:
            self.release(order, surplus)

    def hold_for_market(self, order: Order, cost: int) -> None:
        """Hold `cost` for a triggered market BUY, or all that the account has free."""
        self.release(order, order.locked)
        order.lock_price = 0
        balance = self.context.ledger.touch(order.account, self.quote)
        order.locked = min(cost, balance.free)
        self.hold(order, order.locked)

    def settle(self, order: Order, *, quantity: int, quote: int, is_maker: bool) -> tuple[int, str]:
        """Pay and receive one side of a trade. Return (commission, its asset)."""
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
        self.release_surplus(order)
        balance = ledger.touch(account, asset)
        balance.free += received
        return charge(self.context, order, asset, balance, received=received, is_maker=is_maker)

    def transfer(self, taker: Order, maker: Order, *, quantity: int, price: int) -> None:
        """Settle a prevented match between two accounts of one trade group, without commission."""
        quote = price * quantity // SCALE
        for order in (taker, maker):
            if order.side is Side.BUY:
                paid, received, asset = quote, quantity, self.base
            else:
                paid, received, asset = quantity, quote, self.quote
            paying = self.context.ledger.touch(order.account, self.paying_asset(order.side))
            paying.in_orders -= paid
            order.locked -= paid
            self.context.ledger.touch(order.account, asset).free += received


def exceeds_hold(taker: Order, quantity: int, price: int) -> bool:
    """Check whether a market BUY would spend more than it holds. A limited order holds enough."""
    return taker.price == 0 and taker.side is Side.BUY and price * quantity // SCALE > taker.locked


def _needed(order: Order) -> int:
    """Return the amount an open order must hold. A market BUY keeps its budget until it is done."""
    if order.side is Side.SELL:
        return order.remaining
    if order.lock_price == 0:
        return order.locked
    return order.lock_price * order.remaining // SCALE
