"""The private stream against a server that misbehaves, and the reading of its events."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from exchanges import clock
from exchanges.binance import user_stream
from exchanges.binance.ccxt_clients import stream_client
from exchanges.binance.json_fields import Malformed
from exchanges.binance.stream_messages import (
    Bad,
    BalanceDelta,
    BalancesEvent,
    Connected,
    Disconnected,
    Ended,
    ExecutionReport,
    ListStatus,
    StreamEvent,
    Terminated,
    read_event,
)
from exchanges.binance.user_stream import ConnectionBudget, UserStream, _Connection
from exchanges.errors import AccountError, OutcomeUnknown
from exchanges.models import ExchangeAccount
from exchanges.types import ReportSource, Side
from tests.exchanges.binance import binance_answers as binance
from tests.exchanges.binance.raw_server import RawServer, answer, closed_port, silence
from tests.exchanges.binance.ws_server import Peer, Script, ScriptedWebSocketServer

pytestmark = pytest.mark.usefixtures("without_limits")
API_KEY = "SENTINEL-KEY-b1946ac92492d2347c6235b4d2611184"
API_SECRET = "SENTINEL-SECRET-591785b794601e212b260e25925636fd"
PLACED_AT = datetime(2026, 2, 2, 2, 40, 0, 123_000, tzinfo=UTC)
TRADED_AT = datetime(2026, 2, 2, 2, 40, 1, tzinfo=UTC)

Serve = Callable[..., ScriptedWebSocketServer]


@pytest.fixture
def rest() -> Iterator[RawServer]:
    server = RawServer([answer(500)])
    yield server
    server.stop()


@pytest.fixture
def account(rest: RawServer, monkeypatch: pytest.MonkeyPatch) -> ExchangeAccount:
    monkeypatch.setenv("EXCHANGE_STREAM_API_KEY", API_KEY)
    monkeypatch.setenv("EXCHANGE_STREAM_API_SECRET", API_SECRET)
    monkeypatch.setenv("EXCHANGE_STREAM_REST_URL", rest.url)
    return ExchangeAccount(name="stream", environment="simulator")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    servers: list[ScriptedWebSocketServer] = []

    def start(*scripts: Script, autoping: bool = True) -> ScriptedWebSocketServer:
        server = ScriptedWebSocketServer(*scripts, autoping=autoping)
        servers.append(server)
        monkeypatch.setenv("EXCHANGE_STREAM_WS_URL", server.url)
        return server

    yield start
    for server in servers:
        server.stop()


def stream(account: ExchangeAccount, **options: Any) -> UserStream:
    quick: dict[str, Any] = {
        "first_pause_seconds": 0.01,
        "budget": ConnectionBudget(),
        "silence_seconds": 20.0,
    }
    return UserStream(account, **{**quick, **options})


def take(user_stream: UserStream, count: int, *, seconds: float = 20.0) -> list[StreamEvent]:
    """The first events, or fewer if the stream ends."""

    async def collect() -> list[StreamEvent]:
        found: list[StreamEvent] = []
        async with aclosing(user_stream.events()) as events:
            async for event in events:
                found.append(event)
                if len(found) == count:
                    break
        return found

    return asyncio.run(asyncio.wait_for(collect(), seconds))


def kinds(events: list[StreamEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


async def healthy(peer: Peer) -> None:
    await peer.confirm()
    await peer.send_event(binance.execution_report())
    await peer.stay()


def deposit(delta: str = "1.5") -> dict[str, Any]:
    return {
        "e": "balanceUpdate",
        "E": binance.PLACED_AT,
        "a": "BTC",
        "d": delta,
        "T": binance.PLACED_AT,
    }


# -- a healthy stream ----------------------------------------------------------------------------


def test_events__begin_with_the_subscription(
    account: ExchangeAccount, rest: RawServer, serve: Serve
) -> None:
    rest.clock_offset_ms = 3_600_000
    requests: list[dict[str, Any]] = []

    async def script(peer: Peer) -> None:
        requests.append(await peer.confirm())
        await peer.send_event(binance.execution_report())
        await peer.stay()

    serve(script)
    started = clock.now()
    connected, order = take(stream(account), 2)
    assert isinstance(connected, Connected)
    assert started <= connected.subscribed_at <= clock.now()
    assert isinstance(order, ExecutionReport)
    (request,) = requests
    signed = dict(request["params"])
    signature = signed.pop("signature")
    payload = "&".join(f"{name}={signed[name]}" for name in sorted(signed))
    assert request["method"] == "userDataStream.subscribe.signature"
    assert signature == hmac.new(API_SECRET.encode(), payload.encode(), hashlib.sha256).hexdigest()
    assert (signed["apiKey"], signed["recvWindow"]) == (API_KEY, 5000)
    assert abs(signed["timestamp"] - clock.now_ms() - 3_600_000) < 5000


def test_subscribe__signs_after_it_has_connected(
    account: ExchangeAccount, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred streams that start together take longer to connect than a signature is good for."""
    order: list[str] = []
    make, ask = stream_client, user_stream._exchange_time_ms

    def noted(name: str, call: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def wrapped(argument: Any) -> Any:
            order.append(name)
            return call(argument)

        return wrapped

    monkeypatch.setattr(user_stream, "stream_client", noted("connect", make))
    monkeypatch.setattr(user_stream, "_exchange_time_ms", noted("sign", ask))
    serve(healthy)
    take(stream(account), 1)
    assert order == ["connect", "sign"]


def test_events__keep_their_order_and_miss_none(account: ExchangeAccount, serve: Serve) -> None:
    async def script(peer: Peer) -> None:
        await peer.confirm()
        for number in range(500):
            await peer.send_event(deposit(f"{number}.0"))
        await peer.stay()

    serve(script)
    _, *events = take(stream(account), 501)
    assert [event.delta for event in events if isinstance(event, BalanceDelta)] == [
        Decimal(n) for n in range(500)
    ]


def test_events__that_arrived_before_the_end_are_told_before_it(
    account: ExchangeAccount, serve: Serve
) -> None:
    async def script(peer: Peer) -> None:
        await peer.confirm()
        for number in range(3):
            await peer.send_event(deposit(f"{number}.0"))
        await peer.socket.close()

    serve(script, healthy)
    assert kinds(take(stream(account), 6)) == [
        "Connected",
        "BalanceDelta",
        "BalanceDelta",
        "BalanceDelta",
        "Disconnected",
        "Connected",
    ]


@pytest.mark.parametrize(
    "frame",
    [
        "{half a frame",
        "no JSON at all",
        "[]",
        "null",
        "[" * 100_000,
        '{"event": {}}',
        '{"event": {"e": "somethingNew"}}',
        '{"event": {"e": "balanceUpdate", "E": NaN}}',
        '{"id": "stranger", "status": 200, "result": {}}',
    ],
    ids=lambda frame: frame[:30],
)
def test_events__a_bad_one_is_told_and_the_next_is_read(
    account: ExchangeAccount, serve: Serve, frame: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.confirm()
        await peer.send(frame)
        await peer.send_event(deposit())
        await peer.stay()

    serve(script)
    _, bad, after = take(stream(account), 3)
    assert isinstance(bad, Bad)
    assert bad.raw == frame[:10_000]
    assert bad.error
    assert isinstance(after, BalanceDelta)


# -- ends and refusals ---------------------------------------------------------------------------


async def close_politely(peer: Peer) -> None:
    await peer.confirm()
    await peer.socket.close()


async def cut(peer: Peer) -> None:
    await peer.confirm()
    await peer.cut()


async def terminate(peer: Peer) -> None:
    await peer.confirm()
    await peer.send_event({"e": "eventStreamTerminated", "E": binance.PLACED_AT})
    await peer.stay()


async def shut_down(peer: Peer) -> None:
    await peer.confirm()
    await peer.send({"event": {"e": "serverShutdown", "E": binance.PLACED_AT}})
    await peer.stay()


async def cut_while_subscribing(peer: Peer) -> None:
    await peer.receive()
    await peer.cut()


async def refuse_for_load(peer: Peer) -> None:
    await peer.refuse(503, -1008, "Server is currently overloaded with other requests.")


async def refuse_strangely(peer: Peer) -> None:
    frame = await peer.receive()
    await peer.send({"id": frame["id"], "status": "four hundred", "error": {"code": "x"}})


@pytest.mark.parametrize(
    ("script", "subscribed", "reason"),
    [
        (close_politely, True, "closing code 1000"),
        (cut, True, "closing code 1006"),
        (terminate, True, "eventStreamTerminated"),
        (shut_down, True, "serverShutdown"),
        (cut_while_subscribing, False, "closing code 1006"),
        (refuse_for_load, False, "overloaded"),
        (refuse_strangely, False, "without an explanation"),
    ],
)
def test_events__go_on_after_the_connection_ended(
    account: ExchangeAccount, serve: Serve, script: Script, subscribed: bool, reason: str
) -> None:
    serve(script, healthy)
    events = take(stream(account), 4 if subscribed else 3)
    assert kinds(events) == [
        *(["Connected"] if subscribed else []),
        "Disconnected",
        "Connected",
        "ExecutionReport",
    ]
    (end,) = [event for event in events if isinstance(event, Disconnected)]
    assert reason in end.reason


@pytest.mark.parametrize(
    ("status", "code", "text"),
    [
        (401, -2015, "Invalid API-key, IP, or permissions for action."),
        (400, -1022, "Signature for this request is not valid."),
        (400, -2014, "API-key format invalid."),
    ],
)
def test_events__end_when_the_key_is_refused(
    account: ExchangeAccount, serve: Serve, status: int, code: int, text: str
) -> None:
    server = serve(lambda peer: peer.refuse(status, code, text))
    assert take(stream(account), 99) == [Terminated(text, code)]
    assert server.connections == 1


def test_events__end_when_the_key_is_revoked_in_mid_stream(
    account: ExchangeAccount, serve: Serve
) -> None:
    async def script(peer: Peer) -> None:
        await peer.confirm()
        await peer.send(
            {
                "id": None,
                "status": 401,
                "error": {"code": -2015, "msg": "Invalid API-key, IP, or permissions."},
            }
        )
        await peer.stay()

    serve(script)
    assert kinds(take(stream(account), 99)) == ["Connected", "Terminated"]


def test_events__end_when_a_credential_is_missing(
    account: ExchangeAccount, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(healthy)
    monkeypatch.delenv("EXCHANGE_STREAM_API_KEY")
    (end,) = take(stream(account), 99)
    assert isinstance(end, Terminated)
    assert "EXCHANGE_STREAM_API_KEY" in end.reason


def test_events__a_limit_is_respected(account: ExchangeAccount, serve: Serve) -> None:
    async def limited(peer: Peer) -> None:
        await peer.refuse(429, -1003, "Too many requests.", retryAfter=clock.now_ms() + 700_000)

    serve(limited)
    (event,) = take(stream(account), 1)
    assert isinstance(event, Disconnected)
    assert 680 < event.retry_in <= 700


def test_events__a_refused_timestamp_is_measured_anew(
    account: ExchangeAccount, rest: RawServer, serve: Serve
) -> None:
    serve(
        lambda peer: peer.refuse(
            400, -1021, "Timestamp for this request is outside of the recvWindow."
        ),
        healthy,
    )
    assert kinds(take(stream(account), 3)) == ["Disconnected", "Connected", "ExecutionReport"]
    assert rest.time_requests == 2


def test_events__without_the_exchanges_time_it_is_tried_again(
    account: ExchangeAccount, rest: RawServer, serve: Serve
) -> None:
    serve(healthy)
    rest.time_behavior = answer(503)
    (event,) = take(stream(account), 1)
    assert isinstance(event, Disconnected)
    assert "clock" in event.reason


def test_events__a_refused_connection_is_tried_again(
    account: ExchangeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXCHANGE_STREAM_WS_URL", f"ws://127.0.0.1:{closed_port()}/ws-api/v3")
    assert kinds(take(stream(account), 3)) == ["Disconnected"] * 3


def test_events__a_refused_handshake_is_tried_again_when_it_may(
    account: ExchangeAccount, rest: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest.then(answer(429, "slow down", headers={"Retry-After": "77"}))
    monkeypatch.setenv("EXCHANGE_STREAM_WS_URL", rest.url.replace("http", "ws"))
    (event,) = take(stream(account), 1)
    assert isinstance(event, Disconnected)
    assert event.retry_in == 77


# -- silence -------------------------------------------------------------------------------------


@pytest.mark.long
def test_events__an_unanswered_subscription_is_given_up(
    account: ExchangeAccount, serve: Serve
) -> None:
    serve(lambda peer: peer.stay(), healthy)
    first, second, _ = take(stream(account, answer_seconds=1.0), 3)
    assert isinstance(first, Disconnected)
    assert "not answered within 1 s" in first.reason
    assert isinstance(second, Connected)


@pytest.mark.long
def test_events__an_unanswered_handshake_is_given_up(
    account: ExchangeAccount, rest: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest.then(silence)
    monkeypatch.setenv("EXCHANGE_STREAM_WS_URL", rest.url.replace("http", "ws"))
    (event,) = take(stream(account, answer_seconds=1.0), 1)
    assert isinstance(event, Disconnected)


def test_events__silence_is_a_dead_connection(account: ExchangeAccount, serve: Serve) -> None:
    # autoping off: like a dead peer, the server does not even answer the closing handshake
    serve(healthy, healthy, autoping=False)
    _, _, dead, again, _ = take(stream(account, silence_seconds=0.5), 5)
    assert isinstance(dead, Disconnected)
    assert "nothing heard for 0.5 s" in dead.reason
    assert isinstance(again, Connected)


@pytest.mark.long
def test_events__a_ping_is_a_sign_of_life(account: ExchangeAccount, serve: Serve) -> None:
    async def quiet_but_alive(peer: Peer) -> None:
        await peer.confirm()
        for _ in range(15):
            await peer.socket.ping(b"1")
            await asyncio.sleep(0.1)
        await peer.send_event(deposit())
        await peer.stay()

    serve(quiet_but_alive)
    assert kinds(take(stream(account, silence_seconds=1.0), 2)) == ["Connected", "BalanceDelta"]


def test_events__a_reader_that_was_held_up_reads_on(account: ExchangeAccount, serve: Serve) -> None:
    """Its own pause, a stopped process say, is not the exchange's silence."""
    held_up = threading.Event()

    async def script(peer: Peer) -> None:
        await peer.confirm()
        await asyncio.to_thread(held_up.wait, 10)
        await peer.send_event(deposit())
        await peer.stay()

    server = serve(script)

    async def run() -> list[StreamEvent]:
        found: list[StreamEvent] = []
        async with aclosing(stream(account, silence_seconds=0.3).events()) as events:
            async for event in events:
                found.append(event)
                if isinstance(event, Connected):
                    held_up.set()
                    time.sleep(0.5)  # noqa: ASYNC251  the loop is what is held up
                else:
                    break
        return found

    assert kinds(asyncio.run(run())) == ["Connected", "BalanceDelta"]
    assert server.connections == 1


# -- pauses --------------------------------------------------------------------------------------


def test_pauses__grow_are_jittered_and_capped(account: ExchangeAccount) -> None:
    user_stream = stream(
        account, first_pause_seconds=0.5, longest_pause_seconds=30.0, jitter=random.Random(1)
    )
    pauses = [user_stream._next_pause(OutcomeUnknown("gone")) for _ in range(12)]
    for pause, full in zip(pauses, [0.5, 1, 2, 4, 8, 16, *[30] * 6], strict=True):
        assert full / 2 <= pause <= full
    assert len(set(pauses)) == 12


async def cut_at_once(peer: Peer) -> None:
    await peer.confirm()


@pytest.mark.long
def test_events__pauses_grow_while_connections_are_cut_as_soon_as_they_are_made(
    account: ExchangeAccount, serve: Serve
) -> None:
    serve(cut_at_once)
    pauses = [
        event.retry_in for event in take(stream(account), 14) if isinstance(event, Disconnected)
    ]
    for pause, full in zip(pauses, [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64], strict=True):
        assert full / 2 <= pause <= full


@pytest.mark.long
def test_events__pauses_begin_anew_after_a_connection_that_lived(
    account: ExchangeAccount, serve: Serve
) -> None:
    async def cut_later(peer: Peer) -> None:
        await peer.confirm()
        await asyncio.sleep(1.05)

    serve(cut_at_once, cut_at_once, cut_at_once, cut_later)
    events = take(stream(account, longest_pause_seconds=1.0), 8)
    pauses = [event.retry_in for event in events if isinstance(event, Disconnected)]
    assert pauses[2] >= 0.02
    assert pauses[3] <= 0.01


def test_connection_budget__stays_well_under_the_exchanges_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    budget = ConnectionBudget()
    made: list[float] = []
    for _ in range(1000):
        now += budget.take()
        made.append(now)
        now += 0.01
    for index in range(len(made) - 101):
        assert made[index + 100] - made[index] >= 299.9


# -- secrets and cleaning up ---------------------------------------------------------------------


def test_events__tell_no_secret(
    account: ExchangeAccount, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    signatures: list[str] = []

    async def repeats(peer: Peer) -> None:
        frame = await peer.receive()
        signatures.append(frame["params"]["signature"])
        text = f"refused apiKey={API_KEY} signature={signatures[-1]} secret={API_SECRET}"
        await peer.send({"id": frame["id"], "status": 400, "error": {"code": -1102, "msg": text}})

    serve(repeats, cut_while_subscribing, healthy)
    told = [repr(event) for event in take(stream(account), 4)]
    told += [str(vars(record)) for record in caplog.records]
    for secret in (API_KEY, API_SECRET, *signatures):
        assert not [text for text in told if secret in text]


def test_events__leave_nothing_open(
    account: ExchangeAccount, serve: Serve, recwarn: pytest.WarningsRecorder
) -> None:
    serve(close_politely, cut, healthy)

    async def run() -> set[asyncio.Task[Any]]:
        before = asyncio.all_tasks()
        async with aclosing(stream(account).events()) as events:
            async for event in events:
                if isinstance(event, ExecutionReport):
                    break
        return asyncio.all_tasks() - before

    assert asyncio.run(asyncio.wait_for(run(), 20)) == set()
    assert [str(warning.message) for warning in recwarn if "nclosed" in str(warning.message)] == []


def test_events__a_canceled_reader_ends_at_once(account: ExchangeAccount, serve: Serve) -> None:
    serve(healthy, autoping=False)

    async def run() -> float:
        connected = asyncio.Event()

        async def read() -> None:
            async with aclosing(stream(account).events()) as events:
                async for _ in events:
                    connected.set()

        task = asyncio.create_task(read())
        await asyncio.wait_for(connected.wait(), 10)
        started = clock.monotonic()
        task.cancel()
        await asyncio.wait({task}, timeout=10)
        assert task.cancelled()
        return clock.monotonic() - started

    assert asyncio.run(run()) < 4


# -- reading events ------------------------------------------------------------------------------


def order_event(**changes: Any) -> ExecutionReport:
    event = read_event(binance.execution_report(**changes))
    assert isinstance(event, ExecutionReport)
    return event


def test_read_event__a_trade_is_a_report_with_its_fill() -> None:
    event = order_event()
    report = event.report
    assert (report.source, report.execution_type, report.status) == (
        ReportSource.STREAM,
        "TRADE",
        "PARTIALLY_FILLED",
    )
    assert (report.symbol, report.client_order_id, report.exchange_order_id) == (
        "BTCUSDT",
        binance.CLIENT_ORDER_ID,
        "28",
    )
    assert (report.quantity, report.price) == (Decimal("0.003"), Decimal("60000.1"))
    assert (report.filled_quantity, report.filled_quote_quantity) == (
        Decimal("0.001"),
        Decimal("60.0001"),
    )
    assert (report.updated_at, report.created_at) == (TRADED_AT, PLACED_AT)
    assert (report.reason, report.stop_price, report.quote_quantity) == ("", None, None)
    assert (event.execution_id, event.event_at) == ("8641984", TRADED_AT.replace(microsecond=1000))
    (fill,) = report.fills
    assert {field.name: getattr(fill, field.name) for field in fields(fill)} == {
        "symbol": "BTCUSDT",
        "trade_id": "56",
        "exchange_order_id": "28",
        "side": Side.BUY,
        "quantity": Decimal("0.001"),
        "price": Decimal("60000.1"),
        "quote_quantity": Decimal("60.0001"),
        "commission": Decimal("0.000001"),
        "commission_asset": "BTC",
        "is_maker": False,
        "traded_at": TRADED_AT,
        "client_order_id": binance.CLIENT_ORDER_ID,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"x": "NEW", "X": "NEW", "t": -1, "l": "0.00000000", "N": None, "n": "0"},
        {"t": -1, "l": "0.00000000"},
        {"t": 57, "l": "0.00000000"},
        {"t": -1},
        {"x": "TRADE_PREVENTION", "X": "EXPIRED_IN_MATCH", "t": -1, "l": "0.00000000"},
        {"x": "EXPIRED", "X": "EXPIRED", "t": -1, "l": "0.00000000", "L": "0.00000000"},
    ],
)
def test_read_event__what_is_no_trade_has_no_fill(changes: dict[str, Any]) -> None:
    assert order_event(**changes).report.fills == ()


def test_read_event__a_trade_without_commission_asset_is_a_fill() -> None:
    (fill,) = order_event(N=None, n="0").report.fills
    assert (fill.commission, fill.commission_asset) == (Decimal(0), "")


@pytest.mark.parametrize(
    ("execution_type", "c", "original", "expected"),
    [
        ("NEW", "mine", "", "mine"),
        ("TRADE", "mine", "", "mine"),
        ("CANCELED", "of-the-request", "mine", "mine"),
        ("CANCELED", "mine", "", "mine"),
        ("REJECTED", "of-the-request", "mine", "mine"),
        ("REPLACED", "new-id", "old-id", "new-id"),
    ],
)
def test_read_event__names_the_orders_own_client_id(
    execution_type: str, c: str, original: str, expected: str
) -> None:
    assert order_event(x=execution_type, c=c, C=original).report.client_order_id == expected


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"r": "NONE"}, ""),
        ({"r": "NONE", "eR": "NONE"}, ""),
        ({"r": "INSUFFICIENT_BALANCES"}, "INSUFFICIENT_BALANCES"),
        ({"r": "NONE", "eR": "INSUFFICIENT_LIQUIDITY"}, "INSUFFICIENT_LIQUIDITY"),
        ({"r": "WOULD_MATCH_IMMEDIATELY", "eR": "REJECTED"}, "WOULD_MATCH_IMMEDIATELY"),
    ],
)
def test_read_event__gives_the_reason_that_there_is(changes: dict[str, Any], reason: str) -> None:
    assert order_event(**changes).report.reason == reason


def test_read_event__words_that_we_do_not_know_pass_through() -> None:
    report = order_event(x="SOMETHING", X="WHATEVER", o="NEW_TYPE", f="GTX").report
    assert (report.execution_type, report.status, report.order_type, report.time_in_force) == (
        "SOMETHING",
        "WHATEVER",
        "NEW_TYPE",
        "GTX",
    )


def test_read_event__a_refused_order_may_have_no_number() -> None:
    report = order_event(x="REJECTED", X="REJECTED", i=-1, O=-1).report
    assert (report.exchange_order_id, report.created_at) == ("", None)


def test_read_event__an_unavailable_quote_quantity_is_none() -> None:
    assert order_event(Z="-1.00000000").report.filled_quote_quantity is None


@pytest.mark.parametrize(
    "changes",
    [
        {"i": None},
        {"q": True},
        {"z": "NaN"},
        {"X": None},
        {"S": "HOLD"},
        {"T": "soon"},
        {"c": ""},
    ],
    ids=str,
)
def test_read_event__a_malformed_report_is_told(changes: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        order_event(**changes)


def test_read_event__balances_are_absolute() -> None:
    event = read_event(
        {
            "e": "outboundAccountPosition",
            "E": binance.PLACED_AT + 877,
            "u": binance.PLACED_AT,
            "B": [{"a": "BTC", "f": "1.00000000", "l": "0.25000000"}],
        }
    )
    assert isinstance(event, BalancesEvent)
    (row,) = event.balances
    assert (row.asset, row.free, row.locked, row.updated_at) == (
        "BTC",
        Decimal(1),
        Decimal("0.25"),
        PLACED_AT,
    )
    assert event.event_at == TRADED_AT


@pytest.mark.parametrize("kind", ["balanceUpdate", "externalLockUpdate"])
def test_read_event__deltas_keep_their_sign_and_cause(kind: str) -> None:
    event = read_event({**deposit("-1.5"), "e": kind})
    assert event == BalanceDelta("BTC", Decimal("-1.5"), kind, PLACED_AT, PLACED_AT)


def test_read_event__a_list_has_its_own_status() -> None:
    event = read_event(
        {
            "e": "listStatus",
            "E": binance.PLACED_AT,
            "s": "ETHBTC",
            "g": 2,
            "c": "OCO",
            "l": "EXEC_STARTED",
            "L": "EXECUTING",
            "r": "NONE",
            "C": "list-id",
            "T": binance.PLACED_AT,
            "O": [],
        }
    )
    assert isinstance(event, ListStatus)
    assert (event.symbol, event.order_list_id, event.status, event.order_status) == (
        "ETHBTC",
        "2",
        "EXEC_STARTED",
        "EXECUTING",
    )


@pytest.mark.parametrize("kind", ["eventStreamTerminated", "serverShutdown", "listenKeyExpired"])
def test_read_event__ends_are_told(kind: str) -> None:
    assert read_event({"e": kind, "E": binance.PLACED_AT}) == Ended(kind)


def test_next_events__those_that_wait_come_together_and_an_end_after_them(
    account: ExchangeAccount,
) -> None:
    connection = _Connection(account, silence_seconds=20.0, answer_seconds=10.0)
    event = json.dumps({"event": binance.execution_report()})
    refusal = json.dumps({"status": 401, "error": {"code": -2015, "msg": "Invalid API-key."}})

    async def story() -> tuple[list[str], list[str]]:
        connection._inbox.put_nowait(event)
        alone = await connection.next_events()
        for text in (event, "no JSON", event, refusal, event):
            connection._inbox.put_nowait(text)
        group = await connection.next_events()
        with pytest.raises(AccountError):
            await connection.next_events()
        return kinds(alone), kinds(group)

    assert asyncio.run(story()) == (
        ["ExecutionReport"],
        ["ExecutionReport", "Bad", "ExecutionReport"],
    )
