"""Give the demo's desk something to look at: strategies with different habits, and small accidents.

`make run` starts it beside the bot. Every order takes the back office's own way, from a record over
a worker to the simulator. Accidents happen at the simulator, as they would at an exchange.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import ROUND_DOWN, Decimal
from itertools import chain, cycle
from typing import TYPE_CHECKING, Any

import structlog

from exchanges import clock
from exchanges.simulator.client import ControlClient

if TYPE_CHECKING:
    from orders.execution import OrderExecutionService
    from orders.models import Order

PAUSE_SECONDS = 1.5  # one account has a turn, then the next one
RESTING = 6  # orders of the grid that stay on the book
UNSEEN_SECONDS = 20.0  # an order whose answer is lost stays unresolved for so long
REVIEW_SECONDS = 900  # a second person has so long to release an order
TICKS = {"XRPUSDT": Decimal("0.0001")}

log = structlog.get_logger(__name__)

Habit = Callable[[], Any]


class Trader:
    """Place orders of one account near the last price."""

    def __init__(
        self, desk: OrderExecutionService, simulator_url: str, *, name: str, seed: int = 1
    ) -> None:
        self.desk = desk
        self.control = ControlClient(simulator_url)
        self._url = simulator_url
        self.random = random.Random(seed)
        self._name = name
        self._count = 0

    @property
    def first(self) -> list[Habit]:
        """Return the habits of the first minute, so that each is soon to be seen."""
        raise NotImplementedError

    @property
    def later(self) -> list[Habit]:
        """Return the habits of all time after, repeated. The frequent ones come more often."""
        raise NotImplementedError

    def turns(self) -> Iterator[Habit]:
        return chain(self.first, cycle(self.later))

    def buy(self, strategy: str, symbol: str, order_type: str, **figures: Any) -> str:
        return self._place(self.desk.execute_buy_order, strategy, symbol, order_type, **figures)

    def sell(self, strategy: str, symbol: str, order_type: str, **figures: Any) -> str:
        return self._place(self.desk.execute_sell_order, strategy, symbol, order_type, **figures)

    def _place(
        self, execute: Any, strategy: str, symbol: str, order_type: str, **figures: Any
    ) -> str:
        self._count += 1
        intent_id = f"{strategy}-{self._name}-{self._count}"
        execute(
            intent_id=intent_id, symbol=symbol, order_type=order_type, strategy=strategy, **figures
        )
        return intent_id

    def cancel(self, intent_id: str, reason: str) -> None:
        self.desk.cancel_order(intent_id, requested_by=intent_id.split("-")[0], reason=reason)

    def price(self, away: str | Decimal = "0", *, symbol: str = "ETHUSDT") -> str:
        """Return a price so far from the last one (0.01: 1 % above), to the tick."""
        address = f"{self._url}/api/v3/ticker/price?symbol={symbol}"
        with urllib.request.urlopen(address, timeout=3) as answer:  # noqa: S310  our own # nosec B310
            last = Decimal(json.load(answer)["price"])
        tick = TICKS.get(symbol, Decimal("0.01"))
        return str((last * (1 + Decimal(away))).quantize(tick, rounding=ROUND_DOWN))

    def newest(self, strategy: str) -> Order | None:
        """Return the newest order of a strategy of this account."""
        from orders.models import Order

        rows = Order.objects.filter(account__name=self.desk.account_name, strategy=strategy)
        return rows.order_by("-created_at").first()


class Accidents(Trader):
    """Trade for `demo`, with every ending that an order can have."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._grid: list[str] = []

    @property
    def first(self) -> list[Habit]:
        return [
            *(self.grid, self.snipe, self.lose_an_answer, self.careless, self.nibble),
            *(self.take_our_id, self.post_only, self.nibble, self.late, self.rebalance),
            self.trade_elsewhere,
        ]

    @property
    def later(self) -> list[Habit]:
        quiet = [self.grid, self.rebalance, self.grid, self.snipe, self.nibble]
        return [
            *(*quiet, self.post_only, *quiet, self.careless),
            *(*quiet, self.lose_an_answer, *quiet, self.late),
        ]

    def grid(self) -> str:
        """Rest a buy below the market, and cancel the oldest of too many."""
        if len(self._grid) >= RESTING:
            self.cancel(self._grid.pop(0), "moves the grid")
        step = Decimal(self.random.randint(4, 30)) / 1000
        placed = self.buy("grid", "ETHUSDT", "LIMIT", quantity="0.05", price=self.price(-step))
        self._grid.append(placed)
        return placed

    def rebalance(self) -> str:
        """Buy for a fixed amount at the market."""
        amount = str(self.random.randint(20, 80))
        return self.buy("rebalance", "SOLUSDT", "MARKET", quote_quantity=amount)

    def snipe(self) -> str:
        """Ask for a price that is not on offer: the order expires at once."""
        return self.buy(
            *("sniper", "ETHUSDT", "LIMIT"),
            quantity="0.1",
            price=self.price("-0.02"),
            time_in_force="IOC",
        )

    def post_only(self) -> str:
        """Post a price above the market, which the exchange refuses."""
        return self.buy(
            "poster", "ETHUSDT", "LIMIT_MAKER", quantity="0.1", price=self.price("0.01")
        )

    def careless(self) -> str:
        """Ask for more than the account has: the gate denies it."""
        return self.buy("careless", "ETHUSDT", "LIMIT", quantity="900", price=self.price())

    def late(self) -> str:
        """Hand in an order that was decided too long ago: it isn't placed any more."""
        return self.buy(
            *("late", "ETHUSDT", "LIMIT"),
            quantity="0.05",
            price=self.price("-0.01"),
            submitted_at=clock.now() - timedelta(minutes=2),
        )

    def nibble(self) -> str:
        """Let the market take a part of a large resting order, and later the rest."""
        from orders import states

        order = self.newest("iceberg")
        if order is None or order.status in states.CLOSED:
            return self.buy(
                "iceberg",
                "BNBUSDT",
                "LIMIT",
                quantity="0.6",
                price=self.price("-0.003", symbol="BNBUSDT"),
            )
        attempt = order.exchange_orders.last()
        if attempt is not None and attempt.exchange_order_id:
            left = (order.quantity or Decimal(0)) - order.filled_quantity
            part = min(left, Decimal("0.2"))
            self.control.fill("BNBUSDT", int(attempt.exchange_order_id), quantity=part)
        return order.intent_id

    def lose_an_answer(self) -> str:
        """Lose the exchange's answer: the order is unresolved until the exchange shows it."""
        placing = {"account": "main", "method": "POST", "path": "/api/v3/order"}
        self.control.faults.add(
            "reset_after", match={**placing, "symbol": "XRPUSDT"}, invisible_for=UNSEEN_SECONDS
        )
        price = self.price("-0.05", symbol="XRPUSDT")
        return self.buy("trend", "XRPUSDT", "LIMIT", quantity="100", price=price)

    def trade_elsewhere(self) -> None:
        """Place an order past the back office, as a person with the exchange's app does."""
        self._by_hand()

    def take_our_id(self) -> None:
        """Place such an order under the ID of a closed order of ours, unless a break is open."""
        order = self.newest("sniper")
        if self._has_break():
            return
        if order is not None and (attempt := order.exchange_orders.last()):
            self._by_hand(newClientOrderId=attempt.client_order_id)

    def _has_break(self) -> bool:
        from orders.models import ReconciliationBreak

        mine = ReconciliationBreak.objects.filter(account__name=self.desk.account_name)
        return mine.filter(resolved_at=None).exists()

    def _by_hand(self, **more: str) -> None:
        self.control.place_by_hand(
            symbol="ETHUSDT", side="BUY", type="LIMIT", timeInForce="GTC", quantity="0.05",
            price=self.price("-0.03"), **more,
        )  # fmt: skip


class MarketMaker(Trader):
    """Quote both sides of two symbols for `demo-maker`, close to the price, and keep moving."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._quotes: dict[str, list[str]] = {}

    @property
    def first(self) -> list[Habit]:
        return []

    @property
    def later(self) -> list[Habit]:
        return [self.quote_ether, self.quote_bitcoin]

    def quote_ether(self) -> list[str]:
        return self.quote("ETHUSDT", quantity="0.08")

    def quote_bitcoin(self) -> list[str]:
        return self.quote("BTCUSDT", quantity="0.003")

    def quote(self, symbol: str, *, quantity: str) -> list[str]:
        """Replace both quotes of a symbol."""
        for intent_id in self._quotes.pop(symbol, []):
            self.cancel(intent_id, "moves the quote")
        strategy = f"quotes{symbol[:3].lower()}"
        half = Decimal(self.random.randint(3, 9)) / 10_000
        sides = ((self.buy, -half), (self.sell, half))
        self._quotes[symbol] = [
            place(
                strategy,
                symbol,
                "LIMIT_MAKER",
                quantity=quantity,
                price=self.price(away, symbol=symbol),
            )
            for place, away in sides
        ]
        return self._quotes[symbol]


class Savings(Trader):
    """Invest for `demo-savings`: rarely, large orders only with a second person, one strategy
    halted.
    """

    @property
    def first(self) -> list[Habit]:
        return [self.save, self.reverse, self.invest]

    @property
    def later(self) -> list[Habit]:
        rest = [self.rest] * 9
        return [*rest, self.reverse, *rest, self.save, *rest, self.invest]

    def rest(self) -> None:
        """Do nothing."""

    def save(self) -> str:
        """Buy a little at the market."""
        return self.buy("savings", "BTCUSDT", "MARKET", quote_quantity="120")

    def reverse(self) -> str:
        """Try an order of a strategy that is halted: the gate denies it and names who halted."""
        return self.sell(
            "reversal",
            "BTCUSDT",
            "LIMIT",
            quantity="0.01",
            price=self.price("0.001", symbol="BTCUSDT"),
        )

    def invest(self) -> str:
        """Ask for a large order, which waits for a second person."""
        from orders.states import OrderStatus

        order = self.newest("treasury")
        if order is not None and order.status == OrderStatus.HELD:
            return order.intent_id
        return self.buy(
            *("treasury", "BTCUSDT", "LIMIT"),
            quantity="0.2",
            price=self.price("-0.002", symbol="BTCUSDT"),
            place_within_seconds=REVIEW_SECONDS,
        )


def main() -> None:
    """Follow the habits of all accounts in turn, until the demo stops."""
    import django

    django.setup()
    from backoffice.local import demo
    from orders.execution import OrderExecutionService

    simulator_url, name = sys.argv[1], f"{int(time.time())}"
    kinds = {demo.ACCOUNT: Accidents, demo.MAKER: MarketMaker, demo.SAVINGS: Savings}
    turns = [
        kind(OrderExecutionService(account), simulator_url, name=name).turns()
        for account, kind in kinds.items()
    ]
    for mine in cycle(turns):
        _try(next(mine))
        time.sleep(PAUSE_SECONDS)


def _try(habit: Habit) -> None:
    """Follow one habit. An outage of anything stops none of the others."""
    try:
        habit()
    except Exception as error:  # noqa: BLE001  whatever it is, the next habit is tried
        log.warning("habit_failed", habit=habit.__name__, error=str(error))


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
    main()
