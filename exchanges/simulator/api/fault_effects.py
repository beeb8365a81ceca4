"""Apply a fault to one request, before, between and after its execution."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import orjson

from exchanges.simulator import errors
from exchanges.simulator.api.messages import Incoming, Reply, Wire, maintenance_reply, refusal
from exchanges.simulator.exchange import rate_limits
from exchanges.simulator.exchange.exchange import Exchange
from exchanges.simulator.exchange.fault_rules import Action

HTML = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n"
    "<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n"
)


class Executor(Protocol):
    """Execute a request, as the dispatcher does."""

    exchange: Exchange

    async def execute(
        self,
        request: Incoming,
        action: Action | None = None,
        wait: Callable[[], Awaitable[None]] | None = None,
    ) -> Reply: ...


class FaultyRequest:
    """Answer one request under one fault."""

    def __init__(self, dispatcher: Executor, request: Incoming, wire: Wire, action: Action) -> None:
        self.dispatcher = dispatcher
        self.exchange = dispatcher.exchange
        self.request = request
        self.wire = wire
        self.action = action

    async def run(self) -> Reply | None:
        handler = getattr(self, f"_{self.action.action}")
        reply: Reply | None = await handler()
        return reply

    async def _execute(self) -> Reply:
        return await self.dispatcher.execute(self.request, self.action)

    async def _none(self) -> Reply | None:
        return await self._execute()

    async def _alter(self) -> Reply | None:
        reply = await self._execute()
        if reply.error is None:
            reply.body = self.action.alter(reply.body)
        return reply

    async def _reset_before(self) -> Reply | None:
        self.wire.reset()
        return None

    async def _reset_after(self) -> Reply | None:
        await self._execute()
        self.wire.reset()
        return None

    async def _close_before(self) -> Reply | None:
        self.wire.close()
        return None

    async def _close_after(self) -> Reply | None:
        await self._execute()
        self.wire.close()
        return None

    async def _delay_answer(self) -> Reply | None:
        reply = await self._execute()
        await asyncio.sleep(self.action.seconds)
        return reply

    async def _delay_execution(self) -> Reply | None:
        """Execute late.

        Past the timeout of the API gateway the answer is -1007, and the execution follows later.
        """
        seconds, limit = self.action.seconds, self.exchange.settings.engine_timeout_seconds
        if seconds < limit:
            return await self.dispatcher.execute(
                self.request, self.action, lambda: asyncio.sleep(seconds)
            )

        async def late() -> None:
            await self.dispatcher.execute(self.request, self.action, lambda: asyncio.sleep(seconds))

        self.exchange.spawn(late())
        await asyncio.sleep(limit)
        return refusal(errors.timeout())

    async def _execute_late_after_disconnect(self) -> Reply | None:
        async def wait() -> None:
            await self.wire.gone()
            await asyncio.sleep(self.action.seconds)

        async def late() -> None:
            await self.dispatcher.execute(self.request, self.action, wait)

        self.exchange.spawn(late())
        await self.wire.gone()
        return None

    async def _never_answer(self) -> Reply | None:
        if self.action.execute is not False:
            await self._execute()
        await self.wire.gone()
        return None

    async def _respond(self) -> Reply | None:
        action = self.action
        if action.execute:
            await self._execute()
        if action.seconds:
            await asyncio.sleep(action.seconds)
        raw, content_type = action.body, action.content_type
        if not isinstance(raw, str):
            raw = "" if raw is None else orjson.dumps(raw).decode()
            content_type = content_type or "application/json;charset=UTF-8"
        return Reply(
            status=action.status,
            raw=raw,
            body=action.body,
            content_type=content_type or "text/html",
            headers=dict(action.headers),
        )

    async def _garbage(self) -> Reply | None:
        action = self.action
        text = '{"symbol":'
        if action.execute is not False:
            reply = await self._execute()
            text = orjson.dumps(reply.payload()).decode()
        bodies = {
            "html": HTML,
            "truncated": text[: len(text) // 2],
            "empty": "",
            "object": "{}",
            "list": "[]",
            "null": "null",
            "text": "upstream connect error",
            "cut": text,
        }
        content_type = (
            "text/html" if action.kind in ("html", "text") else "application/json;charset=UTF-8"
        )
        return Reply(
            status=action.status,
            raw=bodies[action.kind],
            content_type=content_type,
            cut=action.kind == "cut",
        )

    async def _rate_limited(self) -> Reply | None:
        if self.action.execute:
            await self._execute()
        now = self.exchange.clock.now_us()
        limit = f"{self.exchange.limiter.settings.request_weight} request weight per 1 MINUTE"
        return refusal(
            rate_limits.too_much_weight(
                limit, now // 1000 + int(self.action.retry_after * 1000), now
            )
        )

    async def _banned(self) -> Reply | None:
        now = self.exchange.clock.now_us()
        return refusal(rate_limits.banned(now + int(self.action.retry_after * 1_000_000), now))

    async def _maintenance(self) -> Reply | None:
        return maintenance_reply()

    async def _timeout(self) -> Reply | None:
        """Answer -1007. The client can't know whether the engine executed the request."""
        if self.action.execute is not False:
            await self._execute()
        if self.action.seconds:
            await asyncio.sleep(self.action.seconds)
        error = errors.timeout()
        error.status = self.action.status if self.action.status != 200 else error.status
        return refusal(error)
