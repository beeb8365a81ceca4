"""Send user data streams over one connection, and apply faults to their events."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import WSCloseCode, web

from exchanges.simulator.api.render.events import event_row
from exchanges.simulator.engine.events import Event
from exchanges.simulator.errors import ApiError
from exchanges.simulator.exchange.exchange import Exchange
from exchanges.simulator.exchange.fault_rules import Action, Subject
from exchanges.simulator.exchange.keys import ApiKey

MAX_QUEUE = 20_000
HARD_LIMIT = MAX_QUEUE + 1_000
MAX_SUBSCRIPTION_IDS = 65_535
FLUSH_SECONDS = 0.2
REORDER_SECONDS = 1.0


class Outbox:
    """Send frames in order.

    If too many frames wait, the client is too slow and the connection ends.
    """

    def __init__(
        self, socket: web.WebSocketResponse, reset: Callable[[], None], drop: Callable[[], None]
    ) -> None:
        self._socket = socket
        self._frames: deque[str] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.reset = reset
        self.drop = drop
        self.half_open = False
        self.pace_seconds = 0.0
        self.max_queue = MAX_QUEUE

    @property
    def queued(self) -> int:
        return len(self._frames)

    def put(self, frame: str) -> None:
        if self.half_open:
            return
        if len(self._frames) > HARD_LIMIT:
            # The client doesn't read at all, so no close frame would reach it.
            self._frames.clear()
            self.reset()
            return
        self._frames.append(frame)
        self._idle.clear()
        self._wake.set()

    async def flush(self) -> None:
        """Wait a moment until all frames are out."""
        try:
            await asyncio.wait_for(self._idle.wait(), FLUSH_SECONDS)
        except TimeoutError:
            return

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._frames:
                if len(self._frames) > self.max_queue:
                    await self._socket.close(
                        code=WSCloseCode.POLICY_VIOLATION, message=b"Slow consumer"
                    )
                    return
                frame = self._frames.popleft()
                if not self.half_open:
                    try:
                        await self._socket.send_str(frame)
                    except (ConnectionError, RuntimeError):
                        return
                if self.pace_seconds:
                    await asyncio.sleep(self.pace_seconds)
            self._idle.set()

    async def close(self, code: int) -> None:
        await self._socket.close(code=code)


@dataclass(frozen=True, slots=True)
class Subscription:
    number: int
    key: ApiKey
    in_session: bool


class EventStreams:
    """Keep the subscriptions of one connection, one per account."""

    def __init__(self, exchange: Exchange, outbox: Outbox, unit: int) -> None:
        self.exchange = exchange
        self.outbox = outbox
        self.unit = unit
        self._subscriptions: dict[int, Subscription] = {}
        self._next = 0
        self._muted_until_us = 0
        self._held: str | None = None

    @property
    def session_subscription(self) -> Subscription | None:
        return next((item for item in self._subscriptions.values() if item.in_session), None)

    def accounts(self) -> list[str]:
        return [item.key.account for item in self._subscriptions.values()]

    # -------------------------------------------------------------------------------- subscriptions

    def subscribe(self, key: ApiKey, *, in_session: bool) -> dict[str, Any]:
        if any(item.key.account == key.account for item in self._subscriptions.values()):
            raise ApiError(-2035, "User Data Stream subscription already active.")
        if len(self._subscriptions) >= self.exchange.limiter.settings.ws_subscriptions:
            limit = self.exchange.limiter.settings.ws_subscriptions
            raise ApiError(
                -1191,
                "Too many subscriptions. Connection may create up to "
                f"'{limit}' subscriptions at a time.",
            )
        if self._next >= MAX_SUBSCRIPTION_IDS:
            raise ApiError(-2042, "Maximum subscription ID reached for this connection.")
        number = self._next
        self._next += 1
        self._subscriptions[number] = Subscription(number, key, in_session)
        return {"subscriptionId": number}

    def unsubscribe(self, number: int | None) -> dict[str, Any]:
        if not self._subscriptions or (number is not None and number not in self._subscriptions):
            raise ApiError(-2036, "User Data Stream subscription not active.")
        for item in list(self._subscriptions.values()):
            if number is None or item.number == number:
                self._end(item)
        return {}

    def end_session(self) -> None:
        """End the subscription of the session after a logout, and keep the signed ones."""
        item = self.session_subscription
        if item is not None:
            self._end(item)

    def end_key(self, key: ApiKey) -> None:
        for item in list(self._subscriptions.values()):
            if item.key is key:
                self._end(item)

    def _end(self, item: Subscription) -> None:
        del self._subscriptions[item.number]
        event = {"e": "eventStreamTerminated", "E": self.exchange.clock.now_us() // self.unit}
        self.outbox.put(_frame(item.number, event))

    def describe(self) -> list[dict[str, int]]:
        return [{"subscriptionId": number} for number in self._subscriptions]

    # --------------------------------------------------------------------------------------- events

    def deliver(self, events: list[Event]) -> None:
        for item in list(self._subscriptions.values()):
            for event in events:
                if event.account_id == item.key.account:
                    self._deliver(item, event)

    def _deliver(self, item: Subscription, event: Event) -> None:
        now = self.exchange.clock.now_us()
        row = event_row(event, now, self.unit)
        frame = _frame(item.number, row)
        action = None
        if self.exchange.faults.rules:
            action = self.exchange.faults.take(_subject(item, row))
        if now < self._muted_until_us:
            return
        if action is None:
            self._emit(frame)
        elif action.action == "alter":
            self._emit(_frame(item.number, action.alter(row)))
        else:
            self._harm(action, frame, now)

    def _emit(self, frame: str) -> None:
        self.outbox.put(frame)
        if self._held is not None:
            held, self._held = self._held, None
            self.outbox.put(held)

    def _harm(self, action: Action, frame: str, now_us: int) -> None:
        handler: Callable[[Action, str, int], None] = getattr(self, f"_{action.action}")
        handler(action, frame, now_us)

    def _none(self, action: Action, frame: str, now_us: int) -> None:
        del action, now_us
        self._emit(frame)

    def _drop_event(self, action: Action, frame: str, now_us: int) -> None:
        del action, frame, now_us

    def _mute(self, action: Action, frame: str, now_us: int) -> None:
        """Drop this event and all events of the next seconds. The connection stays open."""
        del frame
        self._muted_until_us = now_us + int(action.seconds * 1_000_000)

    def _half_open(self, action: Action, frame: str, now_us: int) -> None:
        """Silently drop everything in both directions from now on."""
        del action, frame, now_us
        self.outbox.half_open = True

    def _delay(self, action: Action, frame: str, now_us: int) -> None:
        del now_us
        asyncio.get_running_loop().call_later(action.seconds, self._emit, frame)

    def _duplicate(self, action: Action, frame: str, now_us: int) -> None:
        del now_us
        for _ in range(action.copies):
            self._emit(frame)

    def _reorder(self, action: Action, frame: str, now_us: int) -> None:
        """Send this event after the next one, or alone after a while."""
        del now_us
        if self._held is not None:
            self._emit(frame)
            return
        self._held = frame
        asyncio.get_running_loop().call_later(action.seconds or REORDER_SECONDS, self._release)

    def _release(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            self.outbox.put(held)

    def _slow_consumer(self, action: Action, frame: str, now_us: int) -> None:
        """Send only `rate` frames per second.

        With more than `max_queue` waiting frames the exchange closes the connection.
        """
        del now_us
        self.outbox.pace_seconds = 1 / action.rate if action.rate > 0 else 0.0
        self.outbox.max_queue = action.max_queue
        self._emit(frame)

    def _drop(self, action: Action, frame: str, now_us: int) -> None:
        del action, frame, now_us
        self.outbox.drop()

    def _reset(self, action: Action, frame: str, now_us: int) -> None:
        del action, frame, now_us
        self.outbox.reset()

    def _close(self, action: Action, frame: str, now_us: int) -> None:
        del frame, now_us
        code = action.code if action.code != 1006 else WSCloseCode.GOING_AWAY
        self.exchange.spawn(self.outbox.close(code))


def _subject(item: Subscription, row: dict[str, Any]) -> Subject:
    return Subject(
        api="stream",
        symbol=row.get("s", ""),
        client_order_id=row.get("C") or row.get("c", ""),
        account=item.key.account,
        event=row["e"],
    )


def _frame(number: int, event: dict[str, Any]) -> str:
    return orjson.dumps({"subscriptionId": number, "event": event}).decode()
