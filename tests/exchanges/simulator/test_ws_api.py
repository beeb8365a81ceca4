"""The WebSocket API as documented: frames, calls, sessions, user data stream, life of a connection."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any, cast

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from exchanges.simulator.client import ControlClient
from exchanges.simulator.server import ThreadedSimulator
from exchanges.simulator.streams import HARD_LIMIT, Outbox
from tests.exchanges.simulator.conftest import RawClient, now_ms
from tests.exchanges.simulator.test_signing import PRIVATE_KEYS, public_pem
from tests.exchanges.simulator.wsclient import WsClient, connect, sign_params

Scenario = Callable[[WsClient], Awaitable[None]]


def run(sim: ThreadedSimulator, scenario: Scenario, *, query: str = "", autoping: bool = True) -> None:
    """One connection, one scenario, in time."""

    async def main() -> None:
        async with connect(sim.ws_url + query, autoping=autoping) as client:
            await asyncio.wait_for(scenario(client), 20)

    asyncio.run(main())


def error_of(frame: dict[str, Any]) -> tuple[int, int]:
    return frame["status"], frame["error"]["code"]


# --------------------------------------------------------------------------------------------- frames


@pytest.mark.parametrize("identity", [1, -7, "e2a85d9f-07a5-4f94-8d5f-789dc3deb097", "", None, 2**53])
def test_id__of_any_documented_kind_is_echoed(sim: ThreadedSimulator, identity: Any) -> None:
    async def scenario(client: WsClient) -> None:
        answer = await client.send({"id": identity, "method": "ping"})
        assert answer["id"] == identity
        assert type(answer["id"]) is type(identity)
        assert (answer["status"], answer["result"]) == (200, {})
        assert answer["rateLimits"][0]["rateLimitType"] == "REQUEST_WEIGHT"

    run(sim, scenario)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("nonsense", -1135),
        ("[]", -1135),
        ("7", -1135),
        ("", -1135),
        ('{"method":"ping"}', -1102),
        ('{"id":1.5,"method":"ping"}', -1102),
        ('{"id":true,"method":"ping"}', -1102),
        ('{"id":{},"method":"ping"}', -1102),
        ('{"id":1}', -1102),
        ('{"id":1,"method":7}', -1102),
        ('{"id":1,"method":"ping","params":[]}', -1135),
        ('{"id":1,"method":"ping","params":{"a":1}}', -1104),
        ('{"id":1,"method":"depth","params":{"symbol":null}}', -1102),
        ('{"id":1,"method":"depth","params":{"symbol":{}}}', -1130),
        ('{"id":1,"method":"depth","params":{"symbol":"A","symbol":"B"}}', -1101),
        ('{"id":1,"method":"no.such.method"}', -1020),
        ('{"id":1,"method":"userDataStream.start","params":{"apiKey":"x"}}', -1020),
        ('{"id":1,"method":"ping","params":{"returnRateLimits":"maybe"}}', -1100),
        ("{" * 5_000, -1135),
        ('{"id":"\\ud800","method":"ping"}', -1135),
        ('{"id":1,"method":"ping","params":{"a":NaN}}', -1135),
        ('{"id":' + "9" * 5_000 + ',"method":"ping"}', -1135),
    ],
)
def test_frame__malformed_ones_are_answered(sim: ThreadedSimulator, text: str, code: int) -> None:
    async def scenario(client: WsClient) -> None:
        await client.socket.send_str(text)
        assert error_of(await client.receive()) == (400, code)
        assert (await client.ask("ping"))["status"] == 200

    run(sim, scenario)


def test_rate_limits__shown_or_hidden(sim: ThreadedSimulator) -> None:
    async def shown(client: WsClient) -> None:
        assert "rateLimits" in await client.ask("time")
        assert "rateLimits" not in await client.ask("time", {"returnRateLimits": False})
        placed = await client.place()
        kinds = [(row["rateLimitType"], row["interval"]) for row in placed["rateLimits"]]
        assert kinds == [("ORDERS", "SECOND"), ("ORDERS", "DAY"), ("REQUEST_WEIGHT", "MINUTE")]

    async def hidden(client: WsClient) -> None:
        assert "rateLimits" not in await client.ask("time")
        assert "rateLimits" in await client.ask("time", {"returnRateLimits": True})

    run(sim, shown)
    run(sim, hidden, query="?returnRateLimits=false")


def test_time_unit__microseconds_by_the_url(sim: ThreadedSimulator) -> None:
    async def scenario(client: WsClient) -> None:
        answer = await client.ask("time")
        assert abs(answer["result"]["serverTime"] - now_ms() * 1000) < 2_000_000

    run(sim, scenario, query="?timeUnit=microsecond")


def test_method__may_carry_its_version(sim: ThreadedSimulator) -> None:
    async def scenario(client: WsClient) -> None:
        assert (await client.ask("v3/ping"))["status"] == 200

    run(sim, scenario)


# ---------------------------------------------------------------------------------------------- calls


def test_calls__the_same_as_rest(sim: ThreadedSimulator, client: RawClient) -> None:
    placed = client.place(newClientOrderId="mine").json()

    async def scenario(socket: WsClient) -> None:
        symbol = {"symbol": "BTCUSDT"}
        pairs = [
            ("depth", "depth", symbol),
            ("ticker.price", "ticker/price", {}),
            ("ticker.book", "ticker/bookTicker", {}),
            ("avgPrice", "avgPrice", symbol),
            ("trades.recent", "trades", symbol),
            ("trades.aggregate", "aggTrades", symbol),
            ("klines", "klines", {**symbol, "interval": "1h"}),
        ]
        for method, path, params in pairs:
            assert (await socket.ask(method, params))["result"] == client.public(path, params).json(), method
        info = await socket.ask("exchangeInfo", {"symbols": ["BTCUSDT", "ETHUSDT"]})
        assert [row["symbol"] for row in info["result"]["symbols"]] == ["BTCUSDT", "ETHUSDT"]
        assert info["result"]["rateLimits"][-1]["rateLimitType"] == "CONNECTIONS"
        for method, path, params in [
            ("order.status", "order", {**symbol, "orderId": placed["orderId"]}),
            ("openOrders.status", "openOrders", symbol),
            ("allOrders", "allOrders", symbol),
            ("myTrades", "myTrades", symbol),
            ("account.status", "account", {}),
            ("account.commission", "account/commission", symbol),
            ("account.rateLimits.orders", "rateLimit/order", {}),
        ]:
            answer = await socket.signed(method, **params)
            assert answer["result"] == client.signed("GET", path, params).json(), method

    run(sim, scenario)


def test_orders__placed_tested_cancelled(sim: ThreadedSimulator, control: ControlClient) -> None:
    async def scenario(client: WsClient) -> None:
        assert (await client.signed("order.test", symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.01"))[
            "result"
        ] == {}
        placed = await client.place(newClientOrderId="a")
        assert placed["result"]["status"] == "NEW"
        assert error_of(await client.place(newClientOrderId="a")) == (400, -2010)
        numbers = await client.place(newClientOrderId="b", quantity=0.01, price=50000, recvWindow=5000.5)
        assert numbers["result"]["origQty"] == "0.01000000"
        cancelled = await client.signed("order.cancel", symbol="BTCUSDT", origClientOrderId="a")
        assert cancelled["result"]["status"] == "CANCELED"
        assert error_of(await client.signed("order.cancel", symbol="BTCUSDT", origClientOrderId="a")) == (400, -2011)
        everything = await client.signed("openOrders.cancelAll", symbol="BTCUSDT")
        assert [row["origClientOrderId"] for row in everything["result"]] == ["b"]
        missing = await client.signed("order.status", symbol="BTCUSDT", origClientOrderId="nobody")
        assert error_of(missing) == (400, -2013)

    run(sim, scenario)
    assert control.truth().accepted_total() == 2


def test_signed__who_may_not(sim: ThreadedSimulator) -> None:
    async def scenario(client: WsClient) -> None:
        assert error_of(await client.ask("account.status", {"timestamp": now_ms()})) == (401, -2014)
        assert error_of(await client.ask("account.status", sign_params({}, key="stranger"))) == (401, -2015)
        assert error_of(await client.ask("account.status", sign_params({}, secret="guess"))) == (400, -1022)
        old = sign_params({"timestamp": now_ms() - 10_000})
        assert error_of(await client.ask("account.status", old)) == (400, -1021)
        unsigned = sign_params({})
        del unsigned["signature"]
        assert error_of(await client.ask("account.status", unsigned)) == (400, -1102)
        assert error_of(await client.signed("account.status", colour="green")) == (400, -1104)

    run(sim, scenario)


def test_limits__429_with_retry_after_then_418_and_out(sim: ThreadedSimulator, control: ControlClient) -> None:
    async def scenario(client: WsClient) -> None:
        control.limits(request_weight=10, ban_after=2, first_ban_seconds=60.0)
        assert (await client.ask("ping"))["status"] == 200
        over = await client.ask("depth", {"symbol": "BTCUSDT", "limit": 1000})
        assert error_of(over) == (429, -1003)
        assert over["error"]["data"]["retryAfter"] > now_ms() - 1000
        banned = await client.ask("ping")
        assert error_of(banned) == (418, -1003)
        assert await client.closed_with() == 1008

    run(sim, scenario)


def test_limits__a_ban_by_rest_ends_the_websockets_of_that_address(
    sim: ThreadedSimulator, control: ControlClient, client: RawClient
) -> None:
    async def scenario(socket: WsClient) -> None:
        await socket.ask("ping")
        control.limits(request_weight=1, ban_after=2)
        for _ in range(3):
            client.public("avgPrice", {"symbol": "BTCUSDT"})
        assert await socket.closed_with() == 1008

    run(sim, scenario)


def test_connections__are_limited(sim: ThreadedSimulator, control: ControlClient) -> None:
    control.limits(ws_connections=1)

    async def scenario() -> None:
        async with connect(sim.ws_url):
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                async with connect(sim.ws_url):
                    pass
            assert caught.value.status == 429

    asyncio.run(scenario())


def test_messages__are_limited_when_set(sim: ThreadedSimulator, control: ControlClient) -> None:
    control.limits(ws_messages_per_second=5)

    async def scenario(client: WsClient) -> None:
        for _ in range(20):
            await client.socket.send_str('{"id":1,"method":"ping"}')
        assert await client.closed_with() == 1008

    run(sim, scenario)


# -------------------------------------------------------------------------------------------- session


def test_session__logon_status_logout(sim: ThreadedSimulator, control: ControlClient) -> None:
    private = PRIVATE_KEYS[0]
    assert isinstance(private, ed25519.Ed25519PrivateKey)
    control.add_key("main", "ed-key", public_pem(private))

    async def scenario(client: WsClient) -> None:
        before = (await client.ask("session.status"))["result"]
        assert (before["apiKey"], before["authorizedSince"], before["userDataStream"]) == (None, None, False)
        assert error_of(await client.signed("session.logon")) == (401, -2015)  # HMAC keys cannot
        logon = (await client.ask("session.logon", sign_params({}, "ed-key", private)))["result"]
        assert logon["apiKey"] == "ed-key"
        assert logon["connectedSince"] <= logon["authorizedSince"] <= logon["serverTime"]
        # From here on neither key nor signature is needed, but the timestamp is.
        order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quoteOrderQty": "10", "timestamp": now_ms()}
        assert error_of(await client.ask("order.place", order))[1] == -2010  # the book is empty
        assert error_of(await client.ask("account.status", {}))[1] == -1102
        assert (await client.ask("account.status", {"timestamp": now_ms()}))["status"] == 200
        # A request may still name another key.
        assert (await client.signed("account.status"))["status"] == 200
        assert error_of(await client.ask("account.status", sign_params({}, secret="guess")))[1] == -1022
        assert (await client.ask("session.logout"))["result"]["apiKey"] is None
        assert error_of(await client.ask("account.status", {"timestamp": now_ms()})) == (401, -2014)

    run(sim, scenario)


def test_session__revoked_key_ends_it(sim: ThreadedSimulator, control: ControlClient) -> None:
    private = PRIVATE_KEYS[0]
    control.add_key("main", "ed-key", public_pem(private))

    async def scenario(client: WsClient) -> None:
        await client.ask("session.logon", sign_params({}, "ed-key", private))
        await client.ask("userDataStream.subscribe")
        control.revoke_key("ed-key")
        assert (await client.event())["event"]["e"] == "eventStreamTerminated"
        notice = await client.ask("account.status", {"timestamp": now_ms()})
        assert (notice["id"], notice["status"], notice["error"]["code"]) == (None, 401, -2015)
        assert error_of(await client.receive()) == (401, -2014)

    run(sim, scenario)


# --------------------------------------------------------------------------------------------- stream


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


def test_subscribe__by_signature_for_several_accounts(sim: ThreadedSimulator, control: ControlClient) -> None:
    control.add_account("second", {"USDT": "1000"}, api_key="k2", api_secret="s2")

    async def scenario(client: WsClient) -> None:
        first = await client.signed("userDataStream.subscribe.signature")
        assert first["result"] == {"subscriptionId": 0}
        assert error_of(await client.signed("userDataStream.subscribe.signature")) == (400, -2035)
        assert (await client.ask("session.status"))["result"]["userDataStream"] is True
        second = await client.ask("userDataStream.subscribe.signature", sign_params({}, "k2", "s2"))
        assert second["result"] == {"subscriptionId": 1}
        assert (await client.ask("session.subscriptions"))["result"] == [{"subscriptionId": 0}, {"subscriptionId": 1}]
        control.deposit("USDT", "5", account="second")
        event = await client.event()
        assert event["subscriptionId"] == 1
        assert event["event"]["e"] == "balanceUpdate"
        assert (await client.ask("userDataStream.unsubscribe", {"subscriptionId": 1}))["result"] == {}
        assert error_of(await client.ask("userDataStream.unsubscribe", {"subscriptionId": 1})) == (400, -2036)
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
        assert (new["x"], new["X"], new["c"], new["C"], new["i"]) == ("NEW", "NEW", "a", "", placed["orderId"])
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
        assert (trade["L"], trade["Y"], trade["m"], trade["N"]) == ("50000.00000000", "200.00000000", True, "BTC")
        assert trade["t"] > 0
        cancel = {"symbol": "BTCUSDT", "origClientOrderId": "a", "newClientOrderId": "a-cancel"}
        await client.signed("order.cancel", **cancel)
        cancelled = await client.event_of("executionReport")
        assert (cancelled["x"], cancelled["X"], cancelled["c"], cancelled["C"]) == (
            "CANCELED",
            "CANCELED",
            "a-cancel",
            "a",
        )
        assert cancelled["I"] > trade["I"] > new["I"]

    run(sim, scenario)


def test_events__conditional_fields_only_when_due(sim: ThreadedSimulator, control: ControlClient) -> None:
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


# ------------------------------------------------------------------------------------------ connection


def test_ping__is_sent_and_its_absence_of_pong_closes(sim: ThreadedSimulator, control: ControlClient) -> None:
    control.settings(ping_seconds=0.1, pong_seconds=0.4)

    async def silent(client: WsClient) -> None:
        kinds = [(await client.socket.receive(timeout=5)).type for _ in range(2)]
        assert kinds == [aiohttp.WSMsgType.PING] * 2
        # An unsolicited pong does not keep the connection.
        await client.socket.pong(b"unsolicited")
        assert await client.closed_with() == 1008

    async def answering(client: WsClient) -> None:
        await asyncio.sleep(0.8)
        assert (await client.ask("ping"))["status"] == 200

    run(sim, silent, autoping=False)

    async def both() -> None:
        async with connect(sim.ws_url) as client:
            reader = asyncio.create_task(client.socket.receive())  # aiohttp answers pings while it reads
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
        outbox = Outbox(cast(Any, Stuck()), lambda: ended.append("reset"), lambda: ended.append("drop"))
        sending = asyncio.create_task(outbox.run())
        await asyncio.sleep(0)
        for _ in range(HARD_LIMIT + 5):
            outbox.put("event")
        assert ended == ["reset"]
        assert outbox.queued < 10
        sending.cancel()

    asyncio.run(main())


def test_close__does_not_wait_for_a_client_that_never_closes(sim: ThreadedSimulator, control: ControlClient) -> None:
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


# --------------------------------------------------------------------------------------------- faults


def test_faults__on_requests(sim: ThreadedSimulator, control: ControlClient) -> None:
    async def reset(client: WsClient) -> None:
        control.faults.add("reset_after", match={"api": "ws", "method": "order.place"})
        with pytest.raises((TypeError, ConnectionError, AssertionError)):
            await client.place(newClientOrderId="lost")

    async def answers(client: WsClient) -> None:
        control.faults.script(
            [
                {"match": {"method": "order.place"}, "action": "timeout"},
                {"match": {"method": "order.place"}, "action": "rate_limited", "retry_after": 3},
                {"match": {"method": "order.place"}, "action": "delay_answer", "seconds": 0.3},
            ]
        )
        assert error_of(await client.place(newClientOrderId="unknown")) == (504, -1007)
        limited = await client.place(newClientOrderId="limited")
        assert error_of(limited) == (429, -1003)
        assert limited["error"]["data"]["retryAfter"] > now_ms()
        started = now_ms()
        assert (await client.place(newClientOrderId="late"))["result"]["transactTime"] - started < 250
        assert now_ms() - started >= 300

    async def garbage(client: WsClient) -> None:
        control.faults.add("garbage", match={"api": "ws"}, kind="truncated")
        await client.socket.send_json({"id": 1, "method": "ping"})
        text = await client.socket.receive_str(timeout=5)
        assert text == "{"

    run(sim, reset)
    run(sim, answers)
    run(sim, garbage)
    truth = control.truth()
    assert [truth.accepted(name) for name in ("lost", "unknown", "limited", "late")] == [1, 1, 0, 1]


def test_faults__answers_overtake_a_delayed_one(sim: ThreadedSimulator, control: ControlClient) -> None:
    control.faults.add("delay_answer", match={"method": "time"}, seconds=0.4)

    async def scenario(client: WsClient) -> None:
        await client.socket.send_json({"id": "slow", "method": "time"})
        await client.socket.send_json({"id": "quick", "method": "ping"})
        assert (await client.receive())["id"] == "quick"
        assert (await client.receive())["id"] == "slow"

    run(sim, scenario)


def test_latency__of_many_requests_at_once_is_that_of_one(sim: ThreadedSimulator, control: ControlClient) -> None:
    control.settings(latency_ms=200)

    async def scenario(client: WsClient) -> None:
        started = now_ms()
        for number in range(20):
            await client.socket.send_json({"id": number, "method": "time"})
        answers = [await client.receive() for _ in range(20)]
        assert [row["id"] for row in answers] == list(range(20))
        assert 200 <= now_ms() - started < 2_000

    run(sim, scenario)


STREAM = {"api": "stream", "event": "executionReport"}


def test_stream_faults__drop_duplicate_reorder_delay(sim: ThreadedSimulator, control: ControlClient) -> None:
    async def scenario(client: WsClient) -> None:
        await client.signed("userDataStream.subscribe.signature")

        async def reports(names: list[str]) -> list[str]:
            client.events.clear()
            for name in names:
                await client.place(newClientOrderId=name)
            seen = []
            while not await client.is_silent(0.3):
                event = (await client.event())["event"]
                if event["e"] == "executionReport":
                    seen.append(event["c"])
            return seen

        control.faults.add("drop_event", match=STREAM)
        assert await reports(["a", "b"]) == ["b"]
        control.faults.add("duplicate", match=STREAM, copies=3)
        assert await reports(["c"]) == ["c", "c", "c"]
        control.faults.script(
            [{"match": {**STREAM, "client_order_id_prefix": "d"}, "action": "delay", "seconds": 0.15}]
        )
        assert await reports(["d", "e"]) == ["e", "d"]
        control.faults.add("mute", match=STREAM, seconds=0.2)
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


def test_stream_faults__half_open_is_silence(sim: ThreadedSimulator, control: ControlClient) -> None:
    control.settings(ping_seconds=0.1, pong_seconds=60.0)

    async def scenario(client: WsClient) -> None:
        await client.signed("userDataStream.subscribe.signature")
        control.faults.add("half_open", match=STREAM)
        RawClient(sim.url).place()
        # Pings that were under way may still come, then nothing does.
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


def test_stream_faults__slow_consumer_is_cut_off(sim: ThreadedSimulator, control: ControlClient) -> None:
    async def scenario(client: WsClient) -> None:
        await client.signed("userDataStream.subscribe.signature")
        control.faults.add("slow_consumer", match=STREAM, rate=5.0, max_queue=3)
        raw = RawClient(sim.url)
        for _ in range(6):
            raw.place()
        assert await client.closed_with() == 1008

    run(sim, scenario)
