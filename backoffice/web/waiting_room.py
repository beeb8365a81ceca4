"""Let only so many requests work at once, so that a crowd can't stop the web process.

Django answers each request in a thread of its own. Hundreds of them share one interpreter so
slowly that even `/healthz` fails, and a healthy process is restarted. Here they wait their turn
instead, in the order in which they came, and hold nothing meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from backoffice.health import HEALTH_PATH

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]

#: Below the database's pool. Pages work in Python, one thread at a time: more of them answer no
#: faster, and the event loop, which answers `/healthz`, gets its turn only after each of them.
#: With 16, the health check of a crowded process took 0.8 to 1.3 s. With 6, it takes 0.4 s at most.
AT_ONCE = 6
#: A request that gets no turn in this time is answered 503.
PATIENCE_SECONDS = 10.0
_BUSY = b"The site is busy at the moment. Please try again in a few seconds.\n"


class WaitingRoom:
    """An ASGI application around another one.

    A turn ends when the answer begins. A live page, whose answer never ends, therefore keeps none.
    """

    def __init__(
        self, app: Application, *, at_once: int = AT_ONCE, patience: float = PATIENCE_SECONDS
    ) -> None:
        self._app = app
        self._turns = asyncio.Semaphore(at_once)
        self._patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] == HEALTH_PATH and scope["method"] in ("GET", "HEAD"):
            await _answer(send, 200, b"ok\n")  # at once: threads of pages would hold up its own
            return
        try:
            async with asyncio.timeout(self._patience):
                await self._turns.acquire()
        except TimeoutError:
            await _answer(send, 503, _BUSY, (b"retry-after", b"5"))
            return
        is_over = False

        def end_turn() -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                self._turns.release()

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                end_turn()
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            end_turn()


async def _answer(send: Send, status: int, body: bytes, *more: tuple[bytes, bytes]) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *more]})
    await send({"type": "http.response.body", "body": body})
