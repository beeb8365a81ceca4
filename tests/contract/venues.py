"""Steer the two exchanges that run the same scenarios alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from exchanges.binance.gateway import Gateway
from exchanges.models import ExchangeAccount
from tests.fakes import FakeExchange
from tests.harness.simulator import Simulator

ACCOUNT = "main"
PATHS = {
    "place": ("POST", "/api/v3/order"),
    "cancel": ("DELETE", "/api/v3/order"),
    "fetch_order": ("GET", "/api/v3/order"),
    "fetch_open_orders": ("GET", "/api/v3/openOrders"),
    "fetch_all_orders": ("GET", "/api/v3/allOrders"),
    "fetch_trades": ("GET", "/api/v3/myTrades"),
    "fetch_account": ("GET", "/api/v3/account"),
}


class Venue(Protocol):
    """An exchange with one account of 100,000 USDT and 1 BTC, an empty book, and its gateway."""

    gateway: Gateway

    def fill(self, client_order_id: str, quantity: str | None = None) -> None: ...

    def cancel(self, client_order_id: str) -> None: ...

    def expire(self, client_order_id: str) -> None: ...

    def hide_next(self, seconds: float) -> None:
        """Hide the next placed order from queries and cancels for this long."""

    def quote(self) -> None:
        """Fill the book around 60,000."""

    def lose_answer(self, call: str, *, executed: bool) -> None: ...

    def answer(self, call: str, status: int, code: int, text: str, *, executed: bool) -> None: ...

    def answer_garbage(self, call: str, *, executed: bool) -> None: ...

    def limit(self, call: str, retry_after: int) -> None: ...

    def set_clock_offset(self, milliseconds: int) -> None: ...

    def set_status(self, symbol: str, status: str) -> None: ...

    def revoke_key(self) -> None: ...

    def accepted(self, client_order_id: str) -> int: ...


@dataclass
class FakeVenue:
    exchange: FakeExchange
    account: ExchangeAccount

    def __post_init__(self) -> None:
        self.gateway: Gateway = self.exchange.gateway(self.account)

    def fill(self, client_order_id: str, quantity: str | None = None) -> None:
        self.exchange.fill(client_order_id, quantity)

    def cancel(self, client_order_id: str) -> None:
        self.exchange.cancel(client_order_id)

    def expire(self, client_order_id: str) -> None:
        self.exchange.expire(client_order_id)

    def hide_next(self, seconds: float) -> None:
        self.exchange.hide_next(seconds)

    def quote(self) -> None:
        self.exchange.thaw()
        self.exchange.set_price("BTCUSDT", "60000")

    def lose_answer(self, call: str, *, executed: bool) -> None:
        self.exchange.lose_answer(call, executed=executed)

    def answer(self, call: str, status: int, code: int, text: str, *, executed: bool) -> None:
        self.exchange.answer(call, status, code, text, executed=executed)

    def answer_garbage(self, call: str, *, executed: bool) -> None:
        self.exchange.answer_body(call, {}, executed=executed)

    def limit(self, call: str, retry_after: int) -> None:
        self.exchange.answer(
            call, 429, -1003, "Too much request weight used.", retry_after=retry_after
        )

    def set_clock_offset(self, milliseconds: int) -> None:
        self.exchange.offset_ms = milliseconds

    def set_status(self, symbol: str, status: str) -> None:
        self.exchange.set_status(symbol, status)

    def revoke_key(self) -> None:
        self.exchange.revoke_key(self.account.name)

    def accepted(self, client_order_id: str) -> int:
        return self.exchange.accepted(client_order_id)


@dataclass
class SimulatorVenue:
    simulator: Simulator
    gateway: Gateway

    def __post_init__(self) -> None:
        self.control = self.simulator.control

    def fill(self, client_order_id: str, quantity: str | None = None) -> None:
        self.control.fill("BTCUSDT", client_order_id=client_order_id, quantity=quantity)

    def cancel(self, client_order_id: str) -> None:
        self.control.cancel("BTCUSDT", client_order_id=client_order_id)

    def expire(self, client_order_id: str) -> None:
        self.control.expire("BTCUSDT", client_order_id=client_order_id)

    def hide_next(self, seconds: float) -> None:
        self._fault("place", "none", invisible_for=seconds)

    def quote(self) -> None:
        self.control.unfreeze()
        self.control.set_price("BTCUSDT", "60000")

    def lose_answer(self, call: str, *, executed: bool) -> None:
        self._fault(call, "reset_after" if executed else "reset_before")

    def answer(self, call: str, status: int, code: int, text: str, *, executed: bool) -> None:
        self._fault(
            call, "respond", status=status, body={"code": code, "msg": text}, execute=executed
        )

    def answer_garbage(self, call: str, *, executed: bool) -> None:
        self._fault(call, "garbage", kind="object", execute=executed)

    def limit(self, call: str, retry_after: int) -> None:
        self._fault(call, "rate_limited", retry_after=retry_after)

    def set_clock_offset(self, milliseconds: int) -> None:
        self.control.set_clock_offset(milliseconds)

    def set_status(self, symbol: str, status: str) -> None:
        self.control.set_symbol_status(symbol, status)

    def revoke_key(self) -> None:
        self.control.revoke_key(self.simulator.api_key)

    def accepted(self, client_order_id: str) -> int:
        return self.control.truth().accepted(client_order_id)

    def _fault(self, call: str, action: str, **keys: Any) -> None:
        method, path = PATHS[call]
        self.control.faults.add(
            action, match={"api": "rest", "method": method, "path": path}, **keys
        )
