"""Serve the REST API."""

from __future__ import annotations

import asyncio
import math
import socket
import struct
from collections.abc import Mapping
from typing import cast

import orjson
from aiohttp import web

from exchanges.simulator.api.dispatch import Dispatcher
from exchanges.simulator.api.endpoints.account import ACCOUNT_OPERATIONS
from exchanges.simulator.api.endpoints.market_data import MARKET_OPERATIONS
from exchanges.simulator.api.endpoints.trading import TRADING_OPERATIONS
from exchanges.simulator.api.endpoints.wallet import WALLET_OPERATIONS
from exchanges.simulator.api.messages import MICROSECONDS, MILLISECONDS, Incoming, Reply, refusal
from exchanges.simulator.api.openapi import document
from exchanges.simulator.api.operations import Operation
from exchanges.simulator.api.params import Params, merge_pairs
from exchanges.simulator.errors import ApiError
from exchanges.simulator.exchange.keys import rest_payload

OPERATIONS: tuple[Operation, ...] = (
    MARKET_OPERATIONS + TRADING_OPERATIONS + ACCOUNT_OPERATIONS + WALLET_OPERATIONS
)
ROUTES: Mapping[tuple[str, str], Operation] = {
    (item.method, item.path): item for item in OPERATIONS
}
OPENAPI_PATH = "/openapi.json"
REMOVED_PATHS = ("/api/v1/userDataStream", "/api/v3/userDataStream")
JSON = "application/json;charset=UTF-8"
GONE_PAGE = (
    "<html>\r\n<head><title>410 Gone</title></head>\r\n<body>\r\n"
    "<center><h1>410 Gone</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
POLL_SECONDS = 0.01


def reset_transport(transport: asyncio.BaseTransport | None) -> None:
    """Close a connection with a TCP reset and drop unsent data."""
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    cast(asyncio.Transport, transport).abort()  # uvloop's transports don't subclass it


class HttpWire:
    """Wrap the connection of one HTTP request."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request

    def reset(self) -> None:
        reset_transport(self._request.transport)

    def close(self) -> None:
        if self._request.transport is not None:
            self._request.transport.close()

    async def gone(self) -> None:
        # aiohttp doesn't report a lost connection to the handler, so poll for it.
        while self._is_open():  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)

    def _is_open(self) -> bool:
        transport = self._request.transport
        return transport is not None and not transport.is_closing()


class RestApi:
    """Answer requests below /api and /sapi, and describe them."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self.exchange = dispatcher.exchange

    async def handle(self, request: web.BaseRequest, path: str, query: str) -> web.StreamResponse:
        operation = ROUTES.get((request.method, path))
        ip = request.remote or ""
        if operation is None:
            return self._unknown(path, ip)
        try:
            body = await _form(request)
            unit = _unit(request.headers.get("X-MBX-TIME-UNIT"))
            params = Params(merge_pairs(query, body))
        except ApiError as error:
            return self._response(refusal(error), ip)
        incoming = Incoming(
            api="rest",
            ip=ip,
            operation=operation,
            params=params,
            api_key=request.headers.get("X-MBX-APIKEY", ""),
            payload=rest_payload(query, body) if operation.signed else b"",
            unit=unit,
        )
        wire = HttpWire(request)
        reply = await self.dispatcher.answer(incoming, wire)
        if reply is None:
            wire.close()
            return web.Response(status=500)  # no client is left to read it
        if reply.cut:
            return self._cut(request, reply)
        return self._response(reply, ip)

    def describe(self) -> web.Response:
        """Answer with the OpenAPI document. It costs no weight, as Binance has no such call."""
        return web.Response(
            body=orjson.dumps(document(OPERATIONS)), content_type="application/json"
        )

    def _unknown(self, path: str, ip: str) -> web.Response:
        if path in REMOVED_PATHS:
            return self._response(Reply(status=410, raw=GONE_PAGE, content_type="text/html"), ip)
        return self._response(Reply(status=404, raw=""), ip)

    def _response(self, reply: Reply, ip: str) -> web.Response:
        now = self.exchange.clock.now_us()
        headers = {"Content-Type": JSON, "Cache-Control": "no-cache, no-store, must-revalidate"}
        weight = str(self.exchange.limiter.usage(ip).weight.at(now))
        headers["X-MBX-USED-WEIGHT"] = weight
        headers["X-MBX-USED-WEIGHT-1M"] = weight
        if reply.orders is not None:
            for row in reply.orders:
                headers[f"X-MBX-ORDER-COUNT-{row['intervalNum']}{row['interval'][0]}"] = str(
                    row["count"]
                )
        error = reply.error
        if error is not None and error.retry_after_ms is not None:
            headers["Retry-After"] = str(
                max(1, math.ceil((error.retry_after_ms - now // 1000) / 1000))
            )
        if reply.raw is not None:
            headers["Content-Type"] = reply.content_type
            headers |= reply.headers
            return web.Response(status=reply.status, body=reply.raw.encode(), headers=headers)
        return web.Response(
            status=reply.status, body=orjson.dumps(reply.payload()), headers=headers
        )

    def _cut(self, request: web.BaseRequest, reply: Reply) -> web.Response:
        """Promise the whole body, send half of it, then close the connection."""
        body = (reply.raw or "").encode()
        transport = request.transport
        if transport is not None:
            head = (
                f"HTTP/1.1 {reply.status} OK\r\n"
                f"Content-Type: {JSON}\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            transport.write(head.encode() + body[: len(body) // 2])
            transport.close()
        return web.Response(status=500)  # no client is left to read it


async def _form(request: web.BaseRequest) -> str:
    if request.method == "GET" or not request.can_read_body:
        return ""
    try:
        return (await request.read()).decode("utf-8", "surrogateescape")
    except web.HTTPRequestEntityTooLarge as error:
        raise ApiError(-1101, "Too many parameters sent for this endpoint.", status=413) from error


def _unit(header: str | None) -> int:
    if header is None or header.upper() == "MILLISECOND":
        return MILLISECONDS
    if header.upper() == "MICROSECOND":
        return MICROSECONDS
    raise ApiError(
        -1194, "Invalid value for time unit; expected either MICROSECOND or MILLISECOND."
    )
