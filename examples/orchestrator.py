#!/usr/bin/env python
"""A small trading bot: how a bot uses the back office. `make run` runs it on the simulator.

    .venv/bin/python examples/orchestrator.py                # orders of account `demo` through OrderExecutionService
    .venv/bin/python examples/orchestrator.py --by-message   # the same by Celery messages: needs the broker alone
    .venv/bin/python examples/orchestrator.py --by-event     # another bot, which is told of fills: round_trips.py

It follows the prices of a few symbols. What has risen it buys, what has fallen it sells, at most a few hundred dollars
at a time and up to a limit for each symbol; what rests on the book for too long it cancels. It is no strategy to earn
money with. What it shows is the other half of a bot: what to send, and what to do with each answer.
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
from typing import TYPE_CHECKING, Protocol

import environ

if TYPE_CHECKING:
    from celery.result import AsyncResult

ROOT = Path(__file__).resolve().parent.parent
STRATEGY = "momentum"
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT", "DOGEUSDT")

MEMORY = 6  # prices of a symbol that make its momentum
LARGEST_POSITION = Decimal(1500)  # in dollars, for each symbol and direction
REST_SECONDS = 20.0  # so long an order may rest on the book
REPEAT_SECONDS = 10.0  # after so long without an answer a message is sent again
BREAK_SECONDS = 60.0  # so long a symbol is left alone after a refusal

log = logging.getLogger("orchestrator")


# -- Signals in ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Signal:
    """A reason to trade. `momentum` is the relative change of the price over the last few looks."""

    symbol: str
    price: Decimal
    momentum: Decimal


def signals(prices_url: str, choice: random.Random) -> Iterator[Signal | None]:
    """One look at one symbol a time, for ever; None where there is nothing to say."""
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
    """Public market data of the exchange: no key, and no business of the back office."""
    with urllib.request.urlopen(f"{prices_url}/api/v3/ticker/price?symbol={symbol}", timeout=3) as response:
        return Decimal(json.load(response)["price"])


# -- Orders out, two ways ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wish:
    """One order that the bot has decided on. Figures are text; the back office puts them on the exchange's grid."""

    intent_id: str
    side: str
    arguments: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """What became of a wish so far; `status` is one of the order's ten."""

    status: str
    filled_quantity: Decimal
    reason: str


class Desk(Protocol):
    """What the bot needs of the back office."""

    def place(self, wish: Wish) -> None: ...

    def ask(self, wish: Wish) -> Answer | None:
        """None: no answer yet."""

    def cancel(self, wish: Wish, reason: str) -> None: ...

    def left_over(self) -> list[Wish]:
        """Wishes of an earlier run whose fate is not sealed."""


class ServiceDesk:
    """For a bot that shares code and database with the back office."""

    def __init__(self, account: str) -> None:
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
        import django

        django.setup()
        from orders.execution import OrderExecutionService

        self.service = OrderExecutionService(account)

    def place(self, wish: Wish) -> None:
        # Recorded at once, and sent by a worker. If the broker is down the order waits, while its deadline lasts.
        execute = self.service.execute_buy_order if wish.side == "BUY" else self.service.execute_sell_order
        execute(intent_id=wish.intent_id, strategy=STRATEGY, **wish.arguments)  # type: ignore[arg-type]

    def ask(self, wish: Wish) -> Answer | None:
        from django.db import close_old_connections

        close_old_connections()  # as each web request does: a connection that was lost is opened again
        order = self.service.get_order(wish.intent_id)
        return Answer(order.status, order.filled_quantity, order.reason)

    def cancel(self, wish: Wish, reason: str) -> None:
        self.service.cancel_order(wish.intent_id, requested_by=STRATEGY, reason=reason)

    def left_over(self) -> list[Wish]:
        from orders.models import Order
        from orders.states import CLOSED

        rows = Order.objects.filter(account__name=self.service.account_name, strategy=STRATEGY)
        return [
            Wish(order.intent_id, order.side, {"symbol": order.symbol}) for order in rows.exclude(status__in=[*CLOSED])
        ]


class MessageDesk:
    """For a bot that shares nothing but the broker.

    A message may get lost, and its answer too. So the bot repeats it until it is answered: the same intent is the same
    order, however often it comes. The answer tells the order's present state, so a repeated message is a question, too.
    """

    def __init__(self, account: str) -> None:
        from celery import Celery

        self.account = account
        self.app = Celery("orchestrator", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
        self.decided_at: dict[str, str] = {}
        self.sent: dict[str, tuple[float, AsyncResult | None]] = {}

    def place(self, wish: Wish) -> None:
        # When we decided, not when somebody read the message: one that has waited too long is not sent.
        decided_at = self.decided_at.setdefault(wish.intent_id, datetime.now(UTC).isoformat())
        arguments = {"intent_id": wish.intent_id, "account": self.account, "side": wish.side, "strategy": STRATEGY}
        arguments |= {"submitted_at": decided_at, **wish.arguments}
        self.sent[wish.intent_id] = time.monotonic(), self.send("orders.submit_order", arguments)

    def ask(self, wish: Wish) -> Answer | None:
        from redis.exceptions import RedisError

        sent_at, result = self.sent[wish.intent_id]
        try:
            told = result.result if result is not None and result.ready() else None
        except RedisError:
            told = None
        if told is None:
            if time.monotonic() - sent_at > REPEAT_SECONDS:
                self.place(wish)
            return None
        if isinstance(told, Exception):  # malformed arguments: InvalidIntent, and nothing was recorded
            return Answer("DENIED", Decimal(0), str(told))
        self.place(wish)  # for the next look
        return Answer(told["status"], Decimal(told["filled_quantity"]), told["reason"])

    def cancel(self, wish: Wish, reason: str) -> None:
        arguments = {"account": self.account, "intent_id": wish.intent_id, "requested_by": STRATEGY, "reason": reason}
        self.send("orders.cancel_order", arguments)

    def left_over(self) -> list[Wish]:
        return []  # it would have to keep its wishes itself

    def send(self, task: str, arguments: dict[str, str]) -> AsyncResult | None:
        from kombu.exceptions import OperationalError

        try:
            # Answers are kept, for an hour, only where they are asked for.
            return self.app.send_task(task, kwargs=arguments, queue="trading", ignore_result=False)
        except OperationalError as error:
            log.warning("the broker does not answer, the message is repeated later: %s", error)
            return None


# -- The bot -------------------------------------------------------------------------------------------------------


@dataclass
class Live:
    """A wish whose fate is not sealed yet."""

    wish: Wish
    symbol: str
    since: float
    cancel_asked: bool = False


class TradingOrchestrator:
    """Turns signals into orders and keeps account of what became of them."""

    def __init__(self, desk: Desk, choice: random.Random) -> None:
        self.desk = desk
        self.choice = choice
        self.name = f"{STRATEGY}-{datetime.now(UTC):%Y%m%d-%H%M%S}"  # an intent id is never used twice
        self.count = 0
        self.live = [Live(wish, wish.arguments["symbol"], time.monotonic()) for wish in desk.left_over()]
        self.positions: dict[str, Decimal] = defaultdict(Decimal)  # what we have bought less what we have sold
        self.left_alone_until: dict[str, float] = {}

    def act(self, heard: Signal) -> None:
        """Send an order for a signal, unless the symbol is left alone for now."""
        if time.monotonic() < self.left_alone_until.get(heard.symbol, 0.0):
            return
        wish = self.decide(heard)
        self.desk.place(wish)
        self.live.append(Live(wish, heard.symbol, time.monotonic()))
        log.info("%s: %s %s", wish.intent_id, wish.side, " ".join(wish.arguments.values()))

    def decide(self, heard: Signal) -> Wish:
        """Which order a signal is worth: mostly one that waits for its price, now and then one that takes it."""
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
            away = Decimal("-0.002") if kind == "take" else Decimal("0.0005") * self.choice.randrange(1, 8)
            price = heard.price * (1 - away if side == "BUY" else 1 + away)
            time_in_force = "IOC" if kind == "take" else "GTC"
            arguments |= {"order_type": "LIMIT", "quantity": quantity, "price": rounded(price, 6)}
            arguments |= {"time_in_force": time_in_force}
        self.count += 1
        return Wish(f"{self.name}-{self.count}", side, arguments)

    def side(self, heard: Signal) -> str:
        """With the momentum, unless the position is large already: then back."""
        position = self.positions[heard.symbol] * heard.price
        if abs(position) > LARGEST_POSITION:
            return "SELL" if position > 0 else "BUY"
        return "BUY" if heard.momentum >= 0 else "SELL"

    def review(self) -> None:
        """Ask what became of every live order, and deal with the answer."""
        self.live = [live for live in self.live if not self.is_done(live)]

    def is_done(self, live: Live) -> bool:
        answer = self.desk.ask(live.wish)
        if answer is None:
            return False
        if answer.status in ("FILLED", "CANCELED", "EXPIRED"):
            self.positions[live.symbol] += answer.filled_quantity * (1 if live.wish.side == "BUY" else -1)
            log.info("%s: %s, filled %s", live.wish.intent_id, answer.status, f"{answer.filled_quantity.normalize():f}")
            return True
        if answer.status in ("DENIED", "REJECTED"):
            # Our gate or the exchange has refused it. The same again would be refused again: think, or wait.
            self.left_alone_until[live.symbol] = time.monotonic() + BREAK_SECONDS
            log.warning("%s: %s: %s", live.wish.intent_id, answer.status, answer.reason)
            return True
        if answer.status == "NOT_PLACED":
            log.warning("%s: too late, the moment is gone: %s", live.wish.intent_id, answer.reason)
            return True
        # CREATED, PENDING_NEW: on its way, or nobody knows. That is not a refusal: never send another in its place.
        is_resting = answer.status in ("NEW", "PARTIALLY_FILLED")
        if is_resting and not live.cancel_asked and time.monotonic() - live.since > REST_SECONDS:
            # A wish, too: it may be filled before the cancel arrives. The next look will tell.
            self.desk.cancel(live.wish, f"rested for {REST_SECONDS:.0f} s")
            live.cancel_asked = True
        return False

    def run(self, incoming: Iterator[Signal | None], *, pause: float, orders: int | None) -> None:
        """Until `orders` are sent and over; without a number until somebody stops us."""
        while orders is None or self.count < orders or self.live:
            heard = next(incoming)
            if heard is not None and (orders is None or self.count < orders):
                self.act(heard)
            time.sleep(pause * self.choice.uniform(0.8, 1.2))
            self.review()


def rounded(figure: Decimal, digits: int) -> str:
    """To so many significant digits, never more than was meant. The last step, to the exchange's grid, is not ours."""
    return f"{Context(prec=digits, rounding=ROUND_DOWN).create_decimal(figure):f}"


# -- The program ---------------------------------------------------------------------------------------------------


def read_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A small trading bot on the back office.")
    parser.add_argument("--account", default="demo", help="name of the exchange account")
    parser.add_argument("--by-message", action="store_true", help="send Celery messages, share nothing but the broker")
    parser.add_argument("--by-event", action="store_true", help="buy, sell when told of the fill, cancel on time-out")
    parser.add_argument("--prices", help="where to read prices; default: the account's EXCHANGE_..._REST_URL")
    parser.add_argument("--pause", type=float, default=2.5, help="seconds between two orders")
    parser.add_argument(
        "--rest", type=float, default=REST_SECONDS, help="cancel what rests for so many seconds (with --by-event)"
    )
    parser.add_argument("--orders", type=int, help="end after so many; default: never")
    parser.add_argument("--seed", type=int, help="the same choices again")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    options = read_arguments(argv)
    sys.path.insert(0, str(ROOT))
    run_env = ROOT / "var" / "run.env"  # while `make run` is running, where its parts are
    if run_env.exists():
        environ.Env.read_env(str(run_env))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    signal.signal(signal.SIGTERM, stop)

    prices = options.prices or os.environ.get(f"EXCHANGE_{options.account.upper().replace('-', '_')}_REST_URL")
    if not prices:
        print("orchestrator: say with --prices where to read prices, say https://api.binance.com", file=sys.stderr)
        return 2
    if options.by_event:
        import round_trips

        price = last_price(prices, SYMBOLS[0])
        return round_trips.run(
            options.account, symbol=SYMBOLS[0], price=price, rounds=options.orders or 1, rest_seconds=options.rest
        )
    choice = random.Random(options.seed)
    desk = MessageDesk(options.account) if options.by_message else ServiceDesk(options.account)
    bot = TradingOrchestrator(desk, choice)
    with suppress(KeyboardInterrupt):
        bot.run(signals(prices, choice), pause=options.pause, orders=options.orders)
    return 0


def stop(_signal_number: int, _frame: object) -> None:
    """At once, wherever we are: whatever was sent is in the back office's care."""
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
