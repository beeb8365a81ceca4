"""Serve the control plane: tests and rehearsals steer the exchange through it.

It answers on loopback only, in JSON.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

from exchanges.simulator.api.dispatch import Dispatcher
from exchanges.simulator.engine.enums import ExpiryReason
from exchanges.simulator.engine.types import Commission, EngineError, OrderLimit, Rates, text
from exchanges.simulator.errors import ApiError
from exchanges.simulator.exchange.exchange import Settings
from exchanges.simulator.exchange.rate_limits import LimitSettings
from exchanges.simulator.server.control_fields import (
    Body,
    ControlError,
    assign,
    optional_units,
    read_boolean,
    read_number,
    read_text,
    read_units,
)
from exchanges.simulator.server.control_hands import Hands
from exchanges.simulator.server.control_symbols import SymbolControl
from exchanges.simulator.server.websocket import WebSocketApi

PREFIX = "/control"
LOOPBACK = ("127.", "::1", "::ffff:127.")
Handler = Callable[[Body], Any]


_TYPES: dict[str, type] = {"int": int, "float": float, "bool": bool}
_SETTING_TYPES = {item.name: _TYPES[str(item.type)] for item in dataclasses.fields(Settings)}
_LIMIT_TYPES = {item.name: _TYPES[str(item.type)] for item in dataclasses.fields(LimitSettings)}


class Control:
    """Answer requests below /control."""

    def __init__(self, dispatcher: Dispatcher, websocket: WebSocketApi) -> None:
        self.exchange = dispatcher.exchange
        self.dispatcher = dispatcher
        self.websocket = websocket
        self.handlers: dict[tuple[str, str], Handler] = {
            ("GET", "health"): lambda _body: {"ok": True},
            ("GET", "truth"): self.truth,
            ("POST", "price"): self.set_price,
            ("POST", "fill"): self.fill,
            ("POST", "cancel"): self.cancel,
            ("POST", "expire"): self.expire,
            ("POST", "archive"): self.archive,
            ("POST", "deposit"): self.deposit,
            ("POST", "withdraw"): self.withdraw,
            ("POST", "lock"): self.lock,
            ("POST", "accounts"): self.add_account,
            ("POST", "keys"): self.add_key,
            ("POST", "keys/revoke"): lambda body: self.set_key(body, active=False),
            ("POST", "keys/restore"): lambda body: self.set_key(body, active=True),
            ("POST", "permissions"): self.set_permissions,
            ("POST", "clock"): self.set_clock,
            ("POST", "market"): self.set_market,
            ("POST", "tick"): self.tick,
            ("GET", "settings"): lambda _body: dataclasses.asdict(self.exchange.settings),
            ("POST", "settings"): self.set_settings,
            ("GET", "limits"): lambda _body: self.describe_limits(),
            ("POST", "limits"): self.set_limits,
            ("POST", "maintenance"): self.set_maintenance,
            ("GET", "lags"): lambda _body: self.exchange.describe_lags(),
            ("POST", "lags"): self.set_lags,
            ("GET", "faults"): lambda _body: self.exchange.faults.describe(),
            ("POST", "faults"): self.add_faults,
            ("DELETE", "faults"): lambda _body: {"removed": self.exchange.faults.clear()},
            ("GET", "streams"): lambda _body: self.websocket.describe(),
            **Hands(self.exchange).handlers(),
            **SymbolControl(self.exchange).handlers(),
        }
        self.slow: dict[tuple[str, str], Callable[[Body], Awaitable[Any]]] = {
            ("POST", "reset"): self.reset,
            ("POST", "wipe"): self.wipe,
            ("POST", "streams/shutdown"): self.websocket.announce_shutdown,
            ("POST", "streams/disconnect"): self.websocket.disconnect_all,
        }

    async def handle(self, request: web.BaseRequest, path: str) -> web.Response:
        if not (request.remote or "").startswith(LOOPBACK):
            return web.Response(status=404)
        try:
            raw = await request.read()
            body = orjson.loads(raw) if raw else {}
            return _answer(
                200,
                await self._dispatch(request.method, path.removeprefix(PREFIX).strip("/"), body),
            )
        except orjson.JSONDecodeError as error:
            return _answer(400, {"error": f"body: {error}"})
        except ValueError as error:  # includes ControlError and FaultError
            return _answer(400, {"error": str(error)})
        except (EngineError, ApiError) as error:
            return _answer(400, {"error": error.message, "code": error.code})
        except KeyError as error:
            return _answer(404, {"error": f"unknown: {error.args[0]}"})

    async def _dispatch(self, method: str, name: str, body: Any) -> Any:
        if method == "DELETE" and name.startswith("faults/") and name[7:].isdecimal():
            return {"removed": self.exchange.faults.clear(int(name[7:]))}
        slow = self.slow.get((method, name))
        if slow is not None:
            return await slow(body)
        handler = self.handlers.get((method, name))
        if handler is None:
            raise KeyError(f"{method} {PREFIX}/{name}")
        if name != "faults" and not isinstance(body, dict):
            raise ControlError("body: must be an object")
        try:
            return handler(body)
        finally:
            self.exchange.publish()

    # --------------------------------------------------------------------------------------- orders

    def truth(self, body: Body) -> Any:
        """Return all accepted orders, trades, balances and request counts."""
        del body
        return self.exchange.engine.truth() | {
            "requests": dict(self.exchange.requests),
            "internal_errors": self.dispatcher.internal_errors,
            "server_time": self.exchange.clock.now_ms(),
        }

    def set_price(self, body: Body) -> Any:
        self.exchange.market.set_price(read_text(body, "symbol"), read_units(body, "price"))
        return {}

    def _order_id(self, body: Body, *, closed: bool = False) -> tuple[str, int]:
        """Return (symbol, order id) of the order that the body names.

        The body has an `order_id`, or a `client_order_id` (of `account`, if given) of an open order
        or, if `closed`, of any order.
        """
        symbol = read_text(body, "symbol")
        order_id = body.get("order_id")
        if isinstance(order_id, int):
            return symbol, order_id
        wanted = read_text(body, "client_order_id")
        engine = self.exchange.engine
        for account in [read_text(body, "account")] if "account" in body else engine.accounts:
            orders = engine.open_orders(account, symbol)
            if closed:
                orders = engine.all_orders(account, symbol, limit=sys.maxsize)
            for order in reversed(orders):
                if order.client_order_id == wanted:
                    return symbol, order.order_id
        raise KeyError(f"order {wanted}" if closed else f"open order {wanted}")

    def fill(self, body: Body) -> Any:
        symbol, order_id = self._order_id(body)
        trade = self.exchange.engine.fill(
            symbol, order_id, optional_units(body, "quantity"), optional_units(body, "price")
        )
        return {
            "trade_id": trade.trade_id,
            "price": text(trade.price),
            "quantity": text(trade.quantity),
        }

    def cancel(self, body: Body) -> Any:
        return {
            "status": self.exchange.engine.cancel_by_exchange(*self._order_id(body)).status.value
        }

    def expire(self, body: Body) -> Any:
        try:
            reason = ExpiryReason(body.get("reason", "EXCHANGE_CANCELED"))
        except ValueError as error:
            raise ControlError(f"reason: {error}") from error
        return {"status": self.exchange.engine.expire(*self._order_id(body), reason).status.value}

    def archive(self, body: Body) -> Any:
        self.exchange.engine.archive(*self._order_id(body, closed=True))
        return {}

    # ------------------------------------------------------------------------------------- accounts

    def deposit(self, body: Body) -> Any:
        self.exchange.engine.deposit(
            read_text(body, "account"), read_text(body, "asset"), read_units(body, "amount")
        )
        return {}

    def withdraw(self, body: Body) -> Any:
        self.exchange.engine.withdraw(
            read_text(body, "account"), read_text(body, "asset"), read_units(body, "amount")
        )
        return {}

    def lock(self, body: Body) -> Any:
        self.exchange.engine.external_lock(
            read_text(body, "account"), read_text(body, "asset"), read_units(body, "delta")
        )
        return {}

    def add_account(self, body: Body) -> Any:
        """Add an account.

        The body has `account`, `balances` {asset: amount}, and optionally `api_key` with
        `api_secret` and the rates `maker` and `taker`.
        """
        name = read_text(body, "account")
        if name in self.exchange.engine.accounts:
            raise ControlError(f"account: {name} already exists")
        rows = body.get("balances", {})
        if not isinstance(rows, dict):
            raise ControlError("balances: must be an object")
        balances = {asset: read_units(rows, asset) for asset in rows}
        fields: dict[str, Any] = {}
        if "maker" in body or "taker" in body:
            rates = Rates(maker=read_units(body, "maker"), taker=read_units(body, "taker"))
            fields["commission"] = Commission(standard=rates)
        if "trade_group_id" in body:
            fields["trade_group_id"] = int(read_number(body, "trade_group_id"))
        self.exchange.add_account(name, balances, **fields)
        if "api_key" in body:
            self.add_key(body)
        return {}

    def add_key(self, body: Body) -> Any:
        account = read_text(body, "account")
        self.exchange.engine.account(account)
        try:
            key = self.exchange.add_key(
                read_text(body, "api_key"),
                read_text(body, "api_secret"),
                account,
                can_trade=body.get("can_trade", True) is True,
            )
        except ValueError as error:
            raise ControlError(f"api_secret: {error}") from error
        return {"kind": key.kind.value}

    def set_key(self, body: Body, *, active: bool) -> Any:
        self.exchange.set_key_active(self.exchange.keys[read_text(body, "api_key")], active)
        return {}

    def set_permissions(self, body: Body) -> Any:
        """Set permissions of an account or a key.

        The body has `account` with `can_trade`, `can_withdraw` or `can_deposit`, or `api_key` with
        `can_trade`.
        """
        if "api_key" in body:
            self.exchange.keys[read_text(body, "api_key")].can_trade = read_boolean(
                body, "can_trade"
            )
            return {}
        account = self.exchange.engine.account(read_text(body, "account"))
        for name in ("can_trade", "can_withdraw", "can_deposit"):
            if name in body:
                setattr(account, name, read_boolean(body, name))
        return {}

    # ------------------------------------------------------------------------------------- exchange

    async def wipe(self, body: Body) -> Any:
        """Reset as a testnet does, and end all WebSocket connections (`reset`: by TCP reset)."""
        self.exchange.wipe()
        return await self.websocket.disconnect_all(body)

    async def reset(self, body: Body) -> Any:
        """Return to the state after the start and close all WebSocket connections."""
        del body
        await self.websocket.disconnect_all({})
        self.exchange.reset()
        self.dispatcher.internal_errors = 0
        return {}

    def set_clock(self, body: Body) -> Any:
        self.exchange.clock.offset_us = int(read_number(body, "offset_ms") * 1000)
        return {"server_time": self.exchange.clock.now_ms()}

    def set_market(self, body: Body) -> Any:
        frozen = read_boolean(body, "frozen")
        self.exchange.settings.frozen = frozen
        if frozen:
            self.exchange.market.freeze()
        else:
            self.exchange.market.thaw()
        return {}

    def tick(self, body: Body) -> Any:
        for _ in range(int(read_number({"count": 1} | dict(body), "count"))):
            self.exchange.market.tick()
        return {}

    def set_settings(self, body: Body) -> Any:
        assign(self.exchange.settings, body, _SETTING_TYPES)
        return dataclasses.asdict(self.exchange.settings)

    def describe_limits(self) -> Any:
        orders = {
            f"{row.interval_num}{row.interval}": row.limit
            for row in self.exchange.engine.order_limits
        }
        return dataclasses.asdict(self.exchange.limiter.settings) | {"orders": orders}

    def set_limits(self, body: Body) -> Any:
        """Change limits by name and reset all counters.

        `orders_10s` and `orders_day` limit the unfilled orders.
        """
        rest = dict(body)
        if "orders_10s" in rest or "orders_day" in rest:
            now = {row.interval: row.limit for row in self.exchange.engine.order_limits}
            sizes = {
                "SECOND": rest.pop("orders_10s", now["SECOND"]),
                "DAY": rest.pop("orders_day", now["DAY"]),
            }
            self.exchange.engine.set_order_limits(
                OrderLimit(
                    interval, 10 if interval == "SECOND" else 1, int(read_number(sizes, interval))
                )
                for interval in sizes
            )
        assign(self.exchange.limiter.settings, rest, _LIMIT_TYPES)
        self.exchange.limiter.reset()
        return self.describe_limits()

    def set_lags(self, body: Body) -> Any:
        self.exchange.set_lags(body)
        return self.exchange.describe_lags()

    def set_maintenance(self, body: Body) -> Any:
        self.exchange.maintenance = read_boolean(body, "on")
        return {}

    def add_faults(self, body: Any) -> Any:
        return [rule.describe() for rule in self.exchange.faults.add(body)]


def _answer(status: int, body: Any) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")
