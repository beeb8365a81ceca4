"""Serve the WebSocket API: keep all connections and act on all of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import WSCloseCode, web

from exchanges.simulator.api.dispatch import Dispatcher
from exchanges.simulator.engine.events import Event
from exchanges.simulator.errors import ApiError
from exchanges.simulator.exchange.keys import ApiKey
from exchanges.simulator.server.ws_connection import Connection


class WebSocketApi:
    """Keep all connections of the WebSocket API."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self.exchange = dispatcher.exchange
        self.connections: set[Connection] = set()
        self.exchange.listeners.append(self._deliver)
        self.exchange.key_listeners.append(self._key_changed)
        self.exchange.ban_listeners.append(self._banned)

    async def handle(self, request: web.BaseRequest, query: str) -> web.StreamResponse:
        try:
            self.exchange.limiter.admit_connection(
                request.remote or "", self.exchange.clock.now_us()
            )
            if self.exchange.maintenance:
                return web.Response(status=503)
            connection = Connection(self.dispatcher, request, query)
        except ApiError as error:
            body = orjson.dumps({"code": error.code, "msg": error.message})
            return web.Response(status=error.status, body=body, content_type="application/json")
        self.connections.add(connection)
        try:
            return await connection.run()
        finally:
            self.connections.discard(connection)

    def _deliver(self, events: list[Event]) -> None:
        for connection in self.connections:
            connection.streams.deliver(events)

    def _key_changed(self, key: ApiKey) -> None:
        for connection in self.connections:
            connection.key_changed(key)

    def _banned(self, ip: str) -> None:
        """Disconnect a banned address after the answer that announces the ban."""
        for connection in self.connections:
            if connection.ip == ip:
                self.exchange.spawn(connection.close(WSCloseCode.POLICY_VIOLATION, b"IP banned"))

    def describe(self) -> list[dict[str, Any]]:
        return [
            {
                "ip": connection.ip,
                "connected_ms": connection.connected_ms,
                "account": None
                if connection.session.key is None
                else connection.session.key.account,
                "subscriptions": connection.streams.accounts(),
                "queued": connection.outbox.queued,
            }
            for connection in self.connections
        ]

    async def announce_shutdown(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send `serverShutdown` to every connection and close them after `seconds`, if given."""
        told = list(self.connections)
        now = self.exchange.clock.now_us()
        for connection in told:
            event = {"event": {"e": "serverShutdown", "E": now // connection.unit}}
            connection.outbox.put(orjson.dumps(event).decode())
        if body.get("seconds") is not None:

            async def later() -> None:
                await asyncio.sleep(float(body["seconds"]))
                await self._close_all(told)

            self.exchange.spawn(later())
        return {"connections": len(told)}

    async def disconnect_all(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Close every connection cleanly, or by TCP reset if `reset` is true."""
        told = list(self.connections)
        if body.get("reset") is True:
            for connection in told:
                connection.reset()
        else:
            await self._close_all(told)
        return {"connections": len(told)}

    async def _close_all(self, connections: list[Connection]) -> None:
        closing = (connection.close(WSCloseCode.GOING_AWAY, b"") for connection in connections)
        await asyncio.gather(*closing, return_exceptions=True)

    async def close(self) -> None:
        """Close all connections at the end, without waiting for clients that don't close."""
        for connection in list(self.connections):
            connection.drop()
