"""Check what a listener of many accounts costs, and that one account's trouble stays its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.db import connection
from pytest_django.fixtures import Settings

from exchanges import clock
from exchanges.binance.stream_messages import Connected, StreamEvent
from exchanges.models import AccountSync, ExchangeAccount, StreamState
from orders.models import Order
from orders.stream import listener
from orders.stream.apply import StreamApplier, store_states
from tests.factories import ExchangeAccountFactory
from tests.fakes import FakeExchange

ACCOUNTS = 100
CONNECTIONS = """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture
def exchange() -> Iterator[FakeExchange]:
    with FakeExchange().installed() as exchange:
        yield exchange


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    settings.EXCHANGE_READ_LAG_MS = 0
    monkeypatch.setattr(listener, "LOOK_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(listener, "BEAT_EVERY_SECONDS", 0.1)


def script(
    monkeypatch: pytest.MonkeyPatch, events: Callable[[str], AsyncGenerator[StreamEvent, None]]
) -> None:
    """Let each account's stream be this generator of events."""

    class Scripted:
        def __init__(self, account: ExchangeAccount, **_: Any) -> None:
            self._events = events(account.name)

        async def groups(self) -> AsyncGenerator[list[StreamEvent], None]:
            async with aclosing(self._events):
                async for event in self._events:
                    yield [event]

    monkeypatch.setattr(listener, "UserStream", Scripted)


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(_and_close, condition):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def _and_close(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    finally:
        connection.close()


@pytest.mark.long
@pytest.mark.usefixtures("quick", "exchange")
@pytest.mark.django_db(transaction=True)
def test_run__a_hundred_accounts_cost_few_threads_and_one_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ExchangeAccountFactory.create_batch(ACCOUNTS)

    async def events(_: str) -> AsyncGenerator[StreamEvent, None]:
        yield Connected(clock.now())
        await asyncio.sleep(3600)

    def connect_only(live: StreamApplier, at: Any) -> None:
        live._write(connected_since=at, in_sync_since=clock.now(), reason="")

    script(monkeypatch, events)
    monkeypatch.setattr(StreamApplier, "connected", connect_only)
    monkeypatch.setattr(StreamApplier, "look_again", lambda live: None)
    seen: dict[str, int] = {}

    def measure() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(CONNECTIONS)
            (seen["connections"],) = cursor.fetchone()
        return True

    async def story() -> None:
        before = threading.active_count()
        listening = listener.Listener()
        running = asyncio.create_task(listening.run())
        healthy = StreamState.objects.filter(in_sync_since__isnull=False)
        await until(lambda: healthy.count() == ACCOUNTS)
        await asyncio.sleep(0.5)
        seen["threads"] = threading.active_count() - before
        await until(measure)
        listening.stop()
        await running

    connection.close()
    asyncio.run(story())
    print(seen)
    assert seen["threads"] <= 15
    assert seen["connections"] <= 2, "the writer's, and maybe one that is about to close"
    synced = AccountSync.objects.filter(balances_synced_at__isnull=False)
    assert synced.count() == ACCOUNTS


@pytest.mark.long
@pytest.mark.usefixtures("quick", "exchange")
@pytest.mark.django_db(transaction=True)
def test_run__a_follower_that_fails_is_started_again_with_growing_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("bad", "good"):
        ExchangeAccountFactory(name=name)
    starts: list[float] = []

    async def events(name: str) -> AsyncGenerator[StreamEvent, None]:
        if name == "bad":
            starts.append(clock.monotonic())
            raise RuntimeError("a fault of ours")
        yield Connected(clock.now())
        await asyncio.sleep(3600)

    script(monkeypatch, events)
    monkeypatch.setattr(StreamApplier, "look_again", lambda live: None)

    async def story() -> None:
        listening = listener.Listener()
        running = asyncio.create_task(listening.run())
        await until(lambda: len(starts) >= 4)
        good = StreamState.objects.filter(account__name="good", in_sync_since__isnull=False)
        await until(good.exists)
        listening.stop()
        await running

    asyncio.run(story())
    pauses = [after - before for before, after in pairwise(starts)]
    assert pauses[0] < pauses[1] < pauses[2]


@pytest.mark.usefixtures("quick", "exchange")
@pytest.mark.django_db(transaction=True)
def test_run__an_unforeseen_error_of_a_catch_up_does_not_end_the_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ExchangeAccountFactory(name="demo")
    connects, tries = [], iter(range(100))
    connected = StreamApplier.connected

    async def events(_: str) -> AsyncGenerator[StreamEvent, None]:
        connects.append(1)
        yield Connected(clock.now())
        await asyncio.sleep(3600)

    def stumble(live: StreamApplier, at: Any) -> None:
        if next(tries) == 0:
            raise KeyError("a fault of ours")
        connected(live, at)

    script(monkeypatch, events)
    monkeypatch.setattr(StreamApplier, "connected", stumble)
    monkeypatch.setattr(StreamApplier, "look_again", lambda live: None)

    async def story() -> None:
        listening = listener.Listener()
        running = asyncio.create_task(listening.run())
        await until(StreamState.objects.filter(in_sync_since__isnull=False).exists)
        listening.stop()
        await running

    asyncio.run(story())
    assert len(connects) == 1


@pytest.mark.django_db
def test_enabled_accounts__a_disabled_one_with_unfinished_orders_is_followed() -> None:
    account = ExchangeAccountFactory(name="demo", is_enabled=False)
    listening = listener.Listener()
    assert not listening._enabled_accounts()
    Order.objects.create(
        account=account, intent_id="i-1", symbol="BTCUSDT", side="BUY", order_type="MARKET",
        quantity=1, status="NEW",
    )  # fmt: skip
    assert set(listening._enabled_accounts()) == {account.pk}
    Order.objects.update(status="CANCELED")
    assert not listening._enabled_accounts()


@pytest.mark.django_db
def test_store_states__a_stream_in_sync_keeps_balances_fresh() -> None:
    old = clock.now() - timedelta(hours=1)
    live, lost = [
        StreamApplier(ExchangeAccountFactory(name=name, balances_synced_at=old))
        for name in ("live", "lost")
    ]
    live._write(connected_since=old, in_sync_since=old, reason="")
    lost._write(connected_since=None, in_sync_since=None, reason="gone")
    StreamState.objects.update(alive_at=old, in_sync_since=None)
    store_states([live, lost])
    state = StreamState.objects.get(account__name="live")
    assert state.is_healthy(clock.now())
    assert not StreamState.objects.get(account__name="lost").is_healthy(clock.now())
    fresh = AccountSync.objects.filter(balances_synced_at__gt=old)
    assert [row.account.name for row in fresh] == ["live"]
