"""Assemble the server: REST, WebSocket API and control plane on one port."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import uvloop
from aiohttp import web

from exchanges.simulator.api.dispatch import Dispatcher
from exchanges.simulator.exchange.exchange import Exchange
from exchanges.simulator.exchange.persistence import StateFile, dump
from exchanges.simulator.server.control import PREFIX, Control
from exchanges.simulator.server.rest import OPENAPI_PATH, RestApi
from exchanges.simulator.server.websocket import WebSocketApi

log = logging.getLogger(__name__)

WEBSOCKET_PATHS = ("/ws-api/v3", "/ws-api/v3/")
SHUTDOWN_SECONDS = 0.2
# Even a very long parameter or key gets the exchange's refusal, not the HTTP parser's.
MAX_LINE_BYTES = 2**20
COLLECT_AT = (10_000, 20, 20)


class SimulatorServer:
    """Serve an exchange on its own port."""

    def __init__(self, exchange: Exchange, state: StateFile | None = None) -> None:
        self.exchange = exchange
        self.state = state
        self.dispatcher = Dispatcher(exchange)
        self.rest = RestApi(self.dispatcher)
        self.websocket = WebSocketApi(self.dispatcher)
        self.control = Control(self.dispatcher, self.websocket)
        self.port = 0
        self._runner: web.ServerRunner | None = None
        self._helpers: list[asyncio.Task[None]] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        if not path.startswith("/"):
            path = urlsplit(path).path  # the absolute form that proxies send
        if path in WEBSOCKET_PATHS:
            return await self.websocket.handle(request, query)
        if path.startswith(PREFIX):
            return await self.control.handle(request, path)
        if path == OPENAPI_PATH:
            return self.rest.describe()
        return await self.rest.handle(request, path, query)

    async def start(self, host: str, port: int) -> None:
        server = web.Server(
            self.handle,
            access_log=None,
            keepalive_timeout=75,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_SECONDS)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, backlog=1024).start()
        self.port = self._runner.addresses[0][1]
        self._helpers = [asyncio.create_task(self._tick())]
        if self.state is not None:
            self.exchange.listeners.append(self.state.note)
            self._helpers.append(asyncio.create_task(self.state.keep(self._dump)))

    async def stop(self) -> None:
        for helper in self._helpers:
            helper.cancel()
        await asyncio.gather(*self._helpers, return_exceptions=True)
        await self.exchange.close()
        await self.websocket.close()
        if self._runner is not None:
            await self._runner.cleanup()
        if self.state is not None:
            self.state.write(self._dump())

    def _dump(self) -> bytes:
        return dump(self.exchange.engine, self.exchange.market)

    async def _tick(self) -> None:
        """Move the market, unless it is frozen."""
        exchange = self.exchange
        while True:
            if not exchange.settings.frozen:
                try:
                    exchange.market.tick()
                    exchange.publish()
                except Exception:
                    log.exception("the market maker failed")
            await asyncio.sleep(exchange.settings.tick_seconds)


async def serve(
    exchange: Exchange,
    host: str,
    port: int,
    *,
    ready: Callable[[SimulatorServer], None],
    stop: asyncio.Event,
    state: StateFile | None = None,
) -> None:
    """Run until `stop` is set. Call `ready` once the port is open."""
    server = SimulatorServer(exchange, state)
    try:
        await server.start(host, port)
        ready(server)
        await stop.wait()
    finally:
        await server.stop()


def run(
    exchange: Exchange,
    host: str,
    port: int,
    ready: Callable[[SimulatorServer], None],
    state: StateFile | None = None,
) -> None:
    """Run in the foreground until SIGTERM or SIGINT."""
    # Objects that exist at the start never become garbage, so the collector can skip them.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AT)

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await serve(exchange, host, port, ready=ready, stop=stop, state=state)

    uvloop.run(main())


class ThreadedSimulator:
    """Run a simulator in a thread, for tests.

    A context manager that knows its address.
    """

    def __init__(self, exchange: Exchange, host: str = "127.0.0.1", port: int = 0) -> None:
        self.exchange = exchange
        self.host = host
        self.port = port
        self.server: SimulatorServer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="simulator", daemon=True)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://{self.host}:{self.port}/ws-api/v3"

    def start(self) -> Self:
        self._thread.start()
        self._ready.wait(10)
        if self._error is not None:
            raise self._error
        return self

    def stop(self) -> None:
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            self._stop = asyncio.Event()
            await serve(self.exchange, self.host, self.port, ready=self._on_ready, stop=self._stop)

        try:
            uvloop.run(main())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that started us
            self._error = error
        finally:
            self._ready.set()

    def _on_ready(self, server: SimulatorServer) -> None:
        self.server = server
        self.port = server.port
        self._ready.set()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
