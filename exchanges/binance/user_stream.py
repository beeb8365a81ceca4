"""Read the private stream of an account: connect, subscribe, notice silence, reconnect.

It yields events and writes nothing. ccxt's asynchronous client makes the connection and signs the
subscription. We don't use its `watch_*` methods: they hold events back, show only an order's last
state, hang if a subscription is not answered or ends, and raise KeyError if it is refused. Each
frame is taken as text where it arrives.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any

import structlog
from django.db import connection

from exchanges import clock
from exchanges.binance.ccxt_clients import stream_client
from exchanges.binance.error_table import error_for
from exchanges.binance.gateway import TIMESTAMP_REFUSED
from exchanges.binance.http import cleaned, error_object, parsed
from exchanges.binance.json_fields import Malformed
from exchanges.binance.registry import get_gateway
from exchanges.binance.retry_after import LONGEST_BAN_SECONDS, bounded
from exchanges.binance.stream_messages import (
    Bad,
    Connected,
    Disconnected,
    Ended,
    StreamEvent,
    Terminated,
    read_event,
)
from exchanges.credentials import Account, Credentials, read_credentials
from exchanges.errors import AccountError, GatewayError, NotSent, OutcomeUnknown
from exchanges.types import CallKind

CLOSE_SECONDS = 1.0
LAST_LOOK_SECONDS = 0.2
#: Events of one group, so that the accounts of a listener take short turns.
MOST_TOGETHER = 64

log = structlog.get_logger(__name__)


class ConnectionBudget:
    """Limit the connections of all streams of a process in any window of time.

    The exchange counts by address and allows 300 in 5 minutes. A second listener and a reader of
    market data must find room too.
    """

    def __init__(self, connections: int = 100, window_seconds: float = 300.0) -> None:
        self._connections = connections
        self._window = window_seconds
        self._made: deque[float] = deque()

    def take(self) -> float:
        """Claim a connection. Return how many seconds to wait before making it."""
        now = clock.monotonic()
        while self._made and self._made[0] <= now - self._window:
            self._made.popleft()
        at = (
            now
            if len(self._made) < self._connections
            else self._made[-self._connections] + self._window
        )
        self._made.append(at)
        return at - now


_budget = ConnectionBudget()


class UserStream:
    """The stream of one account, reconnected until its key is refused or the caller leaves.

    `async with aclosing(UserStream(account).events()) as events: async for event in events: ...`

    `silence_seconds` without any frame, ping included (the exchange pings every 20 s), means a dead
    connection. `answer_seconds` limits the handshake, and again the answer to the subscription. The
    pause after a lost connection is `first_pause_seconds`. It doubles with every further loss up to
    `longest_pause_seconds`, and is jittered. It starts over after a connection that has lived for
    `longest_pause_seconds`: each (re)connect makes its reader read everything, and a connection
    that is cut at once must not use up the rate limits that way.
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
        """Yield events without end, or up to and including `Terminated`.

        `Connected` comes first after every subscription.
        """
        async with aclosing(self.groups()) as groups:
            async for group in groups:
                for event in group:
                    yield event

    async def groups(self) -> AsyncGenerator[list[StreamEvent], None]:
        """Yield the same events, each with those that have arrived meanwhile. None waits."""
        log_account = log.bind(account=self._account.name)
        while True:
            await asyncio.sleep(self._budget.take())
            connection = _Connection(self._account, self._silence_seconds, self._answer_seconds)
            try:
                await connection.subscribe()
                log_account.info("stream_connected")
                yield [Connected(clock.now())]
                while True:
                    yield await connection.next_events()
            except GatewayError as error:
                end = error
            finally:
                await connection.close()
            if end.code == TIMESTAMP_REFUSED:
                await asyncio.to_thread(self._forget_clock)
            if isinstance(end, AccountError):
                log_account.error("stream_terminated", reason=end.message, code=end.code)
                yield [Terminated(end.message, end.code)]
                return
            if connection.lived_seconds() >= self._longest_pause_seconds:
                self._failures = 0
            pause = self._next_pause(end)
            log_account.warning(
                "stream_disconnected", reason=end.message, code=end.code, retry_in=round(pause, 3)
            )
            yield [Disconnected(end.message, pause)]
            await asyncio.sleep(pause)

    def _forget_clock(self) -> None:
        get_gateway(self._account).forget_clock()

    def _next_pause(self, end: GatewayError) -> float:
        grown = self._first_pause_seconds * 2.0 ** min(self._failures, 16)
        self._failures += 1
        pause = min(grown, self._longest_pause_seconds) * self._jitter.uniform(0.5, 1.0)
        asked = end.retry_after if isinstance(end, NotSent) else None
        return max(pause, asked or 0.0)


def _exchange_time_ms(account: Account) -> int:
    """Return the exchange's time, and leave no database connection in a thread of the loop."""
    try:
        return get_gateway(account).now_ms()
    finally:
        connection.close()


class _Connection:
    """One WebSocket from handshake to end. It ends with a `GatewayError`.

    `AccountError` means that the key is refused.
    """

    def __init__(self, account: Account, silence_seconds: float, answer_seconds: float) -> None:
        self._account = account
        self._silence_seconds = silence_seconds
        self._answer_seconds = answer_seconds
        # None: there will be no more.
        self._inbox: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self._heard_at = clock.monotonic()
        self._subscribed_at: float | None = None
        self._ended_by: GatewayError | None = None
        self._secrets: tuple[str, ...] = ()
        self._exchange: Any = None
        self._client: Any = None
        self._gone: Any = None

    async def subscribe(self) -> None:
        """Connect, subscribe, and return once the exchange has confirmed it."""
        credentials = read_credentials(self._account)
        self._secrets = (credentials.api_key, credentials.api_secret)
        await self._open(credentials)
        # Only now: a hundred streams that start together take longer to connect than a signature
        # is good for, and a refused start uses up the budget of connections.
        timestamp_ms = await asyncio.to_thread(_exchange_time_ms, self._account)
        parameters = self._exchange.sign_params({"timestamp": timestamp_ms})
        await self._send(
            {
                "id": "subscribe",
                "method": "userDataStream.subscribe.signature",
                "params": parameters,
            }
        )
        await self._confirmation()
        self._subscribed_at = clock.monotonic()

    def lived_seconds(self) -> float:
        """Return the seconds since the subscription was confirmed, 0 before."""
        return 0.0 if self._subscribed_at is None else clock.monotonic() - self._subscribed_at

    async def next_events(self) -> list[StreamEvent]:
        """Wait for an event. Return it with those that have arrived after it."""
        if self._ended_by is not None:
            raise self._ended_by
        events = [await self.next_event()]
        while len(events) < MOST_TOGETHER and not self._inbox.empty():
            try:
                events.append(await self.next_event())
            except GatewayError as error:
                self._ended_by = error  # once the caller has the events before it
                break
        return events

    async def next_event(self) -> StreamEvent:
        text = await self._next_text(self._silence_seconds)
        try:
            frame = parsed(text)
            self._raise_refusal(frame)
            event = read_event(frame.get("event") if isinstance(frame, dict) else frame)
        except GatewayError:
            raise
        except Exception as error:  # noqa: BLE001  the next event must not wait for this one
            return Bad(str(text)[:10_000], _problem(error))
        if isinstance(event, Ended):
            raise OutcomeUnknown(f"the exchange ended it: {event.reason}")
        return event

    async def close(self) -> None:
        """Close the connection, without waiting for a peer that no longer answers."""
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
        self._exchange = await asyncio.to_thread(stream_client, credentials)
        client = self._client = self._exchange.client(credentials.hosts.ws_url)
        # ccxt drops fractions of a second.
        client.connectionTimeout = math.ceil(self._answer_seconds) * 1000
        # ccxt's own watchdog takes minutes. Ours counts every frame, including the server's pings.
        client.keepAlive = 0
        # Take the text before ccxt parses it, because bad JSON ends ccxt's loop.
        client.handle_text_or_binary_message = self._inbox.put_nowait
        handle_message = client.handle_message

        def heard(message: Any) -> None:
            self._heard_at = clock.monotonic()
            handle_message(message)

        client.handle_message = heard
        # Whatever ends the connection rejects this future, and nothing else reports every end.
        self._gone = client.future("gone")
        self._gone.add_done_callback(self._note_end)
        connected = client.connect(self._exchange.session)
        await asyncio.wait(
            {connected, self._gone}, timeout=self._answer_seconds, return_when="FIRST_COMPLETED"
        )
        if self._gone.done():
            raise self._end()
        if not connected.done():
            raise OutcomeUnknown(f"no connection within {self._answer_seconds:g} s")

    async def _send(self, frame: dict[str, Any]) -> None:
        try:
            await self._client.send(json.dumps(frame))
        except Exception as error:  # noqa: BLE001  whatever it is, the connection is lost
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
            if (
                isinstance(frame, dict)
                and frame.get("id") == "subscribe"
                and frame.get("status") == 200
            ):
                return
        raise OutcomeUnknown(f"the subscription was not answered within {self._answer_seconds:g} s")

    async def _next_text(self, silence_seconds: float) -> str | bytes:
        """Return the next frame, in order. If the connection ended after it, raise that next
        time.
        """
        await asyncio.sleep(0)  # even if the caller never waits, pings must be answered
        was_held_up = True
        while self._inbox.empty():
            left = self._heard_at + silence_seconds - clock.monotonic()
            if left <= 0:
                # If this process was held up, messages have arrived meanwhile: read them first.
                if not was_held_up:
                    raise OutcomeUnknown(
                        f"nothing heard for {silence_seconds:g} s, not even a ping"
                    )
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
            gone.exception()  # else asyncio logs it as unread if we leave first
        self._inbox.put_nowait(None)

    def _end(self) -> GatewayError:
        """Return why the connection is gone, in the library's words without credentials."""
        error = None if self._gone.cancelled() else self._gone.exception()
        reason = cleaned(str(error), self._secrets) if error is not None else "closed"
        retry_after = self._client.last_retry_after
        if retry_after is not None:
            return NotSent(reason, retry_after=min(retry_after, LONGEST_BAN_SECONDS))
        return OutcomeUnknown(reason)

    def _raise_refusal(self, frame: Any) -> None:
        """Raise the error in an answer: a refused subscription, or a key revoked in mid-stream."""
        if not isinstance(frame, dict) or not isinstance(frame.get("error"), dict):
            return
        status = frame.get("status")
        code, message = error_object(frame["error"])
        raise error_for(
            kind=CallKind.READ,
            message=cleaned(message, self._secrets) or "refused without an explanation",
            http_status=status if isinstance(status, int) else None,
            code=code,
            retry_after=bounded(
                _retry_after(frame["error"]),
                status=status if isinstance(status, int) else None,
                code=code,
            ),
        )


def _problem(error: Exception) -> str:
    if isinstance(error, Malformed):
        return str(error)
    is_parsing = isinstance(error, ValueError | RecursionError)
    return "not JSON" if is_parsing else f"not readable ({type(error).__name__})"


def _parsed_or_none(text: str | bytes) -> Any:
    try:
        return parsed(text)
    except (ValueError, RecursionError):
        return None


def _retry_after(error: dict[str, Any]) -> float | None:
    """Return the seconds until the moment that a WebSocket refusal names.

    The exchange names it in milliseconds since the epoch.
    """
    data = error.get("data")
    moment = data.get("retryAfter") if isinstance(data, dict) else None
    if not isinstance(moment, int) or isinstance(moment, bool):
        return None
    return max(0.0, (moment - clock.now_ms()) / 1000)
