"""A WebSocket server that follows a script, in a thread of its own, for streams that misbehave."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

from aiohttp import WSMsgType, web


class Peer:
    """The server's end of one connection."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self.socket = socket
        self.request = request

    async def receive(self) -> dict[str, Any]:
        """The next request frame. ConnectionError when the client has left."""
        message = await self.socket.receive()
        if message.type is not WSMsgType.TEXT:
            raise ConnectionError(message.type.name)
        frame: dict[str, Any] = json.loads(message.data)
        return frame

    async def send(self, frame: Any) -> None:
        """A frame; text is sent as it is, anything else as JSON."""
        await self.socket.send_str(frame if isinstance(frame, str) else json.dumps(frame))

    async def send_event(self, event: Any) -> None:
        await self.send({"subscriptionId": 0, "event": event})

    async def confirm(self) -> dict[str, Any]:
        """Take the subscription and confirm it; the request."""
        frame = await self.receive()
        await self.send(
            {"id": frame["id"], "status": 200, "result": {"subscriptionId": 0}, "rateLimits": []}
        )
        return frame

    async def refuse(self, status: int, code: int, text: str, **data: Any) -> None:
        frame = await self.receive()
        error = {"code": code, "msg": text, **({"data": data} if data else {})}
        await self.send({"id": frame["id"], "status": status, "error": error, "rateLimits": []})

    async def cut(self) -> None:
        """Break the connection without a closing handshake."""
        transport = self.request.transport
        assert transport is not None
        transport.abort()

    async def stay(self) -> None:
        """Say nothing until the client leaves or the server stops."""
        while (await self.socket.receive()).type is WSMsgType.TEXT:
            continue


Script = Callable[[Peer], Awaitable[None]]


class ScriptedWebSocketServer:
    """Each connection plays the next script; the last one is played again and again."""

    def __init__(self, *scripts: Script, autoping: bool = True) -> None:
        self.scripts = list(scripts)
        self.connections = 0
        self.errors: list[BaseException] = []
        self._autoping = autoping
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port: int = self._run(self._start())

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws-api/v3"

    def stop(self) -> None:
        self._run(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()
        assert self.errors == []

    def _run(self, work: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(10)

    async def _start(self) -> int:
        app = web.Application()
        app.router.add_get("/ws-api/v3", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        script = self.scripts[min(self.connections, len(self.scripts) - 1)]
        self.connections += 1
        socket = web.WebSocketResponse(autoping=self._autoping, timeout=0.1)
        await socket.prepare(request)
        try:
            await script(Peer(socket, request))
        except (ConnectionError, RuntimeError):
            pass  # the client left
        except AssertionError as error:
            self.errors.append(error)
        return socket
