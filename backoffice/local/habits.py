"""Give the demo's desk something to look at: strategies with different habits, and small accidents.

`make run` starts it beside the bot. Everything goes through the back office's own way, or happens
at the simulator, as it would at an exchange.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from decimal import ROUND_DOWN, Decimal
from typing import TYPE_CHECKING, Any

import structlog

from exchanges.simulator.client import ControlClient

if TYPE_CHECKING:
    from orders.execution import OrderExecutionService

PAUSE_SECONDS = 6.0
RESTING = 6  # orders of the grid that stay on the book
UNSEEN_SECONDS = 20.0  # an order whose answer is lost stays unresolved for so long

log = structlog.get_logger(__name__)


class Habits:
    """One account's strategies. Each habit sends an order, or causes an accident."""

    def __init__(
        self, desk: OrderExecutionService, control: ControlClient, *, name: str, seed: int = 1
    ) -> None:
        self._desk = desk
        self._control = control
        self._name = name
        self._random = random.Random(seed)
        self._count = 0
        self._grid: list[str] = []

    @property
    def all(self) -> list[Callable[[], Any]]:
        """Return the habits in their order. Repeated ones come more often."""
        quiet = [self.grid, self.rebalance, self.grid, self.snipe]
        return [*quiet, self.post_only, *quiet, self.careless, *quiet, self.lose_an_answer]

    def grid(self) -> str:
        """Rest a buy below the market, and cancel the oldest of too many."""
        if len(self._grid) >= RESTING:
            self._desk.cancel_order(self._grid.pop(0), requested_by="grid", reason="moves the grid")
        step = Decimal(self._random.randint(4, 30)) / 1000
        placed = self._buy("grid", "ETHUSDT", "LIMIT", quantity="0.05", price=self._below(step))
        self._grid.append(placed)
        return placed

    def rebalance(self) -> str:
        """Buy for a fixed amount at the market."""
        amount = str(self._random.randint(20, 80))
        return self._buy("rebalance", "SOLUSDT", "MARKET", quote_quantity=amount)

    def snipe(self) -> str:
        """Ask for a price that is not on offer: the order expires at once."""
        price = self._below(Decimal("0.02"))
        return self._buy(
            "sniper", "ETHUSDT", "LIMIT", quantity="0.1", price=price, time_in_force="IOC"
        )

    def post_only(self) -> str:
        """Post a price above the market, which the exchange refuses."""
        price = self._below(Decimal("-0.01"))
        return self._buy("maker", "ETHUSDT", "LIMIT_MAKER", quantity="0.1", price=price)

    def careless(self) -> str:
        """Ask for more than the account has: the gate denies it."""
        return self._buy("careless", "ETHUSDT", "LIMIT", quantity="900", price=self._below())

    def lose_an_answer(self) -> str:
        """Lose the exchange's answer: the order is unresolved until the exchange shows it."""
        self._control.faults.add(
            "reset_after",
            match={"method": "POST", "path": "/api/v3/order", "symbol": "XRPUSDT"},
            invisible_for=UNSEEN_SECONDS,
        )
        price = self._below(Decimal("0.05"), symbol="XRPUSDT")
        return self._buy("trend", "XRPUSDT", "LIMIT", quantity="100", price=price)

    def trade_elsewhere(self) -> None:
        """Place an order past the back office, as a person with the exchange's app does."""
        self._control.place_by_hand(
            symbol="ETHUSDT", side="BUY", type="LIMIT", timeInForce="GTC", quantity="0.05",
            price=self._below(Decimal("0.03")),
        )  # fmt: skip

    def _buy(self, strategy: str, symbol: str, order_type: str, **figures: Any) -> str:
        self._count += 1
        intent_id = f"{strategy}-{self._name}-{self._count}"
        self._desk.execute_buy_order(
            intent_id=intent_id,
            symbol=symbol,
            order_type=order_type,
            strategy=strategy,
            wait=True,
            **figures,
        )
        return intent_id

    def _below(self, part: Decimal = Decimal(0), *, symbol: str = "ETHUSDT") -> str:
        """Return a price that lies below the last one by this part, to the tick."""
        from exchanges.models import LastPrice

        last = LastPrice.objects.filter(symbol=symbol).values_list("price", flat=True).first()
        usual = {"ETHUSDT": Decimal(2400), "XRPUSDT": Decimal("0.55")}
        tick = Decimal("0.01") if symbol == "ETHUSDT" else Decimal("0.0001")
        return str(((last or usual[symbol]) * (1 - part)).quantize(tick, rounding=ROUND_DOWN))


def main() -> None:
    """Follow the habits until the demo stops."""
    import django

    django.setup()
    from orders.execution import OrderExecutionService

    name, simulator_url = sys.argv[1:]
    habits = Habits(
        OrderExecutionService(name), ControlClient(simulator_url), name=f"{int(time.time())}"
    )
    turn = 0
    while True:
        if turn == 2:
            _try(habits.trade_elsewhere)
        _try(habits.all[turn % len(habits.all)])
        turn += 1
        time.sleep(PAUSE_SECONDS)


def _try(habit: Callable[[], Any]) -> None:
    """Follow one habit. An outage of anything stops none of the others."""
    try:
        habit()
    except Exception as error:  # noqa: BLE001  whatever it is, the next habit is tried
        log.warning("habit_failed", habit=habit.__name__, error=str(error))


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
    main()
