"""Test the WebSocket API as documented: frames, calls, sessions, and faults on requests."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from exchanges.simulator.client import ControlClient
from exchanges.simulator.server.server import ThreadedSimulator
from tests.exchanges.simulator.conftest import RawClient, now_ms
from tests.exchanges.simulator.exchange.test_keys import PRIVATE_KEYS, public_pem
from tests.exchanges.simulator.server.wsclient import WsClient, connect, error_of, run, sign_params

# ------------------------------------------------------------------------------------------- frames


@pytest.mark.parametrize(
    "identity", [1, -7, "e2a85d9f-07a5-4f94-8d5f-789dc3deb097", "", None, 2**53]
)
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


# -------------------------------------------------------------------------------------------- calls


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
            assert (await socket.ask(method, params))["result"] == client.public(
                path, params
            ).json(), method
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


def test_orders__placed_tested_canceled(sim: ThreadedSimulator, control: ControlClient) -> None:
    async def scenario(client: WsClient) -> None:
        assert (
            await client.signed(
                "order.test", symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.01"
            )
        )["result"] == {}
        placed = await client.place(newClientOrderId="a")
        assert placed["result"]["status"] == "NEW"
        assert error_of(await client.place(newClientOrderId="a")) == (400, -2010)
        numbers = await client.place(
            newClientOrderId="b", quantity=0.01, price=50000, recvWindow=5000.5
        )
        assert numbers["result"]["origQty"] == "0.01000000"
        canceled = await client.signed("order.cancel", symbol="BTCUSDT", origClientOrderId="a")
        assert canceled["result"]["status"] == "CANCELED"
        assert error_of(
            await client.signed("order.cancel", symbol="BTCUSDT", origClientOrderId="a")
        ) == (400, -2011)
        everything = await client.signed("openOrders.cancelAll", symbol="BTCUSDT")
        assert [row["origClientOrderId"] for row in everything["result"]] == ["b"]
        missing = await client.signed("order.status", symbol="BTCUSDT", origClientOrderId="nobody")
        assert error_of(missing) == (400, -2013)

    run(sim, scenario)
    assert control.truth().accepted_total() == 2


def test_signed__who_may_not(sim: ThreadedSimulator) -> None:
    async def scenario(client: WsClient) -> None:
        assert error_of(await client.ask("account.status", {"timestamp": now_ms()})) == (401, -2014)
        assert error_of(await client.ask("account.status", sign_params({}, key="stranger"))) == (
            401,
            -2015,
        )
        assert error_of(await client.ask("account.status", sign_params({}, secret="guess"))) == (
            400,
            -1022,
        )
        old = sign_params({"timestamp": now_ms() - 10_000})
        assert error_of(await client.ask("account.status", old)) == (400, -1021)
        unsigned = sign_params({})
        del unsigned["signature"]
        assert error_of(await client.ask("account.status", unsigned)) == (400, -1102)
        assert error_of(await client.signed("account.status", color="green")) == (400, -1104)

    run(sim, scenario)


def test_limits__429_with_retry_after_then_418_and_out(
    sim: ThreadedSimulator, control: ControlClient
) -> None:
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


# ------------------------------------------------------------------------------------------ session


def test_session__logon_status_logout(sim: ThreadedSimulator, control: ControlClient) -> None:
    private = PRIVATE_KEYS[0]
    assert isinstance(private, ed25519.Ed25519PrivateKey)
    control.add_key("main", "ed-key", public_pem(private))

    async def scenario(client: WsClient) -> None:
        before = (await client.ask("session.status"))["result"]
        assert (before["apiKey"], before["authorizedSince"], before["userDataStream"]) == (
            None,
            None,
            False,
        )
        assert error_of(await client.signed("session.logon")) == (
            401,
            -2015,
        )  # HMAC keys can't log on
        logon = (await client.ask("session.logon", sign_params({}, "ed-key", private)))["result"]
        assert logon["apiKey"] == "ed-key"
        assert logon["connectedSince"] <= logon["authorizedSince"] <= logon["serverTime"]
        # From here on requests need a timestamp, but no key and no signature.
        order = {
            "symbol": "BTCUSDT",
            "side": "BUY",
            "type": "MARKET",
            "quoteOrderQty": "10",
            "timestamp": now_ms(),
        }
        assert error_of(await client.ask("order.place", order))[1] == -2010  # the book is empty
        assert error_of(await client.ask("account.status", {}))[1] == -1102
        assert (await client.ask("account.status", {"timestamp": now_ms()}))["status"] == 200
        # A request may still name another key.
        assert (await client.signed("account.status"))["status"] == 200
        assert (
            error_of(await client.ask("account.status", sign_params({}, secret="guess")))[1]
            == -1022
        )
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


# ------------------------------------------------------------------------------------------- faults


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
        late = (await client.place(newClientOrderId="late"))["result"]["transactTime"]
        assert now_ms() - late >= 290

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


def test_faults__answers_overtake_a_delayed_one(
    sim: ThreadedSimulator, control: ControlClient
) -> None:
    control.faults.add("delay_answer", match={"method": "time"}, seconds=0.4)

    async def scenario(client: WsClient) -> None:
        await client.socket.send_json({"id": "slow", "method": "time"})
        await client.socket.send_json({"id": "quick", "method": "ping"})
        assert (await client.receive())["id"] == "quick"
        assert (await client.receive())["id"] == "slow"

    run(sim, scenario)


def test_latency__of_many_requests_at_once_is_that_of_one(
    sim: ThreadedSimulator, control: ControlClient
) -> None:
    control.settings(latency_ms=200)

    async def scenario(client: WsClient) -> None:
        started = now_ms()
        for number in range(20):
            await client.socket.send_json({"id": number, "method": "time"})
        answers = [await client.receive() for _ in range(20)]
        assert [row["id"] for row in answers] == list(range(20))
        assert 200 <= now_ms() - started < 2_000

    run(sim, scenario)
