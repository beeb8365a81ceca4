"""Use ccxt as an independent client: synchronous, and ccxt.pro with its user stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import ccxt
import pytest
from ccxt import pro as ccxtpro

from exchanges.simulator.client import ControlClient
from exchanges.simulator.server.server import ThreadedSimulator
from tests.exchanges.simulator.conftest import KEY, SECRET

SYMBOL = "BTC/USDT"
ORDER = {"method": "POST", "path": "/api/v3/order"}


def options(sim: ThreadedSimulator) -> dict[str, Any]:
    api = {"public": f"{sim.url}/api/v3", "private": f"{sim.url}/api/v3", "v1": f"{sim.url}/api/v1"}
    return {
        "apiKey": KEY,
        "secret": SECRET,
        "enableRateLimit": False,
        "urls": {
            "api": {
                **api,
                "sapi": f"{sim.url}/sapi/v1",
                "ws": {"ws-api": {"spot": sim.ws_url}, "spot": sim.ws_url},
            }
        },
        "options": {
            "fetchMarkets": {"types": ["spot"]},
            "fetchCurrencies": False,
            "fetchMargins": False,
            "fetchOpenOrders": {"warnWithoutSymbol": False},
        },
    }


@pytest.fixture
def exchange(sim: ThreadedSimulator) -> Any:
    made = ccxt.binance(options(sim))
    made.number = str
    return made


def test_load_markets__limits_and_precision(exchange: Any) -> None:
    market = exchange.load_markets()[SYMBOL]
    assert market["id"] == "BTCUSDT"
    assert market["active"] is True
    assert Decimal(market["precision"]["price"]) == Decimal("0.01")
    assert Decimal(market["precision"]["amount"]) == Decimal("0.00001")
    assert len(exchange.markets) == 7


def test_load_markets__with_everything_it_asks_for_by_itself(sim: ThreadedSimulator) -> None:
    plain = options(sim) | {"options": {"fetchMarkets": {"types": ["spot"]}}}
    exchange = ccxt.binance(plain)
    assert SYMBOL in exchange.load_markets()
    assert "BTC" in exchange.currencies
    assert exchange.fetch_status()["status"] == "ok"


def test_order__place_fetch_fill_cancel(exchange: Any, control: ControlClient) -> None:
    order = exchange.create_order(
        SYMBOL, "limit", "buy", "0.01", "50000", {"clientOrderId": "cx-1"}
    )
    assert (order["status"], order["clientOrderId"]) == ("open", "cx-1")
    control.fill("BTCUSDT", client_order_id="cx-1", quantity="0.004")
    fetched = exchange.fetch_order(None, SYMBOL, {"clientOrderId": "cx-1"})
    assert Decimal(fetched["filled"]) == Decimal("0.004")
    assert [row["id"] for row in exchange.fetch_open_orders()] == [order["id"]]
    assert exchange.cancel_order(order["id"], SYMBOL)["status"] == "canceled"
    trades = exchange.fetch_my_trades(SYMBOL)
    assert Decimal(trades[0]["fee"]["cost"]) == Decimal("0.000004")
    assert trades[0]["takerOrMaker"] == "maker"
    assert len(exchange.fetch_orders(SYMBOL)) == 1


def test_market_order__by_cost(exchange: Any, control: ControlClient) -> None:
    control.unfreeze()
    order = exchange.create_order(SYMBOL, "market", "buy", None, None, {"quoteOrderQty": "1000"})
    control.freeze()
    assert order["status"] == "closed"
    assert Decimal(order["cost"]) == pytest.approx(Decimal(1000), abs=1)


def test_reads__balance_tickers_book_candles(exchange: Any) -> None:
    assert Decimal(exchange.fetch_balance()["USDT"]["free"]) == 100_000
    assert Decimal(exchange.fetch_ticker(SYMBOL)["last"]) == 60_000
    assert exchange.fetch_tickers()
    assert exchange.fetch_order_book(SYMBOL)["bids"] == []
    assert exchange.fetch_ohlcv(SYMBOL, "1m") is not None
    assert exchange.fetch_trades(SYMBOL) is not None
    assert abs(exchange.fetch_time() - exchange.milliseconds()) < 2_000
    assert exchange.fetch_trading_fee(SYMBOL)["symbol"] == SYMBOL


def place(exchange: Any) -> Any:
    return exchange.create_order(SYMBOL, "limit", "buy", "0.01", "50000", {"clientOrderId": "cx"})


def overspend(exchange: Any) -> Any:
    return exchange.create_order(SYMBOL, "limit", "buy", "100", "50000")


@pytest.mark.parametrize(
    ("rule", "call", "error"),
    [
        (None, overspend, ccxt.InsufficientFunds),
        (None, lambda exchange: exchange.fetch_order("999", SYMBOL), ccxt.OrderNotFound),
        (None, lambda exchange: exchange.cancel_order("999", SYMBOL), ccxt.OrderNotFound),
        ({"action": "reset_after"}, place, ccxt.NetworkError),
        ({"action": "reset_before"}, place, ccxt.NetworkError),
        ({"action": "timeout"}, place, ccxt.RequestTimeout),
        (
            {"action": "maintenance"},
            place,
            ccxt.BadRequest,
        ),  # 503 with -1016: its code table comes first
        ({"action": "respond", "status": 503, "body": ""}, place, ccxt.ExchangeNotAvailable),
        ({"action": "rate_limited"}, place, ccxt.DDoSProtection),
        ({"action": "banned"}, place, ccxt.DDoSProtection),
        ({"clock_skew_ms": 60_000}, place, ccxt.InvalidNonce),
        (
            {"action": "respond", "status": 403, "body": "<html>WAF</html>"},
            place,
            ccxt.ExchangeNotAvailable,
        ),
    ],
)
def test_errors__arrive_as_their_classes(
    exchange: Any,
    control: ControlClient,
    rule: dict[str, Any] | None,
    call: Callable[[Any], Any],
    error: type,
) -> None:
    exchange.load_markets()
    if rule is not None:
        control.faults.script([{"match": ORDER, **rule}])
    with pytest.raises(error):
        call(exchange)


def test_errors__authentication(sim: ThreadedSimulator) -> None:
    stranger = ccxt.binance(options(sim) | {"apiKey": "stranger"})
    with pytest.raises(ccxt.AuthenticationError):
        stranger.fetch_balance()
    guesser = ccxt.binance(options(sim) | {"secret": "guess"})
    with pytest.raises(ccxt.AuthenticationError):
        guesser.fetch_balance()


def test_garbage__is_an_order_without_id(exchange: Any, control: ControlClient) -> None:
    """Accept that ccxt doesn't notice nonsense in a 200, so its users must."""
    exchange.load_markets()
    control.faults.add("garbage", match=ORDER, kind="html")
    order = place(exchange)
    assert order["id"] is None
    assert control.truth().accepted("cx") == 1


def test_pro__orders_trades_balance_through_a_reconnect(
    sim: ThreadedSimulator, control: ControlClient
) -> None:
    async def subscribed(exchange: Any, watching: asyncio.Task[Any]) -> None:
        while not any(row["subscriptions"] == ["main"] for row in control.streams()):
            assert not watching.done(), watching.exception()
            await asyncio.sleep(0.02)

    async def waiting(exchange: Any, what: str) -> None:
        """Wait until the client waits for it: an event or a lost stream before that is missed."""
        while not any(what in client.futures for client in exchange.clients.values()):  # noqa: ASYNC110
            await asyncio.sleep(0)

    async def one_round(exchange: Any, name: str) -> None:
        watching = asyncio.create_task(exchange.watch_orders())
        await subscribed(exchange, watching)
        await exchange.create_order_ws(
            SYMBOL, "limit", "buy", 0.01, 50000, {"newClientOrderId": name}
        )
        seen = await asyncio.wait_for(watching, 10)
        assert seen[-1]["clientOrderId"] == name
        trades = asyncio.create_task(exchange.watch_my_trades())
        await waiting(exchange, "myTrades")
        control.fill("BTCUSDT", client_order_id=name)
        assert (await asyncio.wait_for(trades, 10))[-1]["amount"] == 0.01

    async def main() -> None:
        exchange = ccxtpro.binance(options(sim))
        try:
            await exchange.load_markets()
            await one_round(exchange, "cp-1")
            watching = asyncio.create_task(exchange.watch_orders())
            await waiting(exchange, "orders")
            await asyncio.to_thread(control.disconnect_streams, reset=True)
            with pytest.raises(ccxt.NetworkError):
                await asyncio.wait_for(watching, 10)
            await one_round(exchange, "cp-2")
        finally:
            await exchange.close()

    asyncio.run(asyncio.wait_for(main(), 40))
    assert control.truth().accepted_total() == 2
