"""Answer public requests as documented."""

from __future__ import annotations

import pytest

from exchanges.simulator.client import ControlClient
from tests.exchanges.simulator.conftest import RawClient, now_ms
from tests.exchanges.simulator.helpers import refusal


def test_ping__is_empty(client: RawClient) -> None:
    assert client.public("ping").json() == {}


def test_time__is_the_servers(client: RawClient) -> None:
    assert abs(client.public("time").json()["serverTime"] - now_ms()) < 2_000


def test_time__in_microseconds_when_asked(client: RawClient) -> None:
    answer = client.public("time", headers={"X-MBX-TIME-UNIT": "microsecond"}).json()
    assert abs(answer["serverTime"] - now_ms() * 1000) < 2_000_000


def test_exchange_info__has_every_symbol_and_the_limits(client: RawClient) -> None:
    info = client.public("exchangeInfo").json()
    names = {row["symbol"] for row in info["symbols"]}
    assert names == {"BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT", "ETHBTC"}
    assert {row["rateLimitType"] for row in info["rateLimits"]} >= {
        "REQUEST_WEIGHT",
        "ORDERS",
        "RAW_REQUESTS",
    }


def test_exchange_info__symbols_as_json_array(client: RawClient) -> None:
    info = client.public("exchangeInfo", {"symbols": '["ETHBTC","BTCUSDT"]'}).json()
    assert [row["symbol"] for row in info["symbols"]] == ["ETHBTC", "BTCUSDT"]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"symbol": "NOPE"}, -1121),
        ({"symbols": '["BTCUSDT","NOPE"]'}, -1121),
        ({"symbols": '["BTCUSDT","BTCUSDT"]'}, -1151),
        ({"symbols": "[oops"}, -1135),
        ({"symbol": "BTCUSDT", "symbols": '["BTCUSDT"]'}, -1128),
        ({"symbol": "BTCUSDT", "symbolStatus": "TRADING"}, -1128),
        ({"symbolStatus": "OPEN"}, -1122),
        ({"permissions": "NOSUCH"}, -1130),
        ({"showPermissionSets": "perhaps"}, -1100),
        ({"symbol": ""}, -1105),
        ({"symbol": "btcusdt"}, -1100),
        ({"unheard": "of"}, -1101),
    ],
)
def test_exchange_info__refuses_with_documented_codes(
    client: RawClient, params: dict[str, str], code: int
) -> None:
    assert refusal(client.public("exchangeInfo", params))[:2] == (400, code)


def test_tickers__one_some_all(client: RawClient) -> None:
    one = client.public("ticker/price", {"symbol": "BTCUSDT"}).json()
    assert one == {"symbol": "BTCUSDT", "price": "60000.00000000"}
    some = client.public("ticker/price", {"symbols": '["BTCUSDT","ETHUSDT"]'}).json()
    assert [row["symbol"] for row in some] == ["BTCUSDT", "ETHUSDT"]
    assert len(client.public("ticker/bookTicker").json()) == 7
    day = client.public("ticker/24hr", {"symbol": "BTCUSDT"}).json()
    assert {"prevClosePrice", "lastQty", "bidPrice", "askQty", "firstId", "count"} <= day.keys()
    mini = client.public("ticker/24hr", {"symbol": "BTCUSDT", "type": "MINI"}).json()
    assert "bidPrice" not in mini


def test_depth__shows_resting_orders(client: RawClient) -> None:
    client.place(price="50000")
    book = client.public("depth", {"symbol": "BTCUSDT"}).json()
    assert book["bids"] == [["50000.00000000", "0.01000000"]]
    assert book["asks"] == []


def test_klines__of_every_interval(client: RawClient, control: ControlClient) -> None:
    control.set_price("BTCUSDT", "61000")
    client.place(side="SELL", price="61000", quantity="0.01")
    client.place(price="61000", quantity="0.01", selfTradePreventionMode="NONE")
    for interval in ("1s", "1m", "15m", "1h", "1d", "3d", "1w", "1M"):
        rows = client.public("klines", {"symbol": "BTCUSDT", "interval": interval}).json()
        assert rows, interval
        opened, *_, closed = rows[-1][:7]
        assert opened <= now_ms() <= closed + 10_000
        assert len(rows[-1]) == 12
    shifted = client.public(
        "klines", {"symbol": "BTCUSDT", "interval": "1d", "timeZone": "5:30"}
    ).json()
    assert (shifted[-1][0] + (5 * 60 + 30) * 60_000) % 86_400_000 == 0
    assert refusal(client.public("klines", {"symbol": "BTCUSDT", "interval": "7m"}))[1] == -1120


def test_unknown_path__is_404(client: RawClient) -> None:
    assert client.public("nothing").status_code == 404


def test_listen_keys__are_gone(client: RawClient) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert (
            client.session.request(method, f"{client.url}/api/v3/userDataStream").status_code == 410
        )


def test_weight__on_every_answer(client: RawClient, control: ControlClient) -> None:
    control.limits(request_weight=6000)
    before = int(client.public("ping").headers["X-MBX-USED-WEIGHT-1M"])
    after = int(
        client.public("depth", {"symbol": "NOPE", "limit": 1000}).headers["X-MBX-USED-WEIGHT"]
    )
    assert after - before == 50
