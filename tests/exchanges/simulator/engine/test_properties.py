"""Run random calls: money adds up, and every change is reported.

A seed makes each sequence, and a failure names the seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from exchanges.simulator.engine.enums import OrderType, Side, StpMode, SymbolStatus, TimeInForce
from exchanges.simulator.engine.events import AccountPositionEvent, ExecutionEvent
from exchanges.simulator.engine.symbol_spec import SymbolSpec
from exchanges.simulator.engine.types import (
    Commission,
    EngineError,
    NewOrder,
    Order,
    OrderState,
    Rates,
    units,
)
from tests.exchanges.simulator.engine.desk import PLAIN, Desk, audit

NAMES = ("alice", "bob", "carol")
SHORT, LONG = 400, 10_000
CALLS = 40

#: Ticks and steps whose product has more than eight decimals, so that roundings matter.
AWKWARD = (
    replace(
        PLAIN,
        filters=(
            {
                "filterType": "PRICE_FILTER",
                "minPrice": "0",
                "maxPrice": "0",
                "tickSize": "0.00000007",
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": "0.00000003",
                "maxQty": "10000",
                "stepSize": "0.00000003",
            },
        ),
    ),
    replace(PLAIN, symbol="BNBBBB", base_asset="BNB"),
    replace(PLAIN, symbol="AAABNB", quote_asset="BNB"),
)


def seeds(count: int) -> pytest.MarkDecorator:
    """Give each test a few seeds, so that failures name them soon and tests run in parallel."""
    return pytest.mark.parametrize("first", range(0, count, 50))


# -------------------------------------------------------------------------------------------- money


def random_rates(random: Random) -> Rates:
    maker, taker, buyer, seller = (random.randint(0, 300_000) for _ in range(4))
    return Rates(maker=maker, taker=taker, buyer=buyer, seller=seller)


class Turmoil:
    """Call every verb of the engine on accounts that are short of money, with awkward roundings."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.desk = Desk(*AWKWARD)
        self.told: dict[tuple[str, str], tuple[int, int]] = {}
        self.reported: dict[tuple[str, int], OrderState] = {}
        self.refused = 0
        for name in NAMES:
            account = self.desk.account(name)
            account.trade_group_id = random.choice((-1, 1))
            account.commission = Commission(
                standard=random_rates(random),
                special=random_rates(random),
                tax=random_rates(random),
                discount_enabled_for_account=random.random() < 0.5,
            )
            self.desk.engine.withdraw(name, "AAA", units("970"))
            self.desk.engine.withdraw(name, "BBB", units("997000"))
            self.desk.engine.deposit(name, "BNB", units(str(random.choice((0.00001, 0.001, 500)))))
        self._read()

    def call(self) -> None:
        verb: Callable[[], None] = self.random.choices(
            (
                self._place,
                self._cancel,
                self._fill,
                self._expire,
                self._set_price,
                self._quote,
                self._move_money,
                self._lock,
                self._status,
            ),
            (30, 3, 3, 1, 4, 2, 2, 1, 1),
        )[0]
        self.desk.later(self.random.choice((0, 0.001, 3)))
        try:
            verb()
        except EngineError:
            self.refused += 1
        self._read()

    def _symbol(self) -> SymbolSpec:
        return self.random.choices(AWKWARD, (4, 1, 1))[0]

    def _number(self, low: float, high: float, step: int) -> int:
        value = int(self.random.uniform(low, high) * 100_000_000)
        return max(step, value - value % step)

    def _price_of(self, spec: SymbolSpec) -> int:
        return self._number(98, 102, 7 if spec is AWKWARD[0] else 1_000_000)

    def _quantity_of(self, spec: SymbolSpec) -> int:
        return self._number(0.0001, 6, 3 if spec is AWKWARD[0] else 100_000)

    def _place(self) -> None:
        random, spec = self.random, self._symbol()
        kind = random.choices(
            tuple(OrderType),
            [4 if kind in (OrderType.LIMIT, OrderType.MARKET) else 1 for kind in OrderType],
        )[0]
        request = NewOrder(
            spec.symbol, random.choice(tuple(Side)), kind, quantity=self._quantity_of(spec)
        )
        request.stp_mode = random.choice((None, *StpMode))
        if kind is OrderType.MARKET and random.random() < 0.5:
            request.quantity, request.quote_quantity = None, self._number(0.001, 500, 1)
        if kind.endswith("LIMIT"):
            request.time_in_force = random.choices(tuple(TimeInForce), (6, 1, 1))[0]
        if "LIMIT" in kind:
            request.price = self._price_of(spec)
            if random.random() < 0.2:
                request.iceberg_quantity = self._quantity_of(spec)
        if kind.startswith(("STOP", "TAKE")):
            if random.random() < 0.7:
                request.stop_price = self._price_of(spec)
            if request.stop_price is None or random.random() < 0.3:
                request.trailing_delta = random.randint(1, 500)
        if random.random() < 0.3:
            request.client_order_id = f"c{random.randint(1, 5)}"
        self.desk.engine.place(random.choice(NAMES), request)

    def _some_order(self) -> Order:
        orders = self.desk.engine.open_orders(self.random.choice(NAMES))
        if not orders:
            raise EngineError(-2013, "none")
        return self.random.choice(orders)

    def _cancel(self) -> None:
        order = self._some_order()
        if self.random.random() < 0.2:
            self.desk.engine.cancel_all(order.account_id, order.symbol)
        else:
            self.desk.engine.cancel(order.account_id, order.symbol, order_id=order.order_id)

    def _fill(self) -> None:
        order = self._some_order()
        better = self.random.randint(0, 5) * (-1 if order.side is Side.BUY else 1)
        self.desk.engine.fill(
            order.symbol,
            order.order_id,
            self.random.randint(1, order.remaining),
            max(1, order.price + better),
        )

    def _expire(self) -> None:
        order = self._some_order()
        verb = self.random.choice((self.desk.engine.expire, self.desk.engine.cancel_by_exchange))
        verb(order.symbol, order.order_id)

    def _set_price(self) -> None:
        spec = self._symbol()
        self.desk.engine.set_price(spec.symbol, self._price_of(spec))

    def _quote(self) -> None:
        spec = self._symbol()
        price = self._price_of(spec)
        step = 7 if spec is AWKWARD[0] else 1_000_000
        bids = [(price - step * level, self._quantity_of(spec)) for level in range(1, 5)]
        asks = [(price + step * level, self._quantity_of(spec)) for level in range(1, 5)]
        self.desk.engine.quote(spec.symbol, bids, asks)

    def _move_money(self) -> None:
        verb = self.random.choice((self.desk.engine.deposit, self.desk.engine.withdraw))
        verb(
            self.random.choice(NAMES),
            self.random.choice(("AAA", "BBB", "BNB")),
            self._number(0.01, 100, 1),
        )

    def _lock(self) -> None:
        amount = self._number(0.01, 5, 1) * self.random.choice((-1, 1))
        self.desk.engine.external_lock(
            self.random.choice(NAMES), self.random.choice(("AAA", "BBB")), amount
        )

    def _status(self) -> None:
        status = self.random.choices(tuple(SymbolStatus), (9, 1, 1, 1, 1))[0]
        self.desk.engine.set_status(self._symbol().symbol, status)

    def _read(self) -> None:
        for event in self.desk.events():
            if isinstance(event, AccountPositionEvent):
                for asset, free, locked in event.balances:
                    self.told[event.account_id, asset] = (free, locked)
            elif isinstance(event, ExecutionEvent):
                self.reported[event.order.account_id + event.order.symbol, event.order.order_id] = (
                    event.state
                )

    def check(self) -> None:
        engine = self.desk.engine
        audit(engine)
        for name in NAMES:
            for asset, balance in engine.balances(name).items():
                assert self.told.get((name, asset), balance) == balance, (name, asset)
            for spec in AWKWARD:
                for order in engine.all_orders(name, spec.symbol, limit=1000):
                    assert (
                        engine.order_state(order)
                        == self.reported[name + spec.symbol, order.order_id]
                    )
                    assert order.is_open == (order in engine.open_orders(name))
                    assert 0 <= order.executed_quantity + order.prevented_quantity <= order.quantity
        for spec in AWKWARD:
            bid, ask = engine.best(spec.symbol)
            assert bid is None or ask is None or bid[0] < ask[0]


def make_turmoil(first: int, check_every: int) -> None:
    refused = traded = 0
    for seed in range(first, first + 50):
        turmoil = Turmoil(seed)
        try:
            for index in range(CALLS):
                turmoil.call()
                if index % check_every == 0:
                    turmoil.check()
            turmoil.check()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error
        refused += turmoil.refused
        traded += sum(
            account["traded"] for account in turmoil.desk.engine.truth()["accounts"].values()
        )
    assert refused < 50 * CALLS * 0.8
    assert traded > 50 * 3


@seeds(SHORT)
def test_money__is_conserved_never_negative_and_every_change_is_told(first: int) -> None:
    make_turmoil(first, check_every=4)


@pytest.mark.long
@seeds(LONG)
def test_money__is_conserved_over_ten_thousand_sequences(first: int) -> None:
    make_turmoil(first, check_every=10)
