"""The private stream of an account: connect, subscribe, watch for silence, reconnect. It yields, and writes nothing.

ccxt's asynchronous client makes the connection and signs the subscription. Its `watch_*` methods are not used: they
keep events back while nobody waits, show only an order's last state, hang for ever when a subscription is not answered
or ends, and raise KeyError when it is refused. Each frame is taken as text where it arrives.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import structlog
from django.conf import settings

from exchanges import clock
from exchanges.binance_reports import Malformed
from exchanges.credentials import Account, Credentials, read_credentials
from exchanges.errors import AccountError, Call, GatewayError, NotSent, OutcomeUnknown, error_for
from exchanges.gateway import TIMESTAMP_REFUSED, get_gateway
from exchanges.stream_events import Bad, Connected, Disconnected, Ended, StreamEvent, Terminated, read_event
from exchanges.wire import cleaned, error_object, parsed

CLOSE_SECONDS = 1.0
LAST_LOOK_SECONDS = 0.2

log = structlog.get_logger(__name__)


class ConnectionBudget:
    """At most so many connections in any window of time, for all streams of a process: the exchange counts by address.

    It allows 300 in 5 minutes; a second listener and a reader of market data must find room beside us.
    """

    def __init__(self, connections: int = 100, window_seconds: float = 300.0) -> None:
        self._connections = connections
        self._window = window_seconds
        self._made: deque[float] = deque()

    def take(self) -> float:
        """Claim a connection; how many seconds to wait before making it."""
        now = clock.monotonic()
        while self._made and self._made[0] <= now - self._window:
            self._made.popleft()
        at = now if len(self._made) < self._connections else self._made[-self._connections] + self._window
        self._made.append(at)
        return at - now


_budget = ConnectionBudget()


class UserStream:
    """The stream of one account, reconnected until its key is refused or the caller leaves.

    `async with aclosing(UserStream(account).events()) as events: async for event in events: ...`

    `silence_seconds` without any frame, ping included (the exchange pings every 20 s), is a dead connection.
    `answer_seconds` is allowed for the handshake and again for the answer to the subscription. The pause after a lost
    connection is `first_pause_seconds`, doubled with every further loss up to `longest_pause_seconds`, and jittered. It
    begins anew after a connection that has lived for `longest_pause_seconds`: each (re)connect makes its reader read
    everything, and one that is cut as soon as it is made must not spend the exchange's patience on that.
    """

    def __init__(
        self,
        account: Account,
        *,
        silence_seconds: float = 60.0,
        answer_seconds: float = 10.0,
        first_pause_seconds: float = 0.5,
        longest_pause_seconds: float = 30.0,
        budget: ConnectionBudget = _budget,
        jitter: random.Random | None = None,
    ) -> None:
        self._account = account
        self._silence_seconds = silence_seconds
        self._answer_seconds = answer_seconds
        self._first_pause_seconds = first_pause_seconds
        self._longest_pause_seconds = longest_pause_seconds
        self._budget = budget
        self._jitter = jitter or random.Random()
        self._failures = 0

    async def events(self) -> AsyncGenerator[StreamEvent, None]:
        """Events for ever, or up to and including `Terminated`. `Connected` comes first after every subscription."""
        log_account = log.bind(account=self._account.name)
        while True:
            await asyncio.sleep(self._budget.take())
            connection = _Connection(self._account, self._silence_seconds, self._answer_seconds)
            try:
                await connection.subscribe()
                log_account.info("stream_connected")
                yield Connected(clock.now())
                while True:
                    yield await connection.next_event()
            except GatewayError as error:
                end = error
            finally:
                await connection.close()
            if end.code == TIMESTAMP_REFUSED:
                await asyncio.to_thread(self._forget_clock)
            if isinstance(end, AccountError):
                log_account.error("stream_terminated", reason=end.message, code=end.code)
                yield Terminated(end.message, end.code)
                return
            if connection.lived_seconds() >= self._longest_pause_seconds:
                self._failures = 0
            pause = self._next_pause(end)
            log_account.warning("stream_disconnected", reason=end.message, code=end.code, retry_in=round(pause, 3))
            yield Disconnected(end.message, pause)
            await asyncio.sleep(pause)

    def _forget_clock(self) -> None:
        get_gateway(self._account).forget_clock()

    def _next_pause(self, end: GatewayError) -> float:
        grown = self._first_pause_seconds * 2.0 ** min(self._failures, 16)
        self._failures += 1
        pause = min(grown, self._longest_pause_seconds) * self._jitter.uniform(0.5, 1.0)
        asked = end.retry_after if isinstance(end, NotSent) else None
        return max(pause, asked or 0.0)


class _Connection:
    """One WebSocket from handshake to end. Its end is a `GatewayError`: `AccountError` if the key is refused."""

    def __init__(self, account: Account, silence_seconds: float, answer_seconds: float) -> None:
        self._account = account
        self._silence_seconds = silence_seconds
        self._answer_seconds = answer_seconds
        self._inbox: asyncio.Queue[str | bytes | None] = asyncio.Queue()  # None: there will be no more
        self._heard_at = clock.monotonic()
        self._subscribed_at: float | None = None
        self._secrets: tuple[str, ...] = ()
        self._exchange: Any = None
        self._client: Any = None
        self._gone: Any = None

    async def subscribe(self) -> None:
        """Connect and subscribe; returns when the exchange has confirmed it."""
        credentials = read_credentials(self._account)
        self._secrets = (credentials.api_key, credentials.api_secret)
        timestamp_ms = await asyncio.to_thread(lambda: get_gateway(self._account).now_ms())
        await self._open(credentials)
        parameters = self._exchange.sign_params({"timestamp": timestamp_ms})
        await self._send({"id": "subscribe", "method": "userDataStream.subscribe.signature", "params": parameters})
        await self._confirmation()
        self._subscribed_at = clock.monotonic()

    def lived_seconds(self) -> float:
        """Since the subscription was confirmed; 0 before."""
        return 0.0 if self._subscribed_at is None else clock.monotonic() - self._subscribed_at

    async def next_event(self) -> StreamEvent:
        text = await self._next_text(self._silence_seconds)
        try:
            frame = parsed(text)
            self._raise_refusal(frame)
            event = read_event(frame.get("event") if isinstance(frame, dict) else frame)
        except (ValueError, RecursionError) as error:  # Malformed is a ValueError
            return Bad(str(text)[:10_000], str(error) if isinstance(error, Malformed) else "not JSON")
        if isinstance(event, Ended):
            raise OutcomeUnknown(f"the exchange ended it: {event.reason}")
        return event

    async def close(self) -> None:
        """Let go of the connection; a peer that no longer answers is not waited for."""
        if self._exchange is None:
            return
        try:
            with suppress(Exception):  # however it ends, it is ended
                await asyncio.wait_for(self._client.close(), CLOSE_SECONDS)
        finally:
            self._exchange.clients = {}
            session, self._exchange.session = self._exchange.session, None
            self._exchange.tcp_connector = None
            if session is not None:
                await session.close()

    async def _open(self, credentials: Credentials) -> None:
        self._exchange = await asyncio.to_thread(_ccxt_client, credentials)
        client = self._client = self._exchange.client(credentials.hosts.ws_url)
        client.connectionTimeout = math.ceil(self._answer_seconds) * 1000  # it cuts fractions of a second off
        client.keepAlive = 0  # its own watchdog takes minutes; ours counts every frame, the server's pings too
        client.handle_text_or_binary_message = self._inbox.put_nowait  # before ccxt parses it: bad JSON ends its loop
        handle_message = client.handle_message

        def heard(message: Any) -> None:
            self._heard_at = clock.monotonic()
            handle_message(message)

        client.handle_message = heard
        # Whatever ends the connection rejects this future, and nothing else tells of every end.
        self._gone = client.future("gone")
        self._gone.add_done_callback(self._note_end)
        connected = client.connect(self._exchange.session)
        await asyncio.wait({connected, self._gone}, timeout=self._answer_seconds, return_when="FIRST_COMPLETED")
        if self._gone.done():
            raise self._end()
        if not connected.done():
            raise OutcomeUnknown(f"no connection within {self._answer_seconds:g} s")

    async def _send(self, frame: dict[str, Any]) -> None:
        try:
            await self._client.send(json.dumps(frame))
        except Exception as error:  # noqa: BLE001  aiohttp's and the system's: the connection is of no use any more
            problem = type(error).__name__
        else:
            return
        raise OutcomeUnknown(f"the subscription could not be sent ({problem})")

    async def _confirmation(self) -> None:
        deadline = clock.monotonic() + self._answer_seconds
        while (left := deadline - clock.monotonic()) > 0:
            try:
                text = await asyncio.wait_for(self._next_text(self._silence_seconds), left)
            except TimeoutError:
                break
            frame = _parsed_or_none(text)
            self._raise_refusal(frame)
            if isinstance(frame, dict) and frame.get("id") == "subscribe" and frame.get("status") == 200:
                return
        raise OutcomeUnknown(f"the subscription was not answered within {self._answer_seconds:g} s")

    async def _next_text(self, silence_seconds: float) -> str | bytes:
        """The next frame, in order; an end that came after it is told after it."""
        await asyncio.sleep(0)  # a caller that never waits must not keep pings from being answered
        was_held_up = True
        while self._inbox.empty():
            left = self._heard_at + silence_seconds - clock.monotonic()
            if left <= 0:
                # If it was we who did not look for so long, what has arrived meanwhile is read first.
                if not was_held_up:
                    raise OutcomeUnknown(f"nothing heard for {silence_seconds:g} s, not even a ping")
                left = LAST_LOOK_SECONDS
            was_held_up = False
            with suppress(TimeoutError):
                text = await asyncio.wait_for(self._inbox.get(), left)
                break
        else:
            text = self._inbox.get_nowait()
        if text is None:
            raise self._end()
        return text

    def _note_end(self, gone: asyncio.Future[None]) -> None:
        if not gone.cancelled():
            gone.exception()  # looked at: else asyncio logs that nobody did when we leave first
        self._inbox.put_nowait(None)

    def _end(self) -> GatewayError:
        """Why the connection is gone, in the library's words, which name no credential; taken out nevertheless."""
        error = None if self._gone.cancelled() else self._gone.exception()
        reason = cleaned(str(error), self._secrets) if error is not None else "closed"
        retry_after = self._client.last_retry_after
        if retry_after is not None:
            return NotSent(reason, retry_after=retry_after)
        return OutcomeUnknown(reason)

    def _raise_refusal(self, frame: Any) -> None:
        """An answer with an error: the subscription is refused, or the key has been taken from a running stream."""
        if not isinstance(frame, dict) or not isinstance(frame.get("error"), dict):
            return
        status = frame.get("status")
        code, message = error_object(frame["error"])
        raise error_for(
            call=Call.READ,
            message=cleaned(message, self._secrets) or "refused without an explanation",
            http_status=status if isinstance(status, int) else None,
            code=code,
            retry_after=_retry_after(frame["error"]),
        )


def _ccxt_client(credentials: Credentials) -> Any:
    """ccxt's asynchronous client, for its connection and its signature only."""
    import ccxt.pro  # on first use: it costs 1 s and 100 MB

    return ccxt.pro.binance(
        {
            "apiKey": credentials.api_key,
            "secret": credentials.api_secret,
            "enableRateLimit": False,
            "options": {"defaultType": "spot", "recvWindow": settings.EXCHANGE_RECV_WINDOW_MS},
        }
    )


def _parsed_or_none(text: str | bytes) -> Any:
    try:
        return parsed(text)
    except (ValueError, RecursionError):
        return None


def _retry_after(error: dict[str, Any]) -> float | None:
    """Seconds until the moment that a WebSocket refusal names in milliseconds since the epoch."""
    data = error.get("data")
    moment = data.get("retryAfter") if isinstance(data, dict) else None
    if not isinstance(moment, int) or isinstance(moment, bool):
        return None
    return max(0.0, (moment - clock.now_ms()) / 1000)
