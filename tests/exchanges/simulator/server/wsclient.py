"""Talk to the WebSocket API in tests. Sign by hand, keep responses and events apart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from exchanges.simulator.server.server import ThreadedSimulator
from tests.exchanges.simulator.conftest import KEY, SECRET, PrivateKey, now_ms, sign_text

TIMEOUT = 5.0


def text_of(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, list) else str(value)


def sign_params(
    params: dict[str, Any], key: str = KEY, secret: str | PrivateKey = SECRET
) -> dict[str, Any]:
    """Return `params` with apiKey, timestamp and signature."""
    full = {"timestamp": now_ms(), **params, "apiKey": key}
    payload = "&".join(f"{name}={text_of(full[name])}" for name in sorted(full))
    return {**full, "signature": sign_text(secret, payload)}


class WsClient:
    """Keep one connection.

    `ask` returns the response to its own request. Events wait for `event`.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.events: list[dict[str, Any]] = []
        self._next = 0

    async def receive(self) -> dict[str, Any]:
        frame: dict[str, Any] = await self.socket.receive_json(timeout=TIMEOUT)
        return frame

    async def send(self, frame: dict[str, Any]) -> dict[str, Any]:
        """Send one frame and wait for the response with its id."""
        await self.socket.send_str(json.dumps(frame))
        while True:
            answer = await self.receive()
            if "event" in answer:
                self.events.append(answer)
            else:
                return answer

    async def ask(
        self, method: str, params: dict[str, Any] | None = None, **frame: Any
    ) -> dict[str, Any]:
        self._next += 1
        row: dict[str, Any] = {"id": self._next, "method": method, **frame}
        if params is not None:
            row["params"] = params
        return await self.send(row)

    async def signed(self, method: str, **params: Any) -> dict[str, Any]:
        return await self.ask(method, sign_params(params))

    async def place(self, **params: Any) -> dict[str, Any]:
        order = {
            "symbol": "BTCUSDT",
            "side": "BUY",
            "type": "LIMIT",
            "timeInForce": "GTC",
            "quantity": "0.01",
            "price": "50000",
        } | params
        return await self.signed(
            "order.place", **{name: value for name, value in order.items() if value is not None}
        )

    async def event(self) -> dict[str, Any]:
        """Return the next event with its subscription."""
        while not self.events:
            frame = await self.receive()
            assert "event" in frame, frame
            self.events.append(frame)
        return self.events.pop(0)

    async def event_of(self, kind: str) -> dict[str, Any]:
        """Return the payload of the next event of a kind, and skip all others."""
        while True:
            event: dict[str, Any] = (await self.event())["event"]
            if event["e"] == kind:
                return event

    async def is_silent(self, seconds: float) -> bool:
        """Check that no event comes for so long. One that comes is kept for `event`."""
        if self.events:
            return False
        try:
            self.events.append(await asyncio.wait_for(self.receive(), seconds))
        except TimeoutError:
            return True
        return False

    async def closed_with(self) -> int | None:
        """Wait until the server ends the connection, and return its close code."""
        while True:
            message = await self.socket.receive(timeout=TIMEOUT)
            if message.type in (
                aiohttp.WSMsgType.CLOSE,
                aiohttp.WSMsgType.CLOSED,
                aiohttp.WSMsgType.ERROR,
            ):
                return self.socket.close_code


@asynccontextmanager
async def connect(url: str, *, autoping: bool = True) -> AsyncIterator[WsClient]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, autoping=autoping) as socket,
    ):
        yield WsClient(socket)


Scenario = Callable[[WsClient], Awaitable[None]]


def run(
    sim: ThreadedSimulator, scenario: Scenario, *, query: str = "", autoping: bool = True
) -> None:
    """Run one scenario on one connection, with a time limit."""

    async def main() -> None:
        async with connect(sim.ws_url + query, autoping=autoping) as client:
            await asyncio.wait_for(scenario(client), 20)

    asyncio.run(main())


def error_of(frame: dict[str, Any]) -> tuple[int, int]:
    return frame["status"], frame["error"]["code"]
