"""Make the benchmark's orders and send them both ways: by bare ccxt, and by message."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count, cycle
from typing import Any, NamedTuple

import ccxt
from celery import Celery

from tests.benchmarks import SUBMIT_TASK
from tests.benchmarks.figures import Sample

ACCOUNT = "bench"


class _Symbol(NamedTuple):
    base: str
    quantity: str  # worth about 50 USDT at the simulator's prices
    far_price: str  # a third below them, so the order rests


_SYMBOLS = (
    _Symbol("BTC", "0.001", "42000"),
    _Symbol("ETH", "0.02", "1700"),
    _Symbol("BNB", "0.1", "360"),
    _Symbol("SOL", "0.4", "98"),
    _Symbol("XRP", "90", "0.39"),
    _Symbol("DOGE", "500", "0.07"),
)
SYMBOLS = len(_SYMBOLS)


class Wanted(NamedTuple):
    base: str
    quantity: str
    price: str | None  # None: a market order


def wanted_orders() -> Iterator[Wanted]:
    """Yield buys without end over all symbols, in turn a resting one and one that fills at once."""
    for number in count():
        symbol = _SYMBOLS[number // 2 % len(_SYMBOLS)]
        yield Wanted(symbol.base, symbol.quantity, symbol.far_price if number % 2 == 0 else None)


def arguments_of(order: Wanted) -> dict[str, Any]:
    """Return the order's arguments for the back office, without intent id, account and side."""
    arguments: dict[str, Any] = {
        "symbol": f"{order.base}USDT",
        "order_type": "MARKET" if order.price is None else "LIMIT",
        "quantity": order.quantity,
        "strategy": "bench",
    }
    return arguments if order.price is None else {**arguments, "price": order.price}


def paced(orders: int, per_second: float | None, send: Callable[[], None]) -> None:
    """Call `send` on a fixed schedule, late calls at once, without a rate as fast as it returns."""
    begin = time.monotonic()
    for number in range(orders):
        if per_second is not None and (wait := begin + number / per_second - time.monotonic()) > 0:
            time.sleep(wait)
        send()


class BareExchange:
    """The floor: ccxt's own `create_order`, markets loaded, its limiter off, nothing stored."""

    def __init__(self, url: str, api_key: str, api_secret: str) -> None:
        self._client: Any = ccxt.binance(
            {
                "apiKey": api_key,
                "secret": api_secret,
                "enableRateLimit": False,
                "options": {"defaultType": "spot", "fetchCurrencies": False, "fetchMargins": False},
            }
        )
        self._client.urls["api"] = {"public": f"{url}/api/v3", "private": f"{url}/api/v3"}
        # Spot only, because the other markets' addresses lead elsewhere.
        self._client.options["fetchMarkets"] = {"types": ["spot"]}
        self._client.load_markets()
        self._orders = wanted_orders()

    def place_at(
        self, symbol: str, quantity: str, price: str, client_order_id: str, side: str = "BUY"
    ) -> dict[str, Any]:
        """Place one limit order and return the exchange's own answer."""
        order = {
            "symbol": symbol,
            "side": side,
            "type": "LIMIT",
            "timeInForce": "GTC",
            "quantity": quantity,
        }
        answer: dict[str, Any] = self._client.private_post_order(
            {
                **order,
                "price": price,
                "newClientOrderId": client_order_id,
                "newOrderRespType": "RESULT",
            }
        )
        return answer

    def create(
        self, symbol: str, order_type: str, side: str, quantity: str, price: str | None
    ) -> dict[str, Any]:
        """Place an order by ccxt's own method, given in the exchange's words."""
        base = symbol.removesuffix("USDT")
        answer: dict[str, Any] = self._client.create_order(
            f"{base}/USDT", order_type.lower(), side.lower(), quantity, price
        )
        return answer

    def place(self, orders: int, per_second: float | None) -> list[Sample]:
        samples: list[Sample] = []

        def send() -> None:
            order = next(self._orders)
            kind = "market" if order.price is None else "limit"
            began = time.time_ns()
            self.create(f"{order.base}USDT", kind, "buy", order.quantity, order.price)
            samples.append(Sample(began, 0, time.time_ns()))

        paced(orders, per_second, send)
        return samples


class Bot:
    """An orchestrator that shares only the broker with the back office."""

    def __init__(self, redis_url: str) -> None:
        self._app: Any = Celery("bot", broker=redis_url, fixups=[], set_as_current=False)
        self._orders = wanted_orders()
        self._numbers = count(1)

    def enqueue(
        self,
        orders: int,
        per_second: float | None,
        *,
        accounts: Sequence[str] = (ACCOUNT,),
        after_each: Callable[[int], None] = lambda _: None,
    ) -> dict[str, int]:
        """Return intent id -> when `send_task` was called, in nanoseconds since the epoch.

        The accounts take turns. `after_each` gets the number of orders that are enqueued.
        """
        called_at: dict[str, int] = {}
        turns = cycle(accounts)

        def send() -> None:
            order, intent_id = next(self._orders), f"bench-{next(self._numbers)}"
            own = {"intent_id": intent_id, "account": next(turns), "side": "BUY"}
            called_at[intent_id] = time.time_ns()
            self._app.send_task(SUBMIT_TASK, kwargs=own | arguments_of(order), queue="trading")
            after_each(len(called_at))

        paced(orders, per_second, send)
        return called_at

    def rest(self, account: str) -> tuple[str, int]:
        """Enqueue an order that rests. Return its intent id and when it was enqueued."""
        intent_id = f"bench-{next(self._numbers)}"
        own = {"intent_id": intent_id, "account": account, "side": "BUY"}
        resting = arguments_of(Wanted("BTC", "0.001", _SYMBOLS[0].far_price))
        called_at = time.time_ns()
        self._app.send_task(SUBMIT_TASK, kwargs=own | resting, queue="trading")
        return intent_id, called_at

    def cancel(self, account: str, intent_id: str) -> int:
        """Enqueue a cancel. Return when."""
        called_at = time.time_ns()
        given = {"account": account, "intent_id": intent_id}
        self._app.send_task("orders.cancel_order", kwargs=given, queue="cancel")
        return called_at

    def close(self) -> None:
        self._app.close()
