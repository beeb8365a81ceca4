"""Refuse large bodies ahead of everything: nothing else has read or stored a byte of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

LIMIT_BYTES = 1_000_000
# Machines only ask there.
_WITHOUT_BODY = ("/healthz", "/readyz", "/metrics")

Scope = dict[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Any, Any], Coroutine[Any, Any, None]]


class _TooLarge(Exception):
    """The body of a request is longer than allowed."""


def limit_bodies(application: Application) -> Application:
    """Return an ASGI application that answers 413 to a body of more than a megabyte.

    Django spools a body to the disk before any of its middleware runs, and so does every other
    way to look at it. A form of the admin takes some kilobytes.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        allowed = 0 if scope["path"] in _WITHOUT_BODY else LIMIT_BYTES
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > allowed:
                raise _TooLarge
            return message

        try:
            if _declared(scope) > allowed:
                raise _TooLarge
            await application(scope, counted, send)
        except _TooLarge:
            await _refuse(send)

    return answer


def _declared(scope: Scope) -> int:
    """Return the length that the request states, 0 if it states none."""
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    return max((int(text) for text in lengths if text.isdigit()), default=0)


async def _refuse(send: Send) -> None:
    headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": b"The request is too large.\n"})
