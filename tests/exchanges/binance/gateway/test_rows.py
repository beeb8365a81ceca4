"""Check that a list's readable rows are read although others can't be."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from exchanges.binance import json_fields, messages
from exchanges.binance.gateway import Gateway
from exchanges.binance.http import parsed
from exchanges.models import Balance, Instrument
from exchanges.types import BidAsk
from orders.models import ExchangeOrder, Fill, Order
from tests.exchanges.binance import binance_answers as binance
from tests.exchanges.binance.gateway.test_errors import BAD_FIELDS
from tests.exchanges.binance.raw_server import RawServer, answer

pytestmark = pytest.mark.usefixtures("without_limits")

NOT_OBJECTS: list[Any] = [7, None, [], "x", {}]


@pytest.mark.parametrize(
    "bad",
    [
        *[binance.queried(**changes) for changes in BAD_FIELDS],
        binance.queried(clientOrderId=""),
        binance.queried(origQty="0.00000000", origQuoteOrderQty="0.00000000"),
        binance.queried(origQty="1" * 21),
        binance.queried(symbol="X" * 33),
        binance.queried(timeInForce=7),
        *NOT_OBJECTS,
    ],
    ids=str,
)
def test_orders__a_bad_row_is_set_apart(server: RawServer, exchange: Gateway, bad: Any) -> None:
    for call, given in (("fetch_open_orders", {}), ("fetch_all_orders", {"symbol": "BTCUSDT"})):
        server.then(answer(200, [binance.queried(orderId=1), bad, binance.queried(orderId=3)]))
        found = getattr(exchange, call)(**given)
        assert [report.exchange_order_id for report in found] == ["1", "3"]
        (apart,) = found.unreadable
        assert apart.problem
        number = bad.get("orderId") if isinstance(bad, dict) else None
        assert apart.subject in (f"BTCUSDT#{number}", "orders row 1", f"{'X' * 33}#28")


@pytest.mark.parametrize("odd", [b"NaN", b"-Infinity", b'"\xff"'])
def test_orders__a_value_that_no_json_has_costs_its_row_alone(
    server: RawServer, exchange: Gateway, odd: bytes
) -> None:
    good, bad = (
        json.dumps(binance.queried(orderId=number, origQty=quantity)).encode()
        for number, quantity in ((1, "1"), (2, "odd"))
    )
    server.then(answer(200, b"[%b, %b]" % (good, bad.replace(b'"odd"', odd))))
    found = exchange.fetch_open_orders()
    assert [report.exchange_order_id for report in found] == ["1"]
    assert [row.subject for row in found.unreadable] == ["BTCUSDT#2"]


@pytest.mark.parametrize("text", ["0.4000000000000000004e1", "0.1000000000e-10"])
def test_signed__counts_the_decimals_of_the_number_and_not_of_its_text(text: str) -> None:
    assert json_fields.JsonObject({"price": text}, "row").signed("price") == Decimal(text)


@pytest.mark.parametrize("leave_out", [True, False])
def test_trades__a_row_is_read_without_the_word_that_no_amount_depends_on(
    server: RawServer, exchange: Gateway, leave_out: bool
) -> None:
    row = binance.trade(id=1, isMaker=None)
    if leave_out:
        del row["isMaker"]
    server.then(answer(200, [row]))
    found = exchange.fetch_trades(symbol="BTCUSDT")
    assert [(fill.trade_id, fill.is_maker) for fill in found] == [("1", None)]
    assert not found.unreadable


@pytest.mark.parametrize(
    "bad",
    [
        *(binance.trade(isBuyer=1), binance.trade(quoteQty=None), binance.trade(qty="")),
        # An unknown fee isn't zero, and a position that deducts none would be wrong.
        *(binance.trade(commission=None), binance.trade(isMaker="yes")),
        *NOT_OBJECTS,
    ],
    ids=str,
)
def test_trades__a_bad_row_is_set_apart(server: RawServer, exchange: Gateway, bad: Any) -> None:
    server.then(answer(200, [binance.trade(id=1), bad, binance.trade(id=3)]))
    found = exchange.fetch_trades(symbol="BTCUSDT")
    assert [fill.trade_id for fill in found] == ["1", "3"]
    assert [row.subject for row in found.unreadable] in (["BTCUSDT trade 56"], ["trades row 1"])


@pytest.mark.parametrize(
    ("bad", "subject"),
    [
        ({"asset": "ETH", "free": "1.0"}, "ETH"),
        ({"asset": "ETH", "free": "1.0", "locked": "-1"}, "ETH"),
        ({"asset": "", "free": "1.0", "locked": "0"}, "balances row 2"),
        (None, "balances row 2"),
    ],
)
def test_account__a_bad_balance_is_set_apart(
    server: RawServer, exchange: Gateway, bad: Any, subject: str
) -> None:
    rows = binance.account()["balances"]
    server.then(answer(200, binance.account(balances=[*rows, bad])))
    report = exchange.fetch_account()
    assert [row.asset for row in report.balances] == ["BTC", "USDT"]
    assert [row.subject for row in report.unreadable] == [subject]


@pytest.mark.parametrize(
    ("changes", "subject"),
    [
        ({"filters": None}, "BTCUSDT"),
        ({"filters": [{}]}, "BTCUSDT"),
        ({"filters": [None]}, "BTCUSDT"),
        ({"quoteAssetPrecision": "many"}, "BTCUSDT"),
        ({"status": None}, "BTCUSDT"),
        ({"symbol": None}, "symbols row 0"),
        ({"status": "S" * 40}, "BTCUSDT"),
        ({"quoteAssetPrecision": 100_000}, "BTCUSDT"),
        ({"quoteAssetPrecision": -1}, "BTCUSDT"),
        ({"orderTypes": "LIMIT"}, "BTCUSDT"),
        ({"orderTypes": [7]}, "BTCUSDT"),
        ({"filters": [{"filterType": "LOT_SIZE", "stepSize": "small"}]}, "BTCUSDT"),
        ({"filters": [{"filterType": "LOT_SIZE", "stepSize": []}]}, "BTCUSDT"),
        ({"filters": [{"filterType": "NOTIONAL", "minNotional": "NaN"}]}, "BTCUSDT"),
        ({"filters": [{"filterType": "PRICE_FILTER", "maxPrice": "Infinity"}]}, "BTCUSDT"),
        ({"filters": [{"filterType": "PRICE_FILTER", "tickSize": "1e-999999"}]}, "BTCUSDT"),
    ],
    ids=str,
)
def test_exchange_info__a_bad_symbol_is_set_apart(
    server: RawServer, exchange: Gateway, changes: dict[str, Any], subject: str
) -> None:
    body = binance.exchange_info(**changes)
    (good,) = binance.exchange_info()["symbols"]
    body["symbols"].append({**good, "symbol": "ETHUSDT"})
    body["rateLimits"] = [None, {"rateLimitType": "ORDERS"}]
    server.then(answer(200, body))
    info = exchange.fetch_exchange_info()
    assert [rules.symbol for rules in info.instruments] == ["ETHUSDT"]
    assert [row.subject for row in info.unreadable] == [subject]
    assert info.rate_limits == ({"rateLimitType": "ORDERS"},)


def test_last_prices__a_bad_row_costs_only_its_symbol(server: RawServer, exchange: Gateway) -> None:
    good = {"symbol": "BTCUSDT", "price": "60000.00000000"}
    untraded = {"symbol": "ETHUSDT", "price": "0.00000000"}
    unpriced = {"symbol": "ETHUSDT", "price": None}
    bad_rows: list[Any] = [7, None, {}, unpriced, untraded, {"symbol": "", "price": "1"}]
    for bad in bad_rows:
        server.then(answer(200, [bad, good]))
        assert exchange.fetch_last_prices(["BTCUSDT", "ETHUSDT"]) == {"BTCUSDT": Decimal(60_000)}


@pytest.mark.parametrize(
    "bad",
    [
        *(7, None, {}),
        {"symbol": "ETHUSDT", "bidPrice": None, "askPrice": "3000"},
        {"symbol": "ETHUSDT", "bidPrice": "x", "askPrice": "3000"},
        {"symbol": "ETHUSDT", "bidPrice": "-1", "askPrice": "3000"},
        {"symbol": "X" * 33, "bidPrice": "1", "askPrice": "2"},
        {"symbol": "ETHUSDT", "bidPrice": "0.00000000", "askPrice": "3000"},  # no bid
        {"symbol": "ETHUSDT", "bidPrice": "3000", "askPrice": "0.00000000"},  # no ask
        {"symbol": "ETHUSDT", "bidPrice": "3001", "askPrice": "3000"},
    ],
    ids=str,
)
def test_bids_and_asks__a_bad_row_costs_only_its_symbol(
    server: RawServer, exchange: Gateway, bad: Any
) -> None:
    good = {"symbol": "BTCUSDT", "bidPrice": "59999.00000000", "askPrice": "60000.00000000"}
    server.then(answer(200, [bad, good]))
    found = exchange.fetch_bids_and_asks(["BTCUSDT", "ETHUSDT"])
    assert found == {"BTCUSDT": BidAsk(Decimal(59_999), Decimal(60_000))}


def test_orders__texts_are_cut_to_our_columns() -> None:
    long = "x" * 300
    row = binance.queried(
        clientOrderId=long, status=long, type=long, timeInForce=long, expiryReason=long
    )
    other = binance.queried(clientOrderId=f"{long}y")
    first, second = (messages.queried_order(given) for given in (row, other))
    assert (len(first.status), len(first.order_type), len(first.time_in_force)) == (32, 32, 8)
    assert (len(first.reason), len(first.client_order_id)) == (64, 64)
    assert first.client_order_id != second.client_order_id


def test_messages__widths_are_those_of_our_columns() -> None:
    def width(model: Any, name: str) -> int:
        return int(model._meta.get_field(name).max_length)

    assert width(ExchangeOrder, "client_order_id") == json_fields.CLIENT_ORDER_ID_WIDTH
    assert width(ExchangeOrder, "exchange_status") == json_fields.WORD_WIDTH
    assert width(Order, "order_type") == json_fields.WORD_WIDTH
    assert width(Order, "time_in_force") == json_fields.TIME_IN_FORCE_WIDTH
    assert width(Order, "reason_code") == json_fields.REASON_WIDTH
    assert {width(row, "symbol") for row in (Order, ExchangeOrder, Fill, Instrument)} == {32}
    assert {width(Balance, "asset"), width(Fill, "commission_asset")} == {json_fields.ASSET_WIDTH}


def test_parsed__what_no_column_takes_becomes_a_space() -> None:
    expected = {"a ": [" x", "\U0001f600"]}
    assert parsed(r'{"a\u0000": ["\ud800x", "\ud83d\ude00"]}') == expected
