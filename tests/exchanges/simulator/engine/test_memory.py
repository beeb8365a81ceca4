"""Check that memory grows only with the kept history, not with the orders that passed."""

from __future__ import annotations

import gc
from random import Random

import pytest

from exchanges.simulator.engine.types import EngineError, units
from tests.exchanges.simulator.engine.desk import Desk

KEPT = 200


class Traffic:
    """Place, take and cancel orders, with every limit of memory set."""

    def __init__(self) -> None:
        self.desk = Desk(history_limit=KEPT)
        self.random = Random(11)

    def run(self, orders: int) -> None:
        random = self.random
        for _ in range(orders):
            self.desk.later(0.01)
            account = random.choice(("alice", "bob"))
            side = random.choice(("BUY", "SELL"))
            price = units(str(random.randint(98, 102)))
            kind = "MARKET" if random.random() < 0.3 else "LIMIT"
            try:
                if kind == "MARKET":
                    self.desk.place(account, side, kind, quantity="0.1")
                else:
                    self.desk.limit(account, side, "0.1", str(price // 100_000_000))
            except EngineError:
                self.desk.engine.cancel_all(account, "AAABBB")
            if len(self.desk.engine.open_orders(account)) > 50:
                self.desk.engine.cancel_all(account, "AAABBB")
            self.desk.events()

    def objects(self) -> int:
        gc.collect()
        return len(gc.get_objects())


def growth(warm_up: int, orders: int) -> float:
    """Return the growth in objects once everything that is kept is full."""
    traffic = Traffic()
    traffic.run(warm_up)
    before = traffic.objects()
    traffic.run(orders)
    return traffic.objects() / before


@pytest.mark.long
def test_memory__is_flat_once_the_history_is_full() -> None:
    assert growth(warm_up=9_000, orders=9_000) < 1.05


@pytest.mark.long
def test_memory__is_flat_over_two_hundred_thousand_orders() -> None:
    assert growth(warm_up=20_000, orders=200_000) < 1.05
