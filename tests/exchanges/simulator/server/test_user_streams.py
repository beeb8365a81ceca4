"""Test user data streams: subscriptions, events, the life of a connection, and faults."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

import aiohttp
import pytest

from exchanges.simulator.client import ControlClient
from exchanges.simulator.server.server import ThreadedSimulator
from exchanges.simulator.server.user_streams import HARD_LIMIT, Outbox
from tests.exchanges.simulator.conftest import RawClient
from tests.exchanges.simulator.exchange.test_keys import PRIVATE_KEYS, public_pem
from tests.exchanges.simulator.server.wsclient import WsClient, connect, error_of, run, sign_params

# ------------------------------------------------------------------------------------------- stream


def test_subscribe__in_a_session(sim: ThreadedSimulator, control: ControlClient) -> None:
    private = PRIVATE_KEYS[0]
    control.add_key("main", "ed-key", public_pem(private))

    async def scenario(client: WsClient) -> None:
        assert error_of(await client.ask("userDataStream.subscribe")) == (401, -2015)
        await client.ask("session.logon", sign_params({}, "ed-key", private))
        assert (await client.ask("userDataStream.subscribe"))["result"] == {"subscriptionId": 0}
        assert (await client.ask("session.status"))["result"]["userDataStream"] is True
        assert error_of(await client.ask("userDataStream.subscribe")) == (400, -2035)
        await client.ask("session.logout")
        assert (await client.event())["event"]["e"] == "eventStreamTerminated"
        assert (await client.ask("session.subscriptions"))["result"] == []

    run(sim, scenario)


def test_subscribe__by_signature_for_several_accounts(
    sim: ThreadedSimulator, control: ControlClient
) -> None:
    control.add_account("second", {"USDT": "1000"}, api_key="k2", api_secret="s2")

    async def scenario(client: WsClient) -> None:
        first = await client.signed("userDataStream.subscribe.signature")
        assert first["result"] == {"subscriptionId": 0}
        assert error_of(await client.signed("userDataStream.subscribe.signature")) == (400, -2035)
        assert (await client.ask("session.status"))["result"]["userDataStream"] is True
        second = await client.ask("userDataStream.subscribe.signature", sign_params({}, "k2", "s2"))
        assert second["result"] == {"subscriptionId": 1}
        assert (await client.ask("session.subscriptions"))["result"] == [
            {"subscriptionId": 0},
            {"subscriptionId": 1},
        ]
        control.deposit("USDT", "5", account="second")
        event = await client.event()
        assert event["subscriptionId"] == 1
        assert event["event"]["e"] == "balanceUpdate"
        assert (await client.ask("userDataStream.unsubscribe", {"subscriptionId": 1}))[
            "result"
        ] == {}
        assert error_of(await client.ask("userDataStream.unsubscribe", {"subscriptionId": 1})) == (
            400,
            -2036,
        )
        assert (await client.ask("userDataStream.unsubscribe"))["result"] == {}
        assert error_of(await client.ask("userDataStream.unsubscribe")) == (400, -2036)

    run(sim, scenario)


EXECUTION_KEYS = set("eEscSofqpPFgCxXrilzLnNTtIwmMOZYQV")


def test_events__of_an_orders_life(sim: ThreadedSimulator, control: ControlClient) -> None:
    async def scenario(client: WsClient) -> None:
        await client.signed("userDataStream.subscribe.signature")
        placed = (await client.place(newClientOrderId="a"))["result"]
        new = await client.event_of("executionReport")
        assert set(new) == EXECUTION_KEYS | {"W"}
        assert (new["x"], new["X"], new["c"], new["C"], new["i"]) == (
            "NEW",
            "NEW",
            "a",
            "",
            placed["orderId"],
        )
        assert (new["t"], new["N"], new["n"], new["w"]) == (-1, None, "0", True)
        position = await client.event_of("outboundAccountPosition")
        assert {row["a"]: row for row in position["B"]}["USDT"] == {
            "a": "USDT",
            "f": "99500.00000000",
            "l": "500.00000000",
        }
        control.fill("BTCUSDT", client_order_id="a", quantity="0.004")
        trade = await client.event_of("executionReport")
        assert (trade["x"], trade["X"], trade["l"], trade["z"]) == (
            "TRADE",
            "PARTIALLY_FILLED",
            "0.00400000",
            "0.00400000",
        )
        assert (trade["L"], trade["Y"], trade["m"], trade["N"]) == (
            "50000.00000000",
            "200.00000000",
            True,
            "BTC",
        )
        assert trade["t"] > 0
        cancel = {"symbol": "BTCUSDT", "origClientOrderId": "a", "newClientOrderId": "a-cancel"}
        await client.signed("order.cancel", **cancel)
        canceled = await client.event_of("executionReport")
        assert (canceled["x"], canceled["X"], canceled["c"], canceled["C"]) == (
            "CANCELED",
            "CANCELED",
            "a-cancel",
            "a",
        )
        assert canceled["I"] > trade["I"] > new["I"]

    run(sim, scenario)


def test_events__conditional_fields_only_when_due(
    sim: ThreadedSimulator, control: ControlClient
) -> None:
    async def scenario(client: WsClient) -> None:
        await client.signed("userDataStream.subscribe.signature")
        stop = {"side": "SELL", "type": "STOP_LOSS_LIMIT", "price": "49000", "stopPrice": "49500"}
        await client.place(**stop, strategyId=7, strategyType=1000000)
        new = await client.event_of("executionReport")
        assert (new["j"], new["J"], new["P"], new["w"]) == (7, 1000000, "49500.00000000", False)
        assert "W" not in new
        control.expire("BTCUSDT", new["i"])
        assert (await client.event_of("executionReport"))["eR"] == "EXCHANGE_CANCELED"
        await client.place(newClientOrderId="rest")
        await client.event_of("executionReport")
        await client.place(side="SELL", price="50000", selfTradePreventionMode="EXPIRE_TAKER")
        events = [await client.event_of("executionReport") for _ in range(2)]
        prevented = events[-1]
        assert (prevented["x"], prevented["X"]) == ("TRADE_PREVENTION", "EXPIRED_IN_MATCH")
        assert {"v", "A", "B", "u", "U", "Cs", "pl", "pL", "pY"} <= set(prevented)

    run(sim, scenario)


def test_events__of_money_from_outside(sim: ThreadedSimulator, control: ControlClient) -> None:
    async def scenario(client: WsClient) -> None:
        await client.signed("userDataStream.subscribe.signature")
        control.withdraw("USDT", "25")
        update = await client.event_of("balanceUpdate")
        assert (update["a"], update["d"]) == ("USDT", "-25.00000000")
        control.lock("USDT", "10")
        lock = await client.event_of("externalLockUpdate")
        assert set(lock) == {"e", "E", "a", "d", "T"}
        assert lock["d"] == "10.00000000"

    run(sim, scenario)


def test_events__server_shutdown_and_close(sim: ThreadedSimulator, control: ControlClient) -> None:
    async def scenario(client: WsClient) -> None:
        await client.ask("ping")
        control.announce_shutdown(close_after=0.05)
        event = await client.event()
        assert (event["event"]["e"], set(event)) == ("serverShutdown", {"event"})
        assert await client.closed_with() == 1001

    run(sim, scenario)


# --------------------------------------------------------------------------------------- connection


@pytest.mark.long
def test_ping__is_sent_and_its_absence_of_pong_closes(
    sim: ThreadedSimulator, control: ControlClient
) -> None:
    control.settings(ping_seconds=0.1, pong_seconds=0.4)

    async def silent(client: WsClient) -> None:
        kinds = [(await client.socket.receive(timeout=5)).type for _ in range(2)]
        assert kinds == [aiohttp.WSMsgType.PING] * 2
        # An unsolicited pong doesn't keep the connection open.
        await client.socket.pong(b"unsolicited")
        assert await client.closed_with() == 1008

    async def answering(client: WsClient) -> None:
        await asyncio.sleep(0.8)
        assert (await client.ask("ping"))["status"] == 200

    run(sim, silent, autoping=False)

    async def both() -> None:
        async with connect(sim.ws_url) as client:
            reader = asyncio.create_task(
                client.socket.receive()
            )  # aiohttp answers pings while it reads
            await asyncio.sleep(0.8)
            assert not reader.done()
            reader.cancel()

    asyncio.run(both())


def test_outbox__a_client_that_never_reads_is_cut_off() -> None:
    class Stuck:
        async def send_str(self, _frame: str) -> None:
            await asyncio.Event().wait()

    async def main() -> None:
        ended: list[str] = []
        outbox = Outbox(
            cast(Any, Stuck()), lambda: ended.append("reset"), lambda: ended.append("drop")
        )
        sending = asyncio.create_task(outbox.run())
        await asyncio.sleep(0)
        for _ in range(HARD_LIMIT + 5):
            outbox.put("event")
        assert ended == ["reset"]
        assert outbox.queued < 10
        sending.cancel()

    asyncio.run(main())


def test_close__does_not_wait_for_a_client_that_never_closes(
    sim: ThreadedSimulator, control: ControlClient
) -> None:
    host, port = sim.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            b"GET /ws-api/v3 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert b" 101 " in connection.recv(4096)
        while not control.streams():
            pass
        control.disconnect_streams()
        assert control.streams() == []


def test_connection__ends_after_its_life(sim: ThreadedSimulator, control: ControlClient) -> None:
    control.settings(connection_seconds=0.3)

    async def scenario(client: WsClient) -> None:
        assert await client.closed_with() == 1001

    run(sim, scenario)


# ------------------------------------------------------------------------------------------- faults

STREAM = {"api": "stream", "event": "executionReport"}


@pytest.mark.long
def test_stream_faults__drop_duplicate_reorder_delay(
    sim: ThreadedSimulator, control: ControlClient
) -> None:
    async def scenario(client: WsClient) -> None:
        await client.signed("userDataStream.subscribe.signature")

        async def reports(names: list[str]) -> list[str]:
            client.events.clear()
            for name in names:
                await client.place(newClientOrderId=name)
            seen = []
            while not await client.is_silent(0.6):
                event = (await client.event())["event"]
                if event["e"] == "executionReport":
                    seen.append(event["c"])
            return seen

        control.faults.add("drop_event", match=STREAM)
        assert await reports(["a", "b"]) == ["b"]
        control.faults.add("duplicate", match=STREAM, copies=3)
        assert await reports(["c"]) == ["c", "c", "c"]
        control.faults.script(
            [
                {
                    "match": {**STREAM, "client_order_id_prefix": "d"},
                    "action": "delay",
                    "seconds": 0.15,
                }
            ]
        )
        assert await reports(["d", "e"]) == ["e", "d"]
        control.faults.add("mute", match=STREAM, seconds=0.4)
        assert await reports(["f", "g"]) == []
        assert await reports(["h"]) == ["h"]

    run(sim, scenario)


def test_stream_faults__reorder_swaps_two(sim: ThreadedSimulator, control: ControlClient) -> None:
    async def scenario(client: WsClient) -> None:
        await client.signed("userDataStream.subscribe.signature")
        control.faults.add("reorder", match=STREAM)
        await client.place()
        kinds = [(await client.event())["event"]["e"] for _ in range(2)]
        assert kinds == ["outboundAccountPosition", "executionReport"]

    run(sim, scenario)


async def nothing_comes(client: WsClient) -> bool:
    try:
        message = await client.socket.receive(timeout=0.6)
    except TimeoutError:
        return True
    assert message.type is aiohttp.WSMsgType.PING
    return False


def test_stream_faults__half_open_is_silence(
    sim: ThreadedSimulator, control: ControlClient
) -> None:
    control.settings(ping_seconds=0.1, pong_seconds=60.0)

    async def scenario(client: WsClient) -> None:
        await client.signed("userDataStream.subscribe.signature")
        control.faults.add("half_open", match=STREAM)
        RawClient(sim.url).place()
        # Pings already under way may still arrive, then nothing does.
        while not await nothing_comes(client):
            pass
        assert not client.socket.closed
        assert control.truth().accepted_total() == 1

    run(sim, scenario, autoping=False)


@pytest.mark.parametrize(("action", "code"), [("drop", 1006), ("reset", 1006), ("close", 1001)])
def test_stream_faults__the_connection_ends(
    sim: ThreadedSimulator, control: ControlClient, action: str, code: int
) -> None:
    async def scenario(client: WsClient) -> None:
        await client.signed("userDataStream.subscribe.signature")
        control.faults.add(action, match=STREAM)
        RawClient(sim.url).place()
        assert await client.closed_with() == code

    run(sim, scenario)


def test_stream_faults__slow_consumer_is_cut_off(
    sim: ThreadedSimulator, control: ControlClient
) -> None:
    async def scenario(client: WsClient) -> None:
        await client.signed("userDataStream.subscribe.signature")
        control.faults.add("slow_consumer", match=STREAM, rate=5.0, max_queue=3)
        raw = RawClient(sim.url)
        for _ in range(6):
            raw.place()
        assert await client.closed_with() == 1008

    run(sim, scenario)
