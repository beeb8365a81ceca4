"""Serve one WebSocket API connection: its session, its requests and its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from exchanges.simulator import errors
from exchanges.simulator.api.dispatch import Dispatcher
from exchanges.simulator.api.messages import MICROSECONDS, MILLISECONDS, Incoming, Reply, refusal
from exchanges.simulator.api.operations import (
    WEBSOCKET_NAMES,
    Call,
    Operation,
    Security,
    Step,
    operation,
)
from exchanges.simulator.api.params import Params
from exchanges.simulator.errors import ApiError
from exchanges.simulator.exchange.keys import ApiKey, KeyKind, websocket_payload
from exchanges.simulator.server.rest import OPERATIONS, reset_transport
from exchanges.simulator.server.user_streams import EventStreams, Outbox
from exchanges.simulator.server.ws_frames import (
    frame_identity,
    frame_method,
    frame_params,
    read_frame,
    wants_limits,
)

MAX_MESSAGE_BYTES = 256 * 1024
SESSION_WEIGHT = 2
CLOSE_SECONDS = 2.0
METHODS: Mapping[str, Operation] = {item.ws_method: item for item in OPERATIONS if item.ws_method}


@dataclass(slots=True)
class Session:
    """Remember the key that logged on to a connection."""

    key: ApiKey | None = None
    authorized_ms: int | None = None


class Connection:
    """Serve one WebSocket API connection."""

    def __init__(self, dispatcher: Dispatcher, request: web.BaseRequest, query: str) -> None:
        self.dispatcher = dispatcher
        self.exchange = dispatcher.exchange
        self.request = request
        self.ip = request.remote or ""
        self.connected_ms = self.exchange.clock.now_ms()
        options = parse_qs(query)
        self.unit = _time_unit(options.get("timeUnit", ["MILLISECOND"])[0])
        self.return_rate_limits = options.get("returnRateLimits", ["true"])[0].lower() != "false"
        self.session = Session()
        self.socket = web.WebSocketResponse(
            autoping=False, max_msg_size=MAX_MESSAGE_BYTES, compress=False
        )
        self.outbox = Outbox(self.socket, self.reset, self.drop)
        self.streams = EventStreams(self.exchange, self.outbox, self.unit)
        self.closed = asyncio.Event()
        self._pings: dict[bytes, float] = {}
        self._message_second = (0, 0)
        self._methods = self._session_methods()

    # ------------------------------------------------------------------------------------- lifetime

    async def run(self) -> web.WebSocketResponse:
        await self.socket.prepare(self.request)
        helpers = [asyncio.create_task(self.outbox.run()), asyncio.create_task(self._keep_alive())]
        try:
            while not self.socket.closed:
                message = await self.socket.receive()
                if message.type in (
                    WSMsgType.CLOSE,
                    WSMsgType.CLOSING,
                    WSMsgType.CLOSED,
                    WSMsgType.ERROR,
                ):
                    break
                if not self.outbox.half_open:
                    await self._receive(message.type, message.data)
        finally:
            self.closed.set()
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
        return self.socket

    async def _receive(self, kind: WSMsgType, data: Any) -> None:
        if self._too_many_messages():
            await self.close(WSCloseCode.POLICY_VIOLATION, b"Too many requests")
        elif kind is WSMsgType.PING:
            await self.socket.pong(data)
        elif kind is WSMsgType.PONG:
            self._pongs(bytes(data))
        elif kind is WSMsgType.TEXT:
            if self.exchange.faults.rules or self.exchange.settings.latency_ms:
                self.exchange.spawn(self._answer(data))
            else:
                await self._answer(data)
        else:
            self._send(
                {"id": None, "status": 400, "error": {"code": -1135, "msg": "Invalid JSON Request"}}
            )

    def _too_many_messages(self) -> bool:
        limit = self.exchange.limiter.settings.ws_messages_per_second
        if not limit:
            return False
        second = self.exchange.clock.now_us() // 1_000_000
        count = self._message_second[1] + 1 if self._message_second[0] == second else 1
        self._message_second = (second, count)
        return count > limit

    async def _keep_alive(self) -> None:
        """Send pings, and end the connection without a pong or at the end of its life."""
        loop = asyncio.get_running_loop()
        started = last_ping = loop.time()
        while True:
            settings = self.exchange.settings
            await asyncio.sleep(
                min(settings.ping_seconds, settings.pong_seconds, settings.connection_seconds, 1.0)
                / 4
            )
            now = loop.time()
            if now - started >= settings.connection_seconds:
                await self.close(WSCloseCode.GOING_AWAY, b"")
                return
            if self._pings and now - next(iter(self._pings.values())) >= settings.pong_seconds:
                await self.close(WSCloseCode.POLICY_VIOLATION, b"Pong timeout")
                return
            if now - last_ping >= settings.ping_seconds:
                last_ping = now
                payload = str(self.exchange.clock.now_ms()).encode()
                self._pings.setdefault(payload, now)
                if not self.outbox.half_open:
                    await self.socket.ping(payload)

    def _pongs(self, payload: bytes) -> None:
        """Handle a pong.

        A pong answers its own ping and all earlier ones. An unsolicited pong answers none.
        """
        if payload not in self._pings:
            return
        for sent in list(self._pings):
            del self._pings[sent]
            if sent == payload:
                return

    async def close(self, code: int, message: bytes) -> None:
        await self.outbox.flush()
        try:
            await asyncio.wait_for(self.socket.close(code=code, message=message), CLOSE_SECONDS)
        except TimeoutError:
            self.reset()  # it doesn't read, or doesn't close its side
        else:
            self.drop()

    def reset(self) -> None:
        reset_transport(self.request.transport)

    def drop(self) -> None:
        if self.request.transport is not None:
            self.request.transport.close()

    async def gone(self) -> None:
        await self.closed.wait()

    # ------------------------------------------------------------------------------------ answering

    async def _answer(self, text: str) -> None:
        identity: Any = None
        try:
            frame = read_frame(text)
            identity = frame_identity(frame)
            method = frame_method(frame)
            values = frame_params(frame)
        except ApiError as error:
            self._send(self._frame(identity, refusal(error), show_limits=self.return_rate_limits))
            return
        self._drop_revoked_session()
        reply = await self._ask(method, values)
        if reply is None:
            return
        show = wants_limits(values, self.return_rate_limits)
        if reply.raw is not None and not isinstance(reply.body, dict | list):
            self.outbox.put(reply.raw)
        else:
            self._send(self._frame(identity, reply, show_limits=show))
        if reply.status == 418 and not self.socket.closed:
            await self.close(WSCloseCode.POLICY_VIOLATION, b"IP banned")

    async def _ask(self, method: str, values: dict[str, str]) -> Reply | None:
        found = self._methods.get(method) or METHODS.get(method)
        if found is None:
            return refusal(errors.unsupported_operation())
        try:
            if values.get("returnRateLimits", "true").lower() not in ("true", "false"):
                raise errors.illegal_characters("returnRateLimits", "^(true|false)$")
        except ApiError as error:
            return refusal(error)
        payload = websocket_payload(values) if "signature" in values else b""
        known = {name: value for name, value in values.items() if name not in WEBSOCKET_NAMES}
        logged_on = self.session.key is not None
        incoming = Incoming(
            api="ws",
            ip=self.ip,
            operation=found,
            params=Params(known),
            api_key=values.get("apiKey") if logged_on else values.get("apiKey", ""),
            payload=payload,
            unit=self.unit,
            session_key=self.session.key,
        )
        return await self.dispatcher.answer(incoming, _ConnectionWire(self))

    def _frame(self, identity: Any, reply: Reply, *, show_limits: bool) -> dict[str, Any]:
        frame: dict[str, Any] = {"id": identity, "status": reply.status}
        error = reply.error
        if error is not None:
            frame["error"] = {"code": error.code, "msg": error.message}
            if error.data is not None:
                frame["error"]["data"] = error.data
        elif reply.status == 200:
            frame["result"] = reply.body
        else:
            frame["error"] = reply.body
        if show_limits:
            weight = self.exchange.limiter.weight_row(self.ip, self.exchange.clock.now_us())
            frame["rateLimits"] = [*(reply.orders or ()), weight]
        return frame

    def _send(self, frame: dict[str, Any]) -> None:
        self.outbox.put(orjson.dumps(frame).decode())

    # -------------------------------------------------------------------------------------- session

    def _session_methods(self) -> dict[str, Operation]:
        def method(
            name: str, names: str, prepare: Callable[[Call], Step], security: Security
        ) -> Operation:
            return operation(f"WS {name}", name, SESSION_WEIGHT, names, prepare, security)

        none, user = Security.NONE, Security.USER_STREAM
        listed = (
            method("session.logon", "", self._logon, user),
            method("session.status", "", lambda _call: self._status, none),
            method("session.logout", "", lambda _call: self._logout, none),
            method("session.subscriptions", "", lambda _call: self.streams.describe, none),
            method("userDataStream.subscribe", "", lambda _call: self._subscribe_session, none),
            method("userDataStream.subscribe.signature", "", self._subscribe_signed, user),
            method("userDataStream.unsubscribe", "subscriptionId", self._unsubscribe, none),
        )
        return {item.ws_method: item for item in listed}

    def _logon(self, call: Call) -> Step:
        def step() -> Any:
            key = call.key
            if key is None or key.kind is not KeyKind.ED25519:
                raise errors.rejected_key()
            self.session = Session(key, call.now_us() // self.unit)
            return self._status()

        return step

    def _status(self) -> dict[str, Any]:
        key = self.session.key
        return {
            "apiKey": None if key is None else key.key,
            "authorizedSince": self.session.authorized_ms,
            "connectedSince": self.connected_ms * 1000 // self.unit,
            "returnRateLimits": self.return_rate_limits,
            "serverTime": self.exchange.clock.now_us() // self.unit,
            "userDataStream": bool(self.streams.accounts()),
        }

    def _logout(self) -> dict[str, Any]:
        self.streams.end_session()
        self.session = Session()
        return self._status()

    def _subscribe_session(self) -> dict[str, Any]:
        key = self.session.key
        if key is None:
            raise errors.rejected_key()
        return self.streams.subscribe(key, in_session=True)

    def _subscribe_signed(self, call: Call) -> Step:
        def step() -> Any:
            assert call.key is not None  # signed
            return self.streams.subscribe(call.key, in_session=False)

        return step

    def _unsubscribe(self, call: Call) -> Step:
        number = call.params.integer("subscriptionId")
        return lambda: self.streams.unsubscribe(number)

    def _drop_revoked_session(self) -> None:
        """Revoke a session whose key became invalid.

        The exchange sends this without a request (id null), at the next request of the client.
        """
        key = self.session.key
        if key is not None and not key.active:
            self.session = Session()
            self._send(self._frame(None, refusal(errors.rejected_key()), show_limits=False))

    def key_changed(self, key: ApiKey) -> None:
        if not key.active:
            self.streams.end_key(key)


class _ConnectionWire:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def reset(self) -> None:
        self._connection.reset()

    def close(self) -> None:
        self._connection.drop()

    async def gone(self) -> None:
        await self._connection.gone()


def _time_unit(name: str) -> int:
    if name.upper() == "MILLISECOND":
        return MILLISECONDS
    if name.upper() == "MICROSECOND":
        return MICROSECONDS
    raise ApiError(
        -1194, "Invalid value for time unit; expected either MICROSECOND or MILLISECOND."
    )
