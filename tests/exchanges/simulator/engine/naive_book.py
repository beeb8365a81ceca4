"""Match orders a second time, as naively as possible: the books and the money.

Written from the exchange's documentation, it shares no code with the simulator. There are no
queues, no locked amounts and no running sums: each step searches, sorts and adds up plain lists of
decimals again. Where the documentation says nothing, a comment says so. There the simulator's own
rule applies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_DOWN, Decimal
from typing import Any, NamedTuple

ZERO = Decimal(0)
EIGHT_PLACES = Decimal("0.00000001")
AT_MARKET = ("MARKET", "STOP_LOSS", "TAKE_PROFIT")


class Rules(NamedTuple):
    """State a symbol's rules. The filters are those of exchangeInfo, by type."""

    base: str
    quote: str
    filters: Mapping[str, Mapping[str, Any]]
    default_mode: str
    modes: tuple[str, ...]


class Terms(NamedTuple):
    """State an account's commission rates by role and side, its discount in BNB and its group."""

    standard: Mapping[str, Decimal]
    extra: Mapping[str, Decimal]
    discount: Decimal | None = None
    group: int = -1


class Fill(NamedTuple):
    """Describe one side of a trade."""

    symbol: str
    trade_id: int
    is_maker: bool
    order_id: int
    price: Decimal
    quantity: Decimal
    fee: Decimal
    asset: str


@dataclass
class Order:
    order_id: int
    account: str
    params: Mapping[str, str]
    mode: str
    quantity: Decimal
    where: str = "taking"  # or "book", "waiting", "triggered", and "" once it is closed
    status: str = "NEW"
    executed: Decimal = ZERO
    quote: Decimal = ZERO
    prevented: Decimal = ZERO
    shown: Decimal = ZERO
    queue: int = 0
    moved: Decimal = ZERO  # the base amount traded or transferred, and `paid` the quote amount
    paid: Decimal = ZERO
    seen: Decimal = ZERO  # the last price that it met
    offered: Decimal = ZERO  # the part of a quoteOrderQty that the book has
    budget: Decimal | None = None  # the quote amount that an order without a price may still move

    def __post_init__(self) -> None:
        params = self.params
        self.symbol, self.side, self.type = params["symbol"], params["side"], params["type"]
        self.price, self.stop = number(params, "price"), number(params, "stopPrice")
        self.iceberg = number(params, "icebergQty")

    @property
    def left(self) -> Decimal:
        return self.quantity - self.executed - self.prevented

    @property
    def is_rising(self) -> bool:
        """Check whether a stop order waits for a price that rises to its stop price."""
        return self.type.startswith("STOP") == (self.side == "BUY")

    def is_reached_by(self, price: Decimal) -> bool:
        return price >= self.stop if self.is_rising else price <= self.stop


def number(params: Mapping[str, Any], name: str) -> Decimal:
    return Decimal(params.get(name) or 0)


def floor(value: Decimal, step: Decimal = EIGHT_PLACES) -> Decimal:
    return (value / step).to_integral_value(ROUND_DOWN) * step


def affordable(budget: Decimal, price: Decimal, step: Decimal) -> Decimal:
    """Return the quantity whose notional is as close as possible to the budget, and not above."""
    quantity = floor(budget / price, step)
    return quantity + step if floor(price * (quantity + step)) <= budget else quantity


class NaiveBook:
    """Keep the open orders, the trades, and all that each account has of each asset."""

    def __init__(self, rules: Mapping[str, Rules], terms: Mapping[str, Terms]) -> None:
        self.rules, self.terms = rules, terms
        self.now = 0  # seconds
        self.owned: dict[tuple[str, str], Decimal] = {}
        self.open: list[Order] = []
        self.triggered: list[Order] = []
        self.trades: list[tuple[str, int, Decimal, Decimal]] = []  # symbol, time, price, quantity
        self.last: dict[str, Decimal] = {}
        self.fills: list[Fill] = []
        self.queued = 0

    # -- Money: an account's orders lock what they need, computed from the orders ------------------

    def locked(self, account: str, asset: str) -> Decimal:
        mine = [row for row in self.open if row.account == account and self.paying(row) == asset]
        return sum((self.need(row) for row in mine), ZERO)

    def free(self, account: str, asset: str) -> Decimal:
        return self.owned.get((account, asset), ZERO) - self.locked(account, asset)

    def paying(self, order: Order) -> str:
        rules = self.rules[order.symbol]
        return rules.quote if order.side == "BUY" else rules.base

    def need(self, order: Order) -> Decimal:
        if order.side == "SELL":
            return order.left
        if order.price:
            return floor(order.price * order.left)
        if order.where in ("waiting", "triggered"):  # undocumented: it locks for its stop price
            return floor(order.stop * order.left)
        return order.budget or ZERO

    def _move(self, order: Order, quantity: Decimal, quote: Decimal) -> tuple[str, Decimal]:
        """Pay and receive one side. Return the asset and the amount that it receives."""
        rules = self.rules[order.symbol]
        sign = 1 if order.side == "BUY" else -1
        for asset, amount in ((rules.base, sign * quantity), (rules.quote, -sign * quote)):
            self.owned[order.account, asset] = self.owned.get((order.account, asset), ZERO) + amount
        order.moved += quantity
        order.paid += quote
        if order.budget is not None:
            order.budget -= quote
        return (rules.base, quantity) if order.side == "BUY" else (rules.quote, quote)

    def _charge(self, order: Order, asset: str, amount: Decimal, role: str) -> tuple[Decimal, str]:
        """Take the commission, from BNB if the account wants that and has enough of it free.

        The roundings are undocumented.
        """
        terms = self.terms[order.account]
        side = "buyer" if order.side == "BUY" else "seller"
        standard = terms.standard[role] + terms.standard[side]
        extra = terms.extra[role] + terms.extra[side]
        fee = floor(amount * (standard + extra))
        if terms.discount is not None:
            reduced = floor(floor(amount * standard) * terms.discount) + floor(amount * extra)
            in_bnb = self._in_bnb(asset, reduced)
            if in_bnb is not None and self.free(order.account, "BNB") >= in_bnb:
                fee, asset = in_bnb, "BNB"
        self.owned[order.account, asset] -= fee
        return fee, asset

    def _in_bnb(self, asset: str, amount: Decimal) -> Decimal | None:
        """Convert by last prices, through the quote asset if there is no market with BNB."""
        pairs = {
            (self.rules[name].base, self.rules[name].quote): self.last[name] for name in self.last
        }
        if asset == "BNB":
            return amount
        if price := pairs.get((asset, "BNB")):
            return floor(amount * price)
        if price := pairs.get(("BNB", asset)):
            return floor(amount / price)
        found = [(quote, price) for (base, quote), price in pairs.items() if base == asset]
        return self._in_bnb(found[0][0], floor(amount * found[0][1])) if found else None

    # -- Matching ----------------------------------------------------------------------------------

    def best(self, taker: Order) -> Order | None:
        """Return the order that comes first by price and time among those that the taker takes."""
        buys = taker.side == "BUY"
        rows = [
            row
            for row in self.open
            if row.where == "book" and row.symbol == taker.symbol and row.side != taker.side
        ]
        if taker.price:
            rows = [
                row
                for row in rows
                if (row.price <= taker.price if buys else row.price >= taker.price)
            ]
        rows.sort(key=lambda row: (row.price if buys else -row.price, row.queue))
        return rows[0] if rows else None

    def trial(self, order: Order, **changes: Any) -> Order:
        """Match a copy of the order on a copy of everything, and return it."""
        other = NaiveBook(self.rules, self.terms)
        other.owned, other.last, other.queued = dict(self.owned), dict(self.last), self.queued
        copy = replace(order, where="taking", budget=None)
        for name, value in changes.items():
            setattr(copy, name, value)
        other.open = [replace(row) for row in self.open if row is not order] + [copy]
        other.match(copy)
        return copy

    def execute(self, order: Order) -> None:
        """Match an order. Let the rest of it rest on the book or expire."""
        order.where = "taking"
        time = order.params.get("timeInForce")
        if order.type in AT_MARKET and order.side == "BUY":
            order.budget = ZERO
            order.budget = min(self.trial(order).paid, self.free(order.account, self.paying(order)))
        if time == "FOK":
            trial = self.trial(order)
            if trial.left or (trial.prevented and trial.mode in ("EXPIRE_TAKER", "EXPIRE_BOTH")):
                self.close(order, "EXPIRED")
                return
        self.match(order)
        if not order.where:
            return
        if order.type in AT_MARKET or time in ("IOC", "FOK"):
            self.close(order, "EXPIRED")
        else:
            self._rest(order)

    def match(self, taker: Order) -> None:
        while taker.left and taker.where and (maker := self.best(taker)):
            quantity = min(taker.left, maker.shown)
            mode = self._mode(taker, maker)
            if mode not in ("NONE", "TRANSFER"):
                self._prevent(taker, maker, mode, quantity)
                continue
            cost, budget = floor(maker.price * quantity), taker.budget
            is_last = budget is not None and cost > budget
            if budget is not None and is_last:
                step = number(self.rules[taker.symbol].filters["LOT_SIZE"], "stepSize")
                quantity = affordable(budget, maker.price, step)
            if quantity and mode == "NONE":
                self._trade(taker, maker, quantity)
            elif quantity:
                self._prevent(taker, maker, mode, quantity)
            if is_last:
                taker.seen = ZERO  # the budget is spent
                return

    def close(self, order: Order, status: str) -> None:
        order.status, order.where, order.shown = status, "", ZERO
        self.open = [row for row in self.open if row is not order]

    def _rest(self, order: Order) -> None:
        """Put the order at the end of the queue. An iceberg shows its next part."""
        self.queued += 1
        order.where, order.queue = "book", self.queued
        order.shown = min(order.iceberg or order.left, order.left)

    def _trade(self, taker: Order, maker: Order, quantity: Decimal) -> None:
        price, symbol = maker.price, taker.symbol
        quote = floor(price * quantity)
        taker.seen = price
        self.trades.append((symbol, self.now, price, quantity))
        trade_id = sum(1 for trade in self.trades if trade[0] == symbol)
        for order, role in ((taker, "taker"), (maker, "maker")):
            order.executed += quantity
            order.quote += quote
            order.status = "PARTIALLY_FILLED"
            asset, amount = self._move(order, quantity, quote)
            fee, paid_in = self._charge(order, asset, amount, role)
            self.fills.append(
                Fill(
                    symbol, trade_id, role == "maker", order.order_id, price, quantity, fee, paid_in
                )
            )
        for order in (taker, maker):
            if not order.left:
                self.close(order, "FILLED")
        self._shrink(maker, quantity)
        self._last_price(symbol, price)

    def _shrink(self, maker: Order, quantity: Decimal) -> None:
        if maker.where and quantity >= maker.shown:
            self._rest(maker)
        elif maker.where:
            maker.shown -= quantity

    def _mode(self, taker: Order, maker: Order) -> str:
        group = self.terms[taker.account].group
        same = taker.account == maker.account
        if not same and (group == -1 or group != self.terms[maker.account].group):
            return "NONE"
        if taker.mode == "TRANSFER" and (same or maker.mode != "TRANSFER"):
            return "DECREMENT"
        return taker.mode

    def _prevent(self, taker: Order, maker: Order, mode: str, quantity: Decimal) -> None:
        both = {"EXPIRE_TAKER": ZERO, "EXPIRE_MAKER": ZERO, "EXPIRE_BOTH": ZERO}.get(mode, quantity)
        losses = [
            (taker, taker.left if mode in ("EXPIRE_TAKER", "EXPIRE_BOTH") else both),
            (maker, maker.left if mode in ("EXPIRE_MAKER", "EXPIRE_BOTH") else both),
        ]
        if both:
            taker.seen = maker.price
        if mode == "TRANSFER":
            for order in (taker, maker):
                self._move(order, quantity, floor(maker.price * quantity))
        for order, loss in losses:
            order.prevented += loss
            if loss and not order.left:
                self.close(order, "EXPIRED_IN_MATCH")
        self._shrink(maker, losses[1][1])

    def _last_price(self, symbol: str, price: Decimal) -> None:
        """Note the last price, and which waiting orders it triggers, in an undocumented order."""
        self.last[symbol] = price
        reached = [
            row
            for row in self.open
            if row.where == "waiting" and row.symbol == symbol and row.is_reached_by(price)
        ]
        reached.sort(
            key=lambda row: (
                not row.is_rising,
                row.stop if row.is_rising else -row.stop,
                row.order_id,
            )
        )
        for row in reached:
            row.where = "triggered"
        self.triggered += reached
