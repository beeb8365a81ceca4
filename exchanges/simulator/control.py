"""The control plane: what a test or a rehearsal does to the exchange from outside. Loopback only, JSON in and out."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from exchanges.simulator.exchange import Settings
from exchanges.simulator.limits import LimitSettings
from exchanges.simulator.model import (
    Commission,
    EngineError,
    ExpiryReason,
    OrderLimit,
    Rates,
    SymbolStatus,
    text,
    units,
)

if TYPE_CHECKING:
    from exchanges.simulator.server import SimulatorServer

PREFIX = "/control"
LOOPBACK = ("127.", "::1", "::ffff:127.")
Body = Mapping[str, Any]
Handler = Callable[[Body], Any]


class ControlError(ValueError):
    """A control request that makes no sense; the text says why."""


def _text(body: Body, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise ControlError(f"{name}: a text is wanted")
    return value


def _units(body: Body, name: str) -> int:
    value = body.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ControlError(f"{name}: a decimal as text is wanted")
    try:
        return units(value)
    except (ValueError, ArithmeticError) as error:
        raise ControlError(f"{name}: {error}") from error


def _optional_units(body: Body, name: str) -> int | None:
    return None if body.get(name) is None else _units(body, name)


def _number(body: Body, name: str) -> float:
    value = body.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ControlError(f"{name}: a number is wanted")
    return float(value)


def _boolean(body: Body, name: str) -> bool:
    value = body.get(name)
    if not isinstance(value, bool):
        raise ControlError(f"{name}: true or false is wanted")
    return value


def _assign(target: Any, body: Body, kinds: Mapping[str, type]) -> None:
    """Set known attributes, each of its type; nothing is set when one is wrong."""
    for name, value in body.items():
        kind = kinds.get(name)
        if kind is None:
            raise ControlError(f"unknown key {name!r}")
        good = isinstance(value, int | float) if kind is float else isinstance(value, kind)
        if not good or (kind is not bool and isinstance(value, bool)):
            raise ControlError(f"{name}: {kind.__name__} is wanted")
    for name, value in body.items():
        setattr(target, name, value)


_TYPES: dict[str, type] = {"int": int, "float": float, "bool": bool}
_SETTING_TYPES = {item.name: _TYPES[str(item.type)] for item in dataclasses.fields(Settings)}
_LIMIT_TYPES = {item.name: _TYPES[str(item.type)] for item in dataclasses.fields(LimitSettings)}


class Control:
    """Answers below /control."""

    def __init__(self, server: SimulatorServer) -> None:
        self.server = server
        self.exchange = server.exchange
        self.handlers: dict[tuple[str, str], Handler] = {
            ("GET", "health"): lambda _body: {"ok": True},
            ("GET", "truth"): self.truth,
            ("POST", "price"): self.set_price,
            ("POST", "fill"): self.fill,
            ("POST", "cancel"): self.cancel,
            ("POST", "expire"): self.expire,
            ("POST", "deposit"): self.deposit,
            ("POST", "withdraw"): self.withdraw,
            ("POST", "lock"): self.lock,
            ("POST", "symbol"): self.set_symbol,
            ("POST", "accounts"): self.add_account,
            ("POST", "keys"): self.add_key,
            ("POST", "keys/revoke"): lambda body: self.set_key(body, active=False),
            ("POST", "keys/restore"): lambda body: self.set_key(body, active=True),
            ("POST", "permissions"): self.set_permissions,
            ("POST", "wipe"): self.wipe,
            ("POST", "clock"): self.set_clock,
            ("POST", "market"): self.set_market,
            ("POST", "tick"): self.tick,
            ("GET", "settings"): lambda _body: dataclasses.asdict(self.exchange.settings),
            ("POST", "settings"): self.set_settings,
            ("GET", "limits"): lambda _body: self.describe_limits(),
            ("POST", "limits"): self.set_limits,
            ("POST", "maintenance"): self.set_maintenance,
            ("GET", "faults"): lambda _body: self.exchange.faults.describe(),
            ("POST", "faults"): self.add_faults,
            ("DELETE", "faults"): lambda _body: {"removed": self.exchange.faults.clear()},
            ("GET", "streams"): lambda _body: self.server.websocket.describe(),
        }
        self.slow: dict[tuple[str, str], Callable[[Body], Awaitable[Any]]] = {
            ("POST", "reset"): self.reset,
            ("POST", "streams/shutdown"): self.server.websocket.announce_shutdown,
            ("POST", "streams/disconnect"): self.server.websocket.disconnect_all,
        }

    async def handle(self, request: web.BaseRequest, path: str) -> web.Response:
        if not (request.remote or "").startswith(LOOPBACK):
            return web.Response(status=404)
        try:
            raw = await request.read()
            body = orjson.loads(raw) if raw else {}
            return _answer(200, await self._dispatch(request.method, path.removeprefix(PREFIX).strip("/"), body))
        except orjson.JSONDecodeError as error:
            return _answer(400, {"error": f"body: {error}"})
        except ValueError as error:  # ControlError and FaultError among them
            return _answer(400, {"error": str(error)})
        except EngineError as error:
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
            raise ControlError("body: an object is wanted")
        try:
            return handler(body)
        finally:
            self.exchange.publish()

    # ------------------------------------------------------------------------------------------- orders

    def truth(self, body: Body) -> Any:
        """Orders ever accepted, trades, balances, and what was asked how often."""
        del body
        return self.exchange.engine.truth() | {
            "requests": dict(self.exchange.requests),
            "internal_errors": self.server.dispatcher.internal_errors,
            "server_time": self.exchange.clock.now_ms(),
        }

    def set_price(self, body: Body) -> Any:
        self.exchange.market.set_price(_text(body, "symbol"), _units(body, "price"))
        return {}

    def _order_id(self, body: Body) -> tuple[str, int]:
        """An order by `order_id`, or by `client_order_id` among the open orders (of `account`, if given)."""
        symbol = _text(body, "symbol")
        order_id = body.get("order_id")
        if isinstance(order_id, int):
            return symbol, order_id
        wanted = _text(body, "client_order_id")
        for account in [_text(body, "account")] if "account" in body else list(self.exchange.engine.accounts):
            for order in self.exchange.engine.open_orders(account, symbol):
                if order.client_order_id == wanted:
                    return symbol, order.order_id
        raise KeyError(f"open order {wanted}")

    def fill(self, body: Body) -> Any:
        symbol, order_id = self._order_id(body)
        trade = self.exchange.engine.fill(
            symbol, order_id, _optional_units(body, "quantity"), _optional_units(body, "price")
        )
        return {"trade_id": trade.trade_id, "price": text(trade.price), "quantity": text(trade.quantity)}

    def cancel(self, body: Body) -> Any:
        return {"status": self.exchange.engine.cancel_by_exchange(*self._order_id(body)).status.value}

    def expire(self, body: Body) -> Any:
        try:
            reason = ExpiryReason(body.get("reason", "EXCHANGE_CANCELED"))
        except ValueError as error:
            raise ControlError(f"reason: {error}") from error
        return {"status": self.exchange.engine.expire(*self._order_id(body), reason).status.value}

    # ----------------------------------------------------------------------------------------- accounts

    def deposit(self, body: Body) -> Any:
        self.exchange.engine.deposit(_text(body, "account"), _text(body, "asset"), _units(body, "amount"))
        return {}

    def withdraw(self, body: Body) -> Any:
        self.exchange.engine.withdraw(_text(body, "account"), _text(body, "asset"), _units(body, "amount"))
        return {}

    def lock(self, body: Body) -> Any:
        self.exchange.engine.external_lock(_text(body, "account"), _text(body, "asset"), _units(body, "delta"))
        return {}

    def add_account(self, body: Body) -> Any:
        """`account`, `balances` {asset: amount}, optionally `api_key` with `api_secret`, `maker`, `taker` rates."""
        name = _text(body, "account")
        if name in self.exchange.engine.accounts:
            raise ControlError(f"account: {name} is there already")
        rows = body.get("balances", {})
        if not isinstance(rows, dict):
            raise ControlError("balances: an object is wanted")
        balances = {asset: _units(rows, asset) for asset in rows}
        fields: dict[str, Any] = {}
        if "maker" in body or "taker" in body:
            rates = Rates(maker=_units(body, "maker"), taker=_units(body, "taker"))
            fields["commission"] = Commission(standard=rates)
        if "trade_group_id" in body:
            fields["trade_group_id"] = int(_number(body, "trade_group_id"))
        self.exchange.add_account(name, balances, **fields)
        if "api_key" in body:
            self.add_key(body)
        return {}

    def add_key(self, body: Body) -> Any:
        account = _text(body, "account")
        self.exchange.engine.account(account)
        try:
            key = self.exchange.add_key(
                _text(body, "api_key"),
                _text(body, "api_secret"),
                account,
                can_trade=body.get("can_trade", True) is True,
            )
        except ValueError as error:
            raise ControlError(f"api_secret: {error}") from error
        return {"kind": key.kind.value}

    def set_key(self, body: Body, *, active: bool) -> Any:
        self.exchange.set_key_active(self.exchange.keys[_text(body, "api_key")], active)
        return {}

    def set_permissions(self, body: Body) -> Any:
        """`can_trade`, `can_withdraw`, `can_deposit` of an account; `key_can_trade` with `api_key` of a key."""
        if "api_key" in body:
            self.exchange.keys[_text(body, "api_key")].can_trade = _boolean(body, "can_trade")
            return {}
        account = self.exchange.engine.account(_text(body, "account"))
        for name in ("can_trade", "can_withdraw", "can_deposit"):
            if name in body:
                setattr(account, name, _boolean(body, name))
        return {}

    # ---------------------------------------------------------------------------------------- exchange

    def set_symbol(self, body: Body) -> Any:
        try:
            status = SymbolStatus(_text(body, "status"))
        except ValueError as error:
            raise ControlError(f"status: {error}") from error
        self.exchange.engine.set_status(_text(body, "symbol"), status)
        return {}

    def wipe(self, body: Body) -> Any:
        del body
        self.exchange.wipe()
        return {}

    async def reset(self, body: Body) -> Any:
        """As if just started; WebSocket connections are closed."""
        del body
        await self.server.websocket.disconnect_all({})
        self.exchange.reset()
        self.server.dispatcher.internal_errors = 0
        return {}

    def set_clock(self, body: Body) -> Any:
        self.exchange.clock.offset_us = int(_number(body, "offset_ms") * 1000)
        return {"server_time": self.exchange.clock.now_ms()}

    def set_market(self, body: Body) -> Any:
        frozen = _boolean(body, "frozen")
        self.exchange.settings.frozen = frozen
        if frozen:
            self.exchange.market.freeze()
        else:
            self.exchange.market.thaw()
        return {}

    def tick(self, body: Body) -> Any:
        for _ in range(int(_number({"count": 1} | dict(body), "count"))):
            self.exchange.market.tick()
        return {}

    def set_settings(self, body: Body) -> Any:
        _assign(self.exchange.settings, body, _SETTING_TYPES)
        return dataclasses.asdict(self.exchange.settings)

    def describe_limits(self) -> Any:
        orders = {f"{row.interval_num}{row.interval}": row.limit for row in self.exchange.engine.order_limits}
        return dataclasses.asdict(self.exchange.limiter.settings) | {"orders": orders}

    def set_limits(self, body: Body) -> Any:
        """Sizes by name; `orders_10s` and `orders_day` for the unfilled order count. Counters start anew."""
        rest = dict(body)
        if "orders_10s" in rest or "orders_day" in rest:
            now = {row.interval: row.limit for row in self.exchange.engine.order_limits}
            sizes = {"SECOND": rest.pop("orders_10s", now["SECOND"]), "DAY": rest.pop("orders_day", now["DAY"])}
            self.exchange.engine.set_order_limits(
                OrderLimit(interval, 10 if interval == "SECOND" else 1, int(_number(sizes, interval)))
                for interval in sizes
            )
        _assign(self.exchange.limiter.settings, rest, _LIMIT_TYPES)
        self.exchange.limiter.reset()
        return self.describe_limits()

    def set_maintenance(self, body: Body) -> Any:
        self.exchange.maintenance = _boolean(body, "on")
        return {}

    def add_faults(self, body: Any) -> Any:
        return [rule.describe() for rule in self.exchange.faults.add(body)]


def _answer(status: int, body: Any) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")
