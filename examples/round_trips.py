"""Trade by events instead of queries: `examples/orchestrator.py --by-event`.

The back office runs with `ORDER_EVENTS_TASK=orchestrator.order_changed`, so each change of an order
starts that task here. The bot buys, waits for the fill, places the sell, and cancels orders that
rest too long.

A message may come twice, so two things are idempotent: the bot ignores versions older than the last
one seen (`version` only grows), and a sell's intent id derives from its buy's, so placing it again
is the same order.
"""

from __future__ import annotations

import logging
import os
import uuid
from decimal import ROUND_DOWN, Context, Decimal
from typing import Any

from celery import Celery, signals
from celery.worker import state

STRATEGY = "round-trips"
QUEUE = "order-events"  # ORDER_EVENTS_QUEUE of the back office
PROFIT = Decimal("1.002")
CLOSED_AT_THE_EXCHANGE = ("FILLED", "CANCELED", "EXPIRED")
NEVER_THERE = ("DENIED", "REJECTED", "NOT_PLACED")

log = logging.getLogger("orchestrator")


class RoundTrips:
    """Buy and sell one symbol, `rounds` times one after the other. Only the broker is needed."""

    def __init__(
        self,
        app: Celery,
        account: str,
        *,
        symbol: str,
        worth: Decimal,
        price: Decimal,
        rounds: int,
        rest_seconds: float = 20.0,
    ) -> None:
        self.app = app
        self.rest_seconds = rest_seconds
        self.account, self.symbol, self.worth, self.price = account, symbol, worth, price
        self.rounds_left = rounds
        self.seen: dict[str, int] = {}  # intent id -> version
        self.resting: set[str] = set()

    # incoming

    def order_changed(
        self, order: dict[str, Any], fills: list[dict[str, Any]], version: int
    ) -> None:
        """Handle one change of an order. `ORDER_EVENTS_TASK` names this task."""
        intent_id = order["intent_id"]
        if order["strategy"] != STRATEGY or version <= self.seen.get(intent_id, -1):
            return
        self.seen[intent_id] = version
        log.info(
            "%s: %s %s, filled %s",
            intent_id,
            order["side"],
            order["status"],
            order["filled_quantity"],
        )
        if order["status"] in NEVER_THERE:
            log.warning("%s: %s", intent_id, order["reason"])
            self.next_round()
        elif order["status"] not in CLOSED_AT_THE_EXCHANGE:
            if intent_id not in self.resting:
                self.resting.add(intent_id)
                self.app.send_task(
                    "orchestrator.rested", (intent_id,), queue=QUEUE, countdown=self.rest_seconds
                )
        elif sum(Decimal(fill["quantity"]) for fill in fills) == Decimal(order["filled_quantity"]):
            # Otherwise some trades are still unknown, and another message follows with them.
            self.resting.discard(intent_id)
            self.go_on_after(order, fills)

    def go_on_after(self, order: dict[str, Any], fills: list[dict[str, Any]]) -> None:
        if order["side"] == "SELL" or not fills:
            self.next_round()
            return
        # The commission may have been taken from the bought quantity.
        base = self.symbol.removesuffix("USDT")
        taken = sum(
            (Decimal(fill["commission"]) for fill in fills if fill["commission_asset"] == base),
            Decimal(0),
        )
        bought = Decimal(order["filled_quantity"]) - taken
        self.place(
            f"{order['intent_id']}-sell", "SELL", bought, Decimal(order["average_price"]) * PROFIT
        )

    def rested(self, intent_id: str) -> None:
        """Request a cancel. The order may fill first, and then a message says so."""
        if intent_id in self.resting:
            reason = f"rested for {self.rest_seconds:g} s"
            arguments = {
                "account": self.account,
                "intent_id": intent_id,
                "requested_by": STRATEGY,
                "reason": reason,
            }
            self.app.send_task("orders.cancel_order", kwargs=arguments, queue="cancel")

    # outgoing

    def next_round(self) -> None:
        if self.rounds_left == 0:
            state.should_stop = 0  # the worker ends, with this exit status
            return
        self.rounds_left -= 1
        self.place(
            f"{STRATEGY}-{uuid.uuid4().hex[:12]}", "BUY", self.worth / self.price, self.price
        )

    def place(self, intent_id: str, side: str, quantity: Decimal, price: Decimal) -> None:
        arguments = {
            "intent_id": intent_id, "account": self.account, "symbol": self.symbol, "side": side,
            "strategy": STRATEGY, "order_type": "LIMIT",
            "quantity": rounded(quantity, 5), "price": rounded(price, 7),
        }  # fmt: skip
        self.app.send_task("orders.submit_order", kwargs=arguments, queue="trading")


def rounded(figure: Decimal, digits: int) -> str:
    return f"{Context(prec=digits, rounding=ROUND_DOWN).create_decimal(figure):f}"


def run(account: str, *, symbol: str, price: Decimal, rounds: int, rest_seconds: float) -> int:
    """Run until the last round is over, and return the exit status."""
    app = Celery("orchestrator", broker=os.environ["REDIS_URL"])
    app.conf.task_default_queue = QUEUE
    bot = RoundTrips(
        app,
        account,
        symbol=symbol,
        worth=Decimal(100),
        price=price,
        rounds=rounds,
        rest_seconds=rest_seconds,
    )
    app.task(bot.order_changed, name="orchestrator.order_changed", typing=False)
    app.task(bot.rested, name="orchestrator.rested", typing=False)
    signals.worker_ready.connect(lambda **_: bot.next_round(), weak=False)
    worker = app.Worker(
        pool="solo", queues=[QUEUE], loglevel="INFO", without_gossip=True, without_mingle=True
    )
    worker.start()
    return int(worker.exitcode or 0)
