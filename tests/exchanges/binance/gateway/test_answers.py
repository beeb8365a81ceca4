"""Check the reports that the gateway reads from answers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from exchanges.binance.gateway import Gateway
from exchanges.types import ReportSource, Side
from tests.exchanges.binance import binance_answers as binance
from tests.exchanges.binance.gateway.steps import (
    cancel,
    place,
    read,
)
from tests.exchanges.binance.raw_server import (
    RawServer,
    answer,
)

pytestmark = pytest.mark.usefixtures("without_limits")


def test_place__reports_the_order_and_its_fills(server: RawServer, exchange: Gateway) -> None:
    server.then(answer(200, binance.placed()))
    report = place(exchange)
    at = datetime(2026, 2, 2, 2, 40, 0, 123_000, tzinfo=UTC)
    assert (report.source, report.status, report.exchange_order_id) == (
        ReportSource.PLACE,
        "FILLED",
        "28",
    )
    assert (report.quantity, report.price) == (Decimal("0.003"), Decimal("60000.1"))
    assert (report.filled_quantity, report.filled_quote_quantity) == (
        Decimal("0.003"),
        Decimal("179.9997"),
    )
    assert (report.updated_at, report.created_at) == (at, at)
    assert (report.quote_quantity, report.stop_price, report.reason) == (None, None, "")
    assert [
        (fill.trade_id, fill.quantity, fill.price, fill.quote_quantity) for fill in report.fills
    ] == [
        ("56", Decimal("0.001"), Decimal("60000.1"), Decimal("60.0001")),
        ("57", Decimal("0.002"), Decimal("59999.8"), Decimal("119.9996")),
    ]
    first = report.fills[0]
    assert (first.commission, first.commission_asset, first.is_maker) == (
        Decimal("0.000003"),
        "BTC",
        False,
    )
    assert (first.client_order_id, first.exchange_order_id, first.traded_at) == (
        binance.CLIENT_ORDER_ID,
        "28",
        at,
    )


def test_place__a_fills_notional_is_rounded_down_as_the_exchange_does(
    server: RawServer, exchange: Gateway
) -> None:
    fills = [binance.fill(price="0.03456789", qty="0.12340000")]
    server.then(answer(200, binance.placed(fills=fills)))
    assert place(exchange).fills[0].quote_quantity == Decimal("0.00426567")


@pytest.mark.parametrize(
    ("quote", "count"), [("0.00426567", 1), ("0.00426568", 0), ("0.004265677626", 0), ("-1", 1)]
)
def test_place__fills_that_the_exchange_rounds_in_another_way_are_left_to_the_trades(
    server: RawServer, exchange: Gateway, quote: str, count: int
) -> None:
    fills = [binance.fill(price="0.03456789", qty="0.12340000")]
    body = binance.placed(fills=fills, executedQty="0.12340000", cummulativeQuoteQty=quote)
    server.then(answer(200, body))
    assert len(place(exchange).fills) == count


def test_cancel__reports_the_orders_own_id(server: RawServer, exchange: Gateway) -> None:
    server.then(answer(200, binance.canceled()))
    report = cancel(exchange)
    assert (report.source, report.status, report.client_order_id) == (
        ReportSource.CANCEL,
        "CANCELED",
        binance.CLIENT_ORDER_ID,
    )


def test_fetch_order__keeps_the_exchanges_words(server: RawServer, exchange: Gateway) -> None:
    changes = {
        "status": "SOMETHING_NEW",
        "expiryReason": "EXECUTION_RULE_PRICE_RANGE_EXCEEDED",
        "type": "WHATEVER",
    }
    row = binance.queried(
        **changes, stopPrice="59000.50000000", origQuoteOrderQty="12.5", cummulativeQuoteQty="-1.0"
    )
    server.then(answer(200, row))
    report = read(exchange)
    assert (report.status, report.reason, report.order_type) == tuple(changes.values())
    assert (report.stop_price, report.quote_quantity) == (Decimal("59000.5"), Decimal("12.5"))
    assert report.filled_quote_quantity is None
    assert report.raw == row
    assert report.created_at == datetime(2026, 2, 2, 2, 40, 0, 123_000, tzinfo=UTC)
    assert report.updated_at == datetime(2026, 2, 2, 2, 40, 1, tzinfo=UTC)


def test_fetch_order__a_figure_passes_through_no_float(
    server: RawServer, exchange: Gateway
) -> None:
    body = json.dumps(binance.queried(price="12345678901234567890.123456789"))
    server.then(
        answer(
            200, body.replace('"12345678901234567890.123456789"', "12345678901234567890.123456789")
        )
    )
    assert read(exchange).price == Decimal("12345678901234567890.123456789")


def test_fetch_order__no_reason_is_no_reason(server: RawServer, exchange: Gateway) -> None:
    server.then(answer(200, binance.queried(expiryReason="NONE")))
    assert read(exchange).reason == ""


def test_fetch_orders__say_which_list_they_are_from(server: RawServer, exchange: Gateway) -> None:
    server.then(answer(200, [binance.queried(), binance.queried(symbol="ETHUSDT", orderId=3)]))
    assert [(row.source, row.symbol) for row in exchange.fetch_open_orders()] == [
        (ReportSource.OPEN_ORDERS, "BTCUSDT"),
        (ReportSource.OPEN_ORDERS, "ETHUSDT"),
    ]
    server.then(answer(200, []))
    assert exchange.fetch_all_orders(symbol="BTCUSDT") == []


def test_fetch_trades__gives_fills_without_a_client_id(
    server: RawServer, exchange: Gateway
) -> None:
    server.then(
        answer(
            200,
            [binance.trade(isBuyer=False, isMaker=True, commission="-0.01", commissionAsset="BNB")],
        )
    )
    (fill,) = exchange.fetch_trades(symbol="BTCUSDT", exchange_order_id="28")
    assert (fill.trade_id, fill.side, fill.is_maker, fill.client_order_id) == (
        "56",
        Side.SELL,
        True,
        None,
    )
    assert (fill.commission, fill.commission_asset) == (Decimal("-0.01"), "BNB")
    assert fill.quote_quantity == Decimal("60.0001")


def test_fetch_account__gives_balances(server: RawServer, exchange: Gateway) -> None:
    server.then(answer(200, binance.account()))
    report = exchange.fetch_account()
    assert [(row.asset, row.free, row.locked) for row in report.balances] == [
        ("BTC", Decimal("0.1"), Decimal(0)),
        ("USDT", Decimal("1000.00000001"), Decimal("12.5")),
    ]


def test_fetch_instruments__gives_rules(server: RawServer, exchange: Gateway) -> None:
    server.then(answer(200, binance.exchange_info(status="HALT")))
    (rules,) = exchange.fetch_instruments()
    assert (rules.symbol, rules.is_trading, rules.figure("PRICE_FILTER", "tickSize")) == (
        "BTCUSDT",
        False,
        Decimal("0.01"),
    )
