"""Fake an exchange without a network: the real gateway over the simulator's engine.

    exchange = FakeExchange({"USDT": "100000", "BTC": "1"})
    exchange.lose_answer("place", executed=True)  # the next placement is executed, its answer lost
    with exchange.installed():  # get_gateway(account) leads here, for every account and thread
        ...
    assert exchange.accepted("bo-...-1") == 1

Only ccxt and the sockets are missing, so it checks, refuses and matches like the simulator, and
`tests/contract` proves it. Its time is `exchanges.clock`'s plus `offset_ms`.
"""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

from exchanges import clock
from exchanges.binance import registry
from exchanges.binance.error_table import Transport
from exchanges.binance.gateway import Gateway
from exchanges.binance.http import HttpResult
from exchanges.binance.server_clock import ServerClock
from exchanges.credentials import Account
from exchanges.simulator.api.dispatch import Dispatcher
from exchanges.simulator.api.messages import Incoming
from exchanges.simulator.api.params import Params
from exchanges.simulator.engine.enums import SymbolStatus
from exchanges.simulator.engine.types import Order, to_decimal, units
from exchanges.simulator.exchange.clock import ServerClock as SimulatorClock
from exchanges.simulator.exchange.exchange import Exchange, Settings
from exchanges.simulator.exchange.rate_limits import LimitSettings
from exchanges.simulator.server.rest import ROUTES

# ccxt's raw method -> HTTP verb, path, and the gateway's name of the call.
METHODS = {
    "private_post_order": ("POST", "/api/v3/order", "place"),
    "private_delete_order": ("DELETE", "/api/v3/order", "cancel"),
    "private_delete_openorders": ("DELETE", "/api/v3/openOrders", "cancel_open_orders"),
    "private_get_order": ("GET", "/api/v3/order", "fetch_order"),
    "private_get_order_amendments": ("GET", "/api/v3/order/amendments", "fetch_amendments"),
    "private_get_openorders": ("GET", "/api/v3/openOrders", "fetch_open_orders"),
    "private_get_allorders": ("GET", "/api/v3/allOrders", "fetch_all_orders"),
    "private_get_mytrades": ("GET", "/api/v3/myTrades", "fetch_trades"),
    "private_get_account": ("GET", "/api/v3/account", "fetch_account"),
    "sapi_get_account_apirestrictions": (
        "GET",
        "/sapi/v1/account/apiRestrictions",
        "fetch_key_permissions",
    ),
    "public_get_exchangeinfo": ("GET", "/api/v3/exchangeInfo", "fetch_instruments"),
    "public_get_aggtrades": ("GET", "/api/v3/aggTrades", "fetch_last_trade"),
    "public_get_klines": ("GET", "/api/v3/klines", "fetch_candles"),
    "public_get_ticker_price": ("GET", "/api/v3/ticker/price", "fetch_last_prices"),
    "public_get_ticker_bookticker": (
        "GET",
        "/api/v3/ticker/bookTicker",
        "fetch_bids_and_asks",
    ),
    "public_get_time": ("GET", "/api/v3/time", "fetch_time"),
}
SECRET = "fake-secret"


@dataclass
class Fault:
    """Replaces the answer of the next `times` calls of one name."""

    call: str
    outcome: HttpResult
    executed: bool
    times: int


class FakeExchange:
    """One exchange for the gateways of any accounts and threads. Amounts are given as text."""

    def __init__(self, balances: Mapping[str, str] | None = None, *, frozen: bool = False) -> None:
        """Start every account with `balances`. The book stands still, and is empty if `frozen`."""
        self.balances = dict(balances) if balances is not None else {"USDT": "100000", "BTC": "1"}
        self.calls: list[tuple[str, dict[str, str]]] = []
        self._faults: list[Fault] = []
        self._hide_next = 0.0
        self.longest_page: int | None = None
        self.host = f"fake:{uuid4()}"
        self._lock = threading.RLock()
        # No order limits: a test places hundreds of orders in a second.
        self.simulator = _Simulator(
            Settings(frozen=frozen), limits=LimitSettings(request_weight=10**9), order_limits=()
        )
        self._dispatcher = Dispatcher(self.simulator)

    # gateways

    def gateway(self, account: Account) -> FakeGateway:
        with self._lock:
            if account.name not in self.simulator.engine.accounts:
                amounts = {asset: units(amount) for asset, amount in self.balances.items()}
                self.simulator.add_account(account.name, amounts)
                self.simulator.add_key(account.name, SECRET, account.name)
        return FakeGateway(account, self)

    @contextmanager
    def installed(self) -> Iterator[FakeExchange]:
        """Lead every `get_gateway` here within the block."""
        with registry.install(self.gateway):
            yield self

    # faults

    def lose_answer(self, call: str, *, executed: bool, times: int = 1) -> None:
        """Let the request leave and lose its answer."""
        self._fail(
            call,
            HttpResult(Transport.LOST, "no complete answer from the exchange"),
            executed,
            times,
        )

    def refuse_connection(self, call: str, *, times: int = 1) -> None:
        self._fail(
            call, HttpResult(Transport.UNSENT, "no connection to the exchange"), False, times
        )

    def answer(
        self,
        call: str,
        status: int,
        code: int | None = None,
        text: str = "",
        *,
        executed: bool = False,
        retry_after: float | None = None,
        times: int = 1,
    ) -> None:
        """Answer with this status and error. Without a code the body isn't JSON."""
        body = None if code is None else {"code": code, "msg": text}
        outcome = HttpResult(
            Transport.ANSWERED,
            text or f"HTTP {status} with a body that is not JSON",
            status,
            body=body,
            is_json=code is not None,
            code=code,
            retry_after=retry_after,
        )
        self._fail(call, outcome, executed, times)

    def answer_body(self, call: str, body: Any, *, executed: bool = False, times: int = 1) -> None:
        """Answer 200 with this body."""
        outcome = HttpResult(Transport.ANSWERED, "", 200, body=body, is_json=True)
        self._fail(call, outcome, executed, times)

    def _fail(self, call: str, outcome: HttpResult, executed: bool, times: int) -> None:
        assert call in {name for _, _, name in METHODS.values()}
        with self._lock:
            self._faults.append(Fault(call, outcome, executed, times))

    # events at the exchange

    @property
    def offset_ms(self) -> int:
        """Return how far the exchange's clock is ahead of ours."""
        return self.simulator.clock.offset_us // 1000

    @offset_ms.setter
    def offset_ms(self, value: int) -> None:
        self.simulator.clock.offset_us = value * 1000

    def fill(
        self, client_order_id: str, quantity: str | None = None, price: str | None = None
    ) -> None:
        """Trade against an open order, in full or this quantity."""
        order = self._order(client_order_id)
        with self._lock:
            self.simulator.engine.fill(
                order.symbol,
                order.order_id,
                None if quantity is None else units(quantity),
                None if price is None else units(price),
            )

    def cancel(self, client_order_id: str) -> None:
        """Cancel it like its owner at another screen."""
        order = self._order(client_order_id)
        with self._lock:
            self.simulator.engine.cancel_by_exchange(order.symbol, order.order_id)

    def place_by_hand(self, account: Account, client_order_id: str, **changes: str) -> str:
        """Place an order past our back office, by default a resting buy. Return its number."""
        order = {
            "symbol": "BTCUSDT",
            "side": "BUY",
            "type": "LIMIT",
            "timeInForce": "GTC",
            "quantity": "0.01",
            "price": "50000",
            **changes,
        }
        self.gateway(account)
        sent = {**order, "newClientOrderId": client_order_id}
        sent["timestamp"] = str(clock.now_ms() + self.offset_ms)
        with self._lock:
            result = self._dispatched(account.name, "POST", "/api/v3/order", sent)
        assert result.code is None, result
        return str(result.body["orderId"])

    def amend_by_hand(self, client_order_id: str, quantity: str, new_client_order_id: str) -> None:
        """Reduce an open order past our back office: it gets another client order id."""
        order = self._order(client_order_id)
        with self._lock:
            self.simulator.engine.amend(
                order.account_id,
                order.symbol,
                units(quantity),
                order_id=order.order_id,
                new_client_order_id=new_client_order_id,
            )

    def expire(self, client_order_id: str) -> None:
        order = self._order(client_order_id)
        with self._lock:
            self.simulator.engine.expire(order.symbol, order.order_id)

    def hide(self, client_order_id: str, seconds: float) -> None:
        """Hide this order from queries and cancels for this long."""
        with self._lock:
            self.simulator.hide(self._order(client_order_id), seconds)

    def hide_next(self, seconds: float) -> None:
        """Hide the next placed order from queries and cancels for this long."""
        self._hide_next = seconds

    def thaw(self) -> None:
        """Quote a frozen book."""
        with self._lock:
            self.simulator.market.thaw()

    def set_price(self, symbol: str, price: str) -> None:
        """Set the last price. The quotes follow, and orders that it reaches are filled."""
        with self._lock:
            self.simulator.market.set_price(symbol, units(price))

    def set_status(self, symbol: str, status: str) -> None:
        with self._lock:
            self.simulator.engine.set_status(symbol, SymbolStatus(status))

    def revoke_key(self, account_name: str) -> None:
        self.simulator.set_key_active(self.simulator.keys[account_name], False)

    def wipe(self) -> None:
        """Wipe everything like a testnet: no orders, no trades, initial balances."""
        with self._lock:
            self.simulator.wipe()

    # the truth at the exchange

    def accepted(self, client_order_id: str) -> int:
        """Return the number of orders ever accepted under this id."""
        counts = (
            account["accepted_by_client_order_id"].get(client_order_id, 0)
            for account in self.simulator.engine.truth()["accounts"].values()
        )
        return sum(int(count) for count in counts)

    def status(self, client_order_id: str) -> str | None:
        """Return the exchange's word for the order's state, None if it was never accepted."""
        rows = [
            row
            for account in self.simulator.engine.truth()["accounts"].values()
            for row in account["orders"]
            if row["client_order_id"] == client_order_id
        ]
        return str(rows[-1]["status"]) if rows else None

    def balance(self, account: Account, asset: str) -> tuple[str, str]:
        """Return free and locked as decimal text."""
        free, locked = self.simulator.engine.balances(account.name).get(asset, (0, 0))
        return f"{to_decimal(free):f}", f"{to_decimal(locked):f}"

    def calls_of(self, name: str) -> list[dict[str, str]]:
        """Return the parameters of each request of that name that left, faults included."""
        return [parameters for call, parameters in self.calls if call == name]

    # inside

    def _order(self, client_order_id: str) -> Order:
        for name in self.simulator.engine.accounts:
            for symbol in self.simulator.engine.symbols:
                for order in self.simulator.engine.all_orders(name, symbol, limit=1000):
                    if order.client_order_id == client_order_id:
                        return order
        raise KeyError(client_order_id)

    def request(self, account_name: str, method: str, parameters: dict[str, str]) -> HttpResult:
        """Answer one request of a gateway: faults first, then the simulator's own dispatch."""
        verb, path, name = METHODS[method]
        with self._lock:
            fault = next((fault for fault in self._faults if fault.call == name), None)
            if fault is not None:
                fault.times -= 1
                if fault.times == 0:
                    self._faults.remove(fault)
            if fault is None or fault.outcome.transport is not Transport.UNSENT:
                self.calls.append((name, dict(parameters)))
            if fault is not None and not fault.executed:
                return fault.outcome
            outcome = self._dispatched(account_name, verb, path, parameters)
            if name == "place" and self._hide_next and outcome.code is None:
                seconds, self._hide_next = self._hide_next, 0.0
                self.hide(parameters["newClientOrderId"], seconds)
            return outcome if fault is None else fault.outcome

    def _dispatched(
        self, account_name: str, verb: str, path: str, parameters: dict[str, str]
    ) -> HttpResult:
        operation = ROUTES[(verb, path)]
        if self.longest_page is not None and "limit" in parameters:
            limit = min(int(parameters["limit"]), self.longest_page)
            parameters = {**parameters, "limit": str(limit)}
        payload = urlencode(parameters, quote_via=quote).encode()
        signed = {**parameters, "signature": hmac.digest(SECRET.encode(), payload, "sha256").hex()}
        reply = self._dispatcher.execute_now(
            Incoming(
                api="rest",
                ip="127.0.0.1",
                operation=operation,
                params=Params(signed if operation.signed else dict(parameters)),
                api_key=account_name,
                payload=payload,
            )
        )
        if reply.error is not None:
            return HttpResult(
                Transport.ANSWERED,
                reply.error.message,
                reply.status,
                body=reply.payload(),
                is_json=True,
                code=reply.error.code,
            )
        # Through text, so the caller shares no object with the engine.
        return HttpResult(
            Transport.ANSWERED, "", 200, body=json.loads(json.dumps(reply.body)), is_json=True
        )


class FakeGateway(Gateway):
    """A gateway whose wire is a `FakeExchange`."""

    def __init__(self, account: Account, exchange: FakeExchange) -> None:
        self.account_name = account.name
        self._account = account
        self._host = exchange.host
        self._wire = _FakeWire(account.name, exchange)
        self._clock = ServerClock()


class _FakeWire:
    def __init__(self, account_name: str, exchange: FakeExchange) -> None:
        self._account_name = account_name
        self._exchange = exchange

    def send(self, method: str, parameters: dict[str, str]) -> HttpResult:
        return self._exchange.request(self._account_name, method, parameters)

    def cleaned(self, text: str) -> str:
        return text

    def close(self) -> None:
        """Do nothing, because nothing is open."""


class _Clock(SimulatorClock):
    """Our clock, which tests may replace, in microseconds."""

    def now_us(self) -> int:
        return clock.now_ms() * 1000 + self.offset_us


class _Simulator(Exchange):
    def _build(self) -> None:
        self.clock = _Clock()
        super()._build()
