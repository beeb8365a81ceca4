"""A bot that is told instead of asking: `examples/orchestrator.py --by-event`.

The back office runs with `ORDER_EVENTS_TASK=orchestrator.order_changed`; each change of an order then starts that task
here. The bot buys, waits for the fill, places the sell, and cancels what rests for too long.

A message may come twice, so two things are idempotent: what is older than what was seen is ignored (`version` only
grows), and a sell's intent id derives from its buy's, so that placing it again is the same order.
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
    """Buys and sells one symbol, `rounds` times one after the other; needs nothing but the broker."""

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

    # What we are told

    def order_changed(self, order: dict[str, Any], fills: list[dict[str, Any]], version: int) -> None:
        """One change of an order; `ORDER_EVENTS_TASK` names this."""
        intent_id = order["intent_id"]
        if order["strategy"] != STRATEGY or version <= self.seen.get(intent_id, -1):
            return
        self.seen[intent_id] = version
        log.info("%s: %s %s, filled %s", intent_id, order["side"], order["status"], order["filled_quantity"])
        if order["status"] in NEVER_THERE:
            log.warning("%s: %s", intent_id, order["reason"])
            self.next_round()
        elif order["status"] not in CLOSED_AT_THE_EXCHANGE:
            if intent_id not in self.resting:
                self.resting.add(intent_id)
                self.app.send_task("orchestrator.rested", (intent_id,), queue=QUEUE, countdown=self.rest_seconds)
        elif sum(Decimal(fill["quantity"]) for fill in fills) == Decimal(order["filled_quantity"]):
            # Else the trades are not all known yet: we are told again when they are.
            self.resting.discard(intent_id)
            self.go_on_after(order, fills)

    def go_on_after(self, order: dict[str, Any], fills: list[dict[str, Any]]) -> None:
        if order["side"] == "SELL" or not fills:
            self.next_round()
            return
        # What is ours now: a commission may have been taken from what was bought.
        base = self.symbol.removesuffix("USDT")
        taken = sum((Decimal(fill["commission"]) for fill in fills if fill["commission_asset"] == base), Decimal(0))
        bought = Decimal(order["filled_quantity"]) - taken
        self.place(f"{order['intent_id']}-sell", "SELL", bought, Decimal(order["average_price"]) * PROFIT)

    def rested(self, intent_id: str) -> None:
        """Time is up. The cancel is a wish: the order may be filled before it arrives; we shall be told."""
        if intent_id in self.resting:
            reason = f"rested for {self.rest_seconds:g} s"
            arguments = {"account": self.account, "intent_id": intent_id, "requested_by": STRATEGY, "reason": reason}
            self.app.send_task("orders.cancel_order", kwargs=arguments, queue="trading")

    # What we do

    def next_round(self) -> None:
        if self.rounds_left == 0:
            state.should_stop = 0  # the worker ends, with this exit status
            return
        self.rounds_left -= 1
        self.place(f"{STRATEGY}-{uuid.uuid4().hex[:12]}", "BUY", self.worth / self.price, self.price)

    def place(self, intent_id: str, side: str, quantity: Decimal, price: Decimal) -> None:
        arguments = {
            "intent_id": intent_id, "account": self.account, "symbol": self.symbol, "side": side, "strategy": STRATEGY,
            "order_type": "LIMIT", "quantity": rounded(quantity, 5), "price": rounded(price, 7),
        }  # fmt: skip
        self.app.send_task("orders.submit_order", kwargs=arguments, queue="trading")


def rounded(figure: Decimal, digits: int) -> str:
    return f"{Context(prec=digits, rounding=ROUND_DOWN).create_decimal(figure):f}"


def run(account: str, *, symbol: str, price: Decimal, rounds: int, rest_seconds: float) -> int:
    """Until the last round is over; the exit status."""
    app = Celery("orchestrator", broker=os.environ["REDIS_URL"])
    app.conf.task_default_queue = QUEUE
    bot = RoundTrips(
        app, account, symbol=symbol, worth=Decimal(100), price=price, rounds=rounds, rest_seconds=rest_seconds
    )
    app.task(bot.order_changed, name="orchestrator.order_changed", typing=False)
    app.task(bot.rested, name="orchestrator.rested", typing=False)
    signals.worker_ready.connect(lambda **_: bot.next_round(), weak=False)
    worker = app.Worker(pool="solo", queues=[QUEUE], loglevel="INFO", without_gossip=True, without_mingle=True)
    worker.start()
    return int(worker.exitcode or 0)
