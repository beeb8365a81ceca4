"""Measure the requests per second of the engine alone, on one core, with events drained.

`python -m tests.exchanges.simulator.engine.speed` prints the result. Benchmarks use `measure`.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from time import perf_counter

from exchanges.simulator.engine.engine import Engine
from exchanges.simulator.engine.enums import OrderType, Side, TimeInForce
from exchanges.simulator.engine.types import EngineError, NewOrder, Order, units

ACCOUNTS = 10
SYMBOL = "BTCUSDT"
PRICE, TICK, STEP = units("50000"), units("0.01"), units("0.00001")


@dataclass(frozen=True)
class Speed:
    requests: int
    refused: int
    trades: int
    seconds: float

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def measure(requests: int = 60_000, *, seed: int = 1) -> Speed:
    """Measure six placements (one of them a market order) for every four cancels.

    All are around one price on one book, with the real filters of the symbol and a commission.
    """
    now = 1_700_000_000_000_000

    def clock() -> int:
        return now

    engine = Engine(clock=clock, history_limit=2_000)
    for index in range(ACCOUNTS):
        engine.add_account(f"account-{index}", {"USDT": units("100000000"), "BTC": units("10000")})
    engine.set_price(SYMBOL, PRICE)
    calls = _calls(engine, Random(seed), requests)
    refused = 0
    gc.collect()
    began = perf_counter()
    for index, call in enumerate(calls):
        now += 50
        try:
            call()
        except EngineError:
            refused += 1
        if index % 20 == 0:
            engine.drain_events()
    seconds = perf_counter() - began
    return Speed(requests, refused, engine.recent_trades(SYMBOL)[-1].trade_id, seconds)


def _calls(engine: Engine, random: Random, count: int) -> list[Callable[[], object]]:
    """Prepare the calls, so that preparing them isn't measured."""
    resting: list[Order] = []

    def place(account: str, request: NewOrder) -> None:
        order = engine.place(account, request).order
        if order.is_open:
            resting.append(order)

    def cancel() -> None:
        if resting:
            order = resting.pop()
            engine.cancel(order.account_id, SYMBOL, order_id=order.order_id)

    calls: list[Callable[[], object]] = []
    for _ in range(count):
        if random.random() < 0.4:
            calls.append(cancel)
        else:
            calls.append(_placement(place, random))
    return calls


def _placement(place: Callable[[str, NewOrder], None], random: Random) -> Callable[[], object]:
    account = f"account-{random.randrange(ACCOUNTS)}"
    side = random.choice((Side.BUY, Side.SELL))
    quantity = STEP * random.randrange(20, 2_000)
    away = 1_500 if side is Side.SELL else -1_500
    price = PRICE + TICK * (away + random.randrange(-3_000, 3_000))
    market = random.random() < 1 / 6

    def call() -> None:
        if market:
            place(account, NewOrder(SYMBOL, side, OrderType.MARKET, quantity=quantity))
        else:
            limit = NewOrder(
                SYMBOL, side, OrderType.LIMIT, TimeInForce.GTC, quantity=quantity, price=price
            )
            place(account, limit)

    return call


def main() -> None:
    for _ in range(3):
        speed = measure()
        sys.stdout.write(
            f"{speed.per_second:>10,.0f} requests/s   "
            f"({speed.requests:,} requests, {speed.trades:,} trades, {speed.refused:,} refused)\n"
        )


if __name__ == "__main__":
    main()
