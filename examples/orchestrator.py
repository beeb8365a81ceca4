#!/usr/bin/env python
"""Trade with a small bot that shows how a bot uses the back office. `make run` runs it.

    .venv/bin/python examples/orchestrator.py               # through OrderExecutionService
    .venv/bin/python examples/orchestrator.py --wait        # the same, placed in this process
    .venv/bin/python examples/orchestrator.py --by-message  # by Celery messages
    .venv/bin/python examples/orchestrator.py --by-event    # another bot: round_trips.py

It follows the prices of a few symbols. It buys after a rise and sells after a fall, at most a few
hundred dollars at a time and up to a limit per symbol, and it cancels orders that rest too long.
The strategy won't earn money. The bot shows the rest: which messages to send, and how to handle
each answer.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import signal
import sys
import time
import urllib.request
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_DOWN, Context, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import environ

if TYPE_CHECKING:
    from celery.result import AsyncResult

ROOT = Path(__file__).resolve().parent.parent
STRATEGY = "momentum"
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT", "DOGEUSDT")

MEMORY = 6  # prices of a symbol that count for its momentum
LARGEST_POSITION = Decimal(1500)  # in dollars, for each symbol and direction
REST_SECONDS = 20.0  # longest rest of an order on the book
QUEUES = {"orders.submit_order": "trading", "orders.cancel_order": "cancel"}
REPEAT_SECONDS = 10.0  # a message without an answer is sent again after this time
BREAK_SECONDS = 60.0  # pause of a symbol after a refusal

log = logging.getLogger("orchestrator")


# -- Signals in ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Signal:
    """A reason to trade. `momentum` is the relative change of the price over the last reads."""

    symbol: str
    price: Decimal
    momentum: Decimal


def signals(prices_url: str, choice: random.Random) -> Iterator[Signal | None]:
    """Yield one symbol's price after the other without end, None if there is no price."""
    seen: dict[str, deque[Decimal]] = defaultdict(lambda: deque(maxlen=MEMORY))
    while True:
        symbol = choice.choice(SYMBOLS)
        try:
            price = last_price(prices_url, symbol)
        except (OSError, ValueError, KeyError) as error:
            log.warning("no price of %s: %s", symbol, error)
            yield None
            continue
        seen[symbol].append(price)
        yield Signal(symbol, price, price / seen[symbol][0] - 1)


def last_price(prices_url: str, symbol: str) -> Decimal:
    """Read the exchange's public market data, which needs no key and no back office."""
    with urllib.request.urlopen(
        f"{prices_url}/api/v3/ticker/price?symbol={symbol}", timeout=3
    ) as response:
        return Decimal(json.load(response)["price"])


# -- Orders out, two ways ------------------------------------------------------------------------


@dataclass(frozen=True)
class Intent:
    """One order that the bot has decided on.

    Figures are text, and the back office rounds them to the exchange's grid.
    """

    intent_id: str
    side: str
    arguments: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """The order's state now. `status` is one of the ten in ARCHITECTURE.md."""

    status: str
    filled_quantity: Decimal
    reason: str


class Desk(Protocol):
    """The bot's view of the back office."""

    def place(self, intent: Intent) -> None: ...

    def ask(self, intent: Intent) -> Answer | None:
        """Return the order's state, None if there is no answer yet."""

    def cancel(self, intent: Intent, reason: str) -> None: ...

    def left_over(self) -> list[Intent]:
        """Return the intents of an earlier run whose orders are still open."""


class ServiceDesk:
    """Serve a bot that shares code and database with the back office.

    By default a worker sends the order. With `wait`, the call itself sends it and returns when the
    exchange has answered, which is the faster way for a bot that has nothing else to do meanwhile.
    """

    def __init__(self, account: str, *, wait: bool = False) -> None:
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
        import django

        django.setup()
        from orders.execution import OrderExecutionService

        self.service = OrderExecutionService(account)
        self.wait = wait

    def place(self, intent: Intent) -> None:
        # Recorded at once and sent by a worker (or here, with `wait`). If the broker is down, the
        # order waits until its deadline.
        execute = (
            self.service.execute_buy_order
            if intent.side == "BUY"
            else self.service.execute_sell_order
        )
        arguments: dict[str, Any] = {**intent.arguments}
        execute(intent_id=intent.intent_id, strategy=STRATEGY, wait=self.wait, **arguments)

    def ask(self, intent: Intent) -> Answer | None:
        from django.db import close_old_connections

        close_old_connections()  # like each web request, so a lost connection is opened again
        order = self.service.get_order(intent.intent_id)
        return Answer(order.status, order.filled_quantity, order.reason)

    def cancel(self, intent: Intent, reason: str) -> None:
        self.service.cancel_order(intent.intent_id, requested_by=STRATEGY, reason=reason)

    def left_over(self) -> list[Intent]:
        from orders.models import Order
        from orders.states import CLOSED

        rows = Order.objects.filter(account__name=self.service.account_name, strategy=STRATEGY)
        return [
            Intent(order.intent_id, order.side, {"symbol": order.symbol})
            for order in rows.exclude(status__in=[*CLOSED])
        ]


class MessageDesk:
    """Serve a bot that shares only the broker.

    A message may get lost, and its answer too. So the bot repeats it until it is answered: the same
    intent is the same order, no matter how often it comes. The answer contains the order's state,
    so a repeated message is also a query.
    """

    def __init__(self, account: str) -> None:
        from celery import Celery

        self.account = account
        self.app = Celery(
            "orchestrator", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"]
        )
        self.decided_at: dict[str, str] = {}
        self.sent: dict[str, tuple[float, AsyncResult | None]] = {}

    def place(self, intent: Intent) -> None:
        # The time of our decision, not of the message's receipt: a message that waited too long is
        # not sent.
        decided_at = self.decided_at.setdefault(intent.intent_id, datetime.now(UTC).isoformat())
        arguments = {
            "intent_id": intent.intent_id,
            "account": self.account,
            "side": intent.side,
            "strategy": STRATEGY,
        }
        arguments |= {"submitted_at": decided_at, **intent.arguments}
        self.sent[intent.intent_id] = time.monotonic(), self.send("orders.submit_order", arguments)

    def ask(self, intent: Intent) -> Answer | None:
        from redis.exceptions import RedisError

        sent_at, result = self.sent[intent.intent_id]
        try:
            told = result.result if result is not None and result.ready() else None
        except RedisError:
            told = None
        if told is None:
            if time.monotonic() - sent_at > REPEAT_SECONDS:
                self.place(intent)
            return None
        if isinstance(told, Exception):
            # InvalidIntent: the arguments are malformed and nothing was recorded.
            return Answer("DENIED", Decimal(0), str(told))
        self.place(intent)  # its answer is for the next review
        return Answer(told["status"], Decimal(told["filled_quantity"]), told["reason"])

    def cancel(self, intent: Intent, reason: str) -> None:
        arguments = {
            "account": self.account,
            "intent_id": intent.intent_id,
            "requested_by": STRATEGY,
            "reason": reason,
        }
        self.send("orders.cancel_order", arguments)

    def left_over(self) -> list[Intent]:
        return []  # the bot would have to store its intents itself

    def send(self, task: str, arguments: dict[str, str]) -> AsyncResult | None:
        from kombu.exceptions import OperationalError

        try:
            # Answers are kept for an hour, and only on request.
            queue = QUEUES[task]
            return self.app.send_task(task, kwargs=arguments, queue=queue, ignore_result=False)
        except OperationalError as error:
            log.warning("the broker does not answer, the message is repeated later: %s", error)
            return None


# -- The bot -------------------------------------------------------------------------------------


@dataclass
class Live:
    """An intent whose order is still open."""

    intent: Intent
    symbol: str
    since: float
    cancel_asked: bool = False


class TradingOrchestrator:
    """Turn signals into orders and keep track of them."""

    def __init__(self, desk: Desk, choice: random.Random) -> None:
        self.desk = desk
        self.choice = choice
        # An intent id is never used twice.
        self.name = f"{STRATEGY}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        self.count = 0
        self.live = [
            Live(intent, intent.arguments["symbol"], time.monotonic())
            for intent in desk.left_over()
        ]
        self.positions: dict[str, Decimal] = defaultdict(Decimal)  # bought minus sold
        self.left_alone_until: dict[str, float] = {}

    def act(self, heard: Signal) -> None:
        """Send an order for a signal, unless the symbol is paused."""
        if time.monotonic() < self.left_alone_until.get(heard.symbol, 0.0):
            return
        intent = self.decide(heard)
        self.desk.place(intent)
        self.live.append(Live(intent, heard.symbol, time.monotonic()))
        log.info("%s: %s %s", intent.intent_id, intent.side, " ".join(intent.arguments.values()))

    def decide(self, heard: Signal) -> Intent:
        """Return the order for a signal: mostly a resting one, sometimes one that fills at once."""
        side = self.side(heard)
        worth = Decimal(self.choice.randrange(40, 300))
        quantity = rounded(worth / heard.price, 4)
        kind = self.choice.choices(("rest", "take", "market"), weights=(6, 3, 1))[0]
        arguments = {"symbol": heard.symbol}
        if kind == "market" and side == "BUY":
            arguments |= {"order_type": "MARKET", "quote_quantity": str(worth)}
        elif kind == "market":
            arguments |= {"order_type": "MARKET", "quantity": quantity}
        else:
            away = (
                Decimal("-0.002")
                if kind == "take"
                else Decimal("0.0005") * self.choice.randrange(1, 8)
            )
            price = heard.price * (1 - away if side == "BUY" else 1 + away)
            time_in_force = "IOC" if kind == "take" else "GTC"
            arguments |= {"order_type": "LIMIT", "quantity": quantity, "price": rounded(price, 6)}
            arguments |= {"time_in_force": time_in_force}
        self.count += 1
        return Intent(f"{self.name}-{self.count}", side, arguments)

    def side(self, heard: Signal) -> str:
        """Follow the momentum, unless the position is large already: then reduce it."""
        position = self.positions[heard.symbol] * heard.price
        if abs(position) > LARGEST_POSITION:
            return "SELL" if position > 0 else "BUY"
        return "BUY" if heard.momentum >= 0 else "SELL"

    def review(self) -> None:
        """Query every live order and handle the answer."""
        self.live = [live for live in self.live if not self.is_done(live)]

    def is_done(self, live: Live) -> bool:
        answer = self.desk.ask(live.intent)
        if answer is None:
            return False
        if answer.status in ("FILLED", "CANCELED", "EXPIRED"):
            self.positions[live.symbol] += answer.filled_quantity * (
                1 if live.intent.side == "BUY" else -1
            )
            log.info(
                "%s: %s, filled %s",
                live.intent.intent_id,
                answer.status,
                f"{answer.filled_quantity.normalize():f}",
            )
            return True
        if answer.status in ("DENIED", "REJECTED"):
            # Our gate or the exchange has refused it, and would refuse the same order again. Wait.
            self.left_alone_until[live.symbol] = time.monotonic() + BREAK_SECONDS
            log.warning("%s: %s: %s", live.intent.intent_id, answer.status, answer.reason)
            return True
        if answer.status == "NOT_PLACED":
            log.warning(
                "%s: too late, the moment is gone: %s", live.intent.intent_id, answer.reason
            )
            return True
        # CREATED, PENDING_NEW: on its way, or unknown. That isn't a refusal, so never send another.
        is_resting = answer.status in ("NEW", "PARTIALLY_FILLED")
        if is_resting and not live.cancel_asked and time.monotonic() - live.since > REST_SECONDS:
            # Only a request: the order may fill before the cancel arrives. The next review shows.
            self.desk.cancel(live.intent, f"rested for {REST_SECONDS:.0f} s")
            live.cancel_asked = True
        return False

    def run(self, incoming: Iterator[Signal | None], *, pause: float, orders: int | None) -> None:
        """Run until `orders` are sent and closed, without a number until SIGTERM."""
        while orders is None or self.count < orders or self.live:
            heard = next(incoming)
            if heard is not None and (orders is None or self.count < orders):
                self.act(heard)
            time.sleep(pause * self.choice.uniform(0.8, 1.2))
            self.review()


def rounded(figure: Decimal, digits: int) -> str:
    """Round down to significant digits. The back office rounds to the exchange's grid."""
    return f"{Context(prec=digits, rounding=ROUND_DOWN).create_decimal(figure):f}"


# -- The program ---------------------------------------------------------------------------------


def read_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A small trading bot on the back office.")
    parser.add_argument("--account", default="demo", help="name of the exchange account")
    parser.add_argument(
        "--by-message",
        action="store_true",
        help="send Celery messages, share only the broker",
    )
    parser.add_argument(
        "--wait",
        action="store_true",
        help="place orders in this process and wait for the exchange's answer",
    )
    parser.add_argument(
        "--by-event",
        action="store_true",
        help="buy, sell on the message about the fill, cancel after a timeout",
    )
    parser.add_argument(
        "--prices", help="where to read prices (default: the account's EXCHANGE_..._REST_URL)"
    )
    parser.add_argument("--pause", type=float, default=2.5, help="seconds between two orders")
    parser.add_argument(
        "--rest",
        type=float,
        default=REST_SECONDS,
        help="cancel orders that rest for this many seconds (with --by-event)",
    )
    parser.add_argument("--orders", type=int, help="end after this many (default: never)")
    parser.add_argument("--seed", type=int, help="repeat the same choices")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    options = read_arguments(argv)
    sys.path.insert(0, str(ROOT))
    run_env = ROOT / "var" / "run.env"  # the addresses of a running `make run`
    if run_env.exists():
        environ.Env.read_env(str(run_env))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    signal.signal(signal.SIGTERM, stop)

    prices = options.prices or os.environ.get(
        f"EXCHANGE_{options.account.upper().replace('-', '_')}_REST_URL"
    )
    if not prices:
        print(
            "orchestrator: set --prices to a source of prices, for example https://api.binance.com",
            file=sys.stderr,
        )
        return 2
    if options.by_event:
        import round_trips

        price = last_price(prices, SYMBOLS[0])
        return round_trips.run(
            options.account,
            symbol=SYMBOLS[0],
            price=price,
            rounds=options.orders or 1,
            rest_seconds=options.rest,
        )
    choice = random.Random(options.seed)
    desk: Desk
    if options.by_message:
        desk = MessageDesk(options.account)
    else:
        desk = ServiceDesk(options.account, wait=options.wait)
    bot = TradingOrchestrator(desk, choice)
    with suppress(KeyboardInterrupt):
        bot.run(signals(prices, choice), pause=options.pause, orders=options.orders)
    return 0


def stop(_signal_number: int, _frame: object) -> None:
    """Stop at once, because the back office takes care of everything sent."""
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
