"""Ask for the past over the wire: candles, tickers and trades of the days before the start."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from backoffice.local import demo
from exchanges.simulator import cli
from exchanges.simulator.client import ControlClient
from exchanges.simulator.exchange.exchange import Exchange, Settings
from exchanges.simulator.exchange.persistence import dump, load
from exchanges.simulator.server.server import ThreadedSimulator
from tests.exchanges.simulator.conftest import RawClient, make_exchange

MINUTE = 60_000
COUNT = 5760


def exchange_with_past() -> Exchange:
    return Exchange(Settings(frozen=True, past_days=1, seed=5))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadedSimulator(exchange_with_past()) as simulator:
        yield simulator.url


def get(url: str, path: str, **params: Any) -> Any:
    answer = RawClient(url).public(path, {"symbol": "BTCUSDT", **params})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_klines__show_the_day_before_the_start(url: str) -> None:
    rows = get(url, "klines", interval="1m", limit=1000)
    assert len(rows) == 1000
    assert {two[0] - one[0] for one, two in pairwise(rows)} == {MINUTE}
    assert all(row[0] % MINUTE == 0 and row[6] == row[0] + MINUTE - 1 for row in rows)
    assert rows[-1][4] == "60000.00000000"
    start, end = rows[10][0], rows[19][0]
    assert get(url, "klines", interval="1m", startTime=start, endTime=end) == rows[10:20]
    assert get(url, "klines", interval="1m", startTime=start, limit=5) == rows[10:15]
    assert get(url, "klines", interval="1m", endTime=end, limit=5) == rows[15:20]
    assert get(url, "uiKlines", interval="1m", endTime=end, limit=5) == rows[15:20]


@pytest.mark.parametrize("interval", ["1s", "1m", "5m", "15m", "1h", "4h", "1d", "1w", "1M"])
@pytest.mark.parametrize("zone", ["0", "5:45"])
def test_klines__hold_each_trade_once(url: str, interval: str, zone: str) -> None:
    asked = {"interval": interval, "timeZone": zone, "limit": 1000}
    rows, page = [], get(url, "klines", startTime=0, **asked)
    while page:
        rows += page
        page = get(url, "klines", startTime=page[-1][6] + 1, **asked) if interval != "1s" else []
    trades = get(url, "historicalTrades", fromId=1, limit=1000)
    if interval == "1s":
        trades = [trade for trade in trades if trade["time"] <= rows[-1][6]]
    else:
        while more := get(url, "historicalTrades", fromId=trades[-1]["id"] + 1, limit=1000):
            trades += more
        assert trades[-1]["id"] == len(trades) == COUNT + 1
    assert sum(row[8] for row in rows) == len(trades)
    assert sum(Decimal(row[5]) for row in rows) == sum(Decimal(trade["qty"]) for trade in trades)
    assert sum(Decimal(row[7]) for row in rows) == sum(
        Decimal(trade["quoteQty"]) for trade in trades
    )


def test_tickers__sum_up_the_past(url: str) -> None:
    day = get(url, "ticker/24hr")
    assert day["count"] == day["lastId"] - day["firstId"] + 1
    assert day["lastId"] == COUNT + 1
    assert COUNT - 8 < day["count"] <= COUNT + 1
    hour = get(url, "ticker", windowSize="59m")
    rows = get(url, "klines", interval="1m", limit=1000, startTime=hour["openTime"])
    assert hour["count"] == sum(row[8] for row in rows)
    assert Decimal(hour["volume"]) == sum(Decimal(row[5]) for row in rows)
    assert hour["openPrice"] == rows[0][1]
    assert get(url, "avgPrice")["price"] == "60000.00000000"


def test_aggregate_trades__of_an_hour_long_ago(url: str) -> None:
    candle = get(url, "klines", interval="1h", limit=5)[0]
    found = get(url, "aggTrades", startTime=candle[0], endTime=candle[6], limit=1000)
    assert len(found) == candle[8]
    assert found[0]["p"] == candle[1]
    assert sum(Decimal(row["q"]) for row in found) == Decimal(candle[5])


def test_restart__keeps_the_past_of_the_first_start() -> None:
    exchange = exchange_with_past()
    other = exchange_with_past()
    other.restore(*load(dump(exchange.engine, exchange.market), other.clock))
    asked = {"limit": 10_000, "from_id": 1}
    trades = exchange.engine.recent_trades("ETHUSDT", **asked)
    assert other.engine.recent_trades("ETHUSDT", **asked) == trades
    assert len(trades) == COUNT + 1


def test_restart__gives_no_past_to_an_exchange_that_began_without() -> None:
    old = make_exchange()
    other = exchange_with_past()
    other.restore(*load(dump(old.engine, old.market), other.clock))
    assert [trade.trade_id for trade in other.engine.recent_trades("BTCUSDT")] == [1]
    assert len(other.engine.bars("BTCUSDT", 60)) == 1


def test_wipe_and_reset__without_and_with_a_past() -> None:
    with ThreadedSimulator(exchange_with_past()) as simulator:
        control = ControlClient(simulator.url)
        before = get(simulator.url, "trades", limit=1000)
        control.wipe()
        assert [trade["id"] for trade in get(simulator.url, "trades")] == [1]
        assert len(get(simulator.url, "klines", interval="1m")) == 1
        control.reset()
        after = get(simulator.url, "trades", limit=1000)
        assert [(row["id"], row["price"], row["qty"]) for row in after] == [
            (row["id"], row["price"], row["qty"]) for row in before
        ]
        control.list_symbol("NEWUSDT", base="NEW", quote="USDT", like="XRPUSDT", price="2")
        new = RawClient(simulator.url).public("historicalTrades", {"symbol": "NEWUSDT"}).json()
        assert [trade["id"] for trade in new] == [1]


@pytest.mark.parametrize("value", ["8", "-1", "many", "1.5"])
def test_past_days__are_few(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.make_parser().parse_args(
            ["--api-key", "k", "--api-secret", "s", f"--past-days={value}"]
        )
    assert "is not from 0 to 7" in capsys.readouterr().err


def test_make_run__has_a_past_from_the_start(tmp_path: Path) -> None:
    options = cli.make_parser().parse_args(demo.simulator_argv(9080, tmp_path)[3:])
    exchange = cli.build_exchange(options)
    assert len(exchange.engine.bars("BTCUSDT", 300, limit=1000)) > 2 * 288
