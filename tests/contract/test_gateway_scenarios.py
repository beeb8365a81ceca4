"""The behavior of every exchange behind the gateway. Both venues run each scenario."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from exchanges import clock
from exchanges.errors import (
    AccountError,
    DuplicateOrder,
    GatewayError,
    NotSent,
    OrderNotFound,
    OrderRejected,
    OutcomeUnknown,
)
from exchanges.types import (
    BidAsk,
    FillReport,
    OrderReport,
    OrderRequest,
    OrderType,
    ReportSource,
    Side,
    TimeInForce,
    to_ms,
)
from tests.contract.venues import Venue
from tests.harness.waiting import wait_for

pytestmark = pytest.mark.usefixtures("without_limits")
SYMBOL = "BTCUSDT"
ID = "bo-contract-1"


def request(venue: Venue, **changes: Any) -> OrderRequest:
    """Return a LIMIT BUY that rests on the book."""
    order = OrderRequest(
        symbol=SYMBOL,
        side=Side.BUY,
        order_type=OrderType.LIMIT,
        client_order_id=ID,
        timestamp_ms=venue.gateway.now_ms(),
        recv_window_ms=5000,
        quantity=Decimal("0.004"),
        price=Decimal(50000),
        time_in_force=TimeInForce.GTC,
    )
    return replace(order, **changes)


def place(venue: Venue, **changes: Any) -> OrderReport:
    return venue.gateway.place(request(venue, **changes))


def order(venue: Venue, client_order_id: str = ID) -> OrderReport:
    return venue.gateway.fetch_order(symbol=SYMBOL, client_order_id=client_order_id)


def figures(report: OrderReport) -> tuple[Any, ...]:
    return (
        report.symbol,
        report.client_order_id,
        report.exchange_order_id,
        report.status,
        report.side,
        report.order_type,
        report.time_in_force,
        report.quantity,
        report.price,
        report.filled_quantity,
        report.filled_quote_quantity,
        report.quote_quantity,
        report.stop_price,
        report.reason,
    )


def without_source(fill: FillReport) -> FillReport:
    return replace(fill, client_order_id=None, is_maker=None)


# -- the life of an order ------------------------------------------------------------------------


def test_limit_order__is_the_same_from_every_side(venue: Venue) -> None:
    placed = place(venue)
    assert (placed.status, placed.filled_quantity, placed.fills) == ("NEW", Decimal(0), ())
    assert (placed.quantity, placed.price) == (Decimal("0.004"), Decimal(50000))
    by_id = venue.gateway.fetch_order(symbol=SYMBOL, exchange_order_id=placed.exchange_order_id)
    for report in (
        order(venue),
        by_id,
        *venue.gateway.fetch_open_orders(),
        *venue.gateway.fetch_open_orders(SYMBOL),
        *venue.gateway.fetch_all_orders(symbol=SYMBOL),
    ):
        assert figures(report) == figures(placed)
        assert (report.created_at, report.updated_at) == (placed.created_at, placed.updated_at)
    assert len(venue.gateway.fetch_open_orders()) == 1
    assert venue.gateway.fetch_open_orders("ETHUSDT") == []


def test_limit_order__is_canceled_once(venue: Venue) -> None:
    placed = place(venue)
    canceled = venue.gateway.cancel(symbol=SYMBOL, client_order_id=ID)
    assert (canceled.source, canceled.status) == (ReportSource.CANCEL, "CANCELED")
    assert (canceled.client_order_id, canceled.exchange_order_id) == (
        ID,
        placed.exchange_order_id,
    )
    with pytest.raises(OrderNotFound) as caught:
        venue.gateway.cancel(symbol=SYMBOL, client_order_id=ID)
    assert caught.value.code == -2011
    assert order(venue).status == "CANCELED"
    assert venue.gateway.fetch_open_orders() == []


def test_limit_order__is_canceled_by_the_exchanges_id(venue: Venue) -> None:
    placed = place(venue)
    canceled = venue.gateway.cancel(symbol=SYMBOL, exchange_order_id=placed.exchange_order_id)
    assert (canceled.status, canceled.client_order_id) == ("CANCELED", ID)


def test_limit_order__is_filled_in_parts(venue: Venue) -> None:
    placed = place(venue)
    venue.fill(ID, "0.001")
    partly = order(venue)
    assert (partly.status, partly.filled_quantity) == ("PARTIALLY_FILLED", Decimal("0.001"))
    assert partly.updated_at >= placed.updated_at
    venue.fill(ID)
    filled = order(venue)
    assert (filled.status, filled.filled_quantity, filled.filled_quote_quantity) == (
        "FILLED",
        Decimal("0.004"),
        Decimal(200),
    )
    fills = venue.gateway.fetch_trades(symbol=SYMBOL, exchange_order_id=placed.exchange_order_id)
    assert [(fill.quantity, fill.price, fill.is_maker, fill.side) for fill in fills] == [
        (Decimal("0.001"), Decimal(50000), True, Side.BUY),
        (Decimal("0.003"), Decimal(50000), True, Side.BUY),
    ]
    assert [fill.commission_asset for fill in fills] == ["BTC", "BTC"]
    assert [fill.commission for fill in fills] == [Decimal("0.000001"), Decimal("0.000003")]
    assert venue.gateway.fetch_open_orders() == []


def test_limit_order__canceled_after_a_part_keeps_it(venue: Venue) -> None:
    place(venue)
    venue.fill(ID, "0.001")
    canceled = venue.gateway.cancel(symbol=SYMBOL, client_order_id=ID)
    assert (canceled.status, canceled.filled_quantity, canceled.filled_quote_quantity) == (
        "CANCELED",
        Decimal("0.001"),
        Decimal(50),
    )


@pytest.mark.parametrize(("how", "status"), [("cancel", "CANCELED"), ("expire", "EXPIRED")])
def test_limit_order__ended_by_the_exchange_says_so(venue: Venue, how: str, status: str) -> None:
    place(venue)
    getattr(venue, how)(ID)
    report = order(venue)
    assert report.status == status
    assert bool(report.reason) == (status == "EXPIRED")


def test_market_order__by_quantity_carries_its_fills(venue: Venue) -> None:
    venue.quote()
    changes = {"order_type": OrderType.MARKET, "price": None, "time_in_force": None}
    placed = place(venue, **changes, quantity=Decimal("0.01"))
    assert (placed.status, placed.filled_quantity) == ("FILLED", Decimal("0.01"))
    assert sum(fill.quantity for fill in placed.fills) == Decimal("0.01")
    assert sum(fill.quote_quantity for fill in placed.fills) == placed.filled_quote_quantity
    trades = venue.gateway.fetch_trades(symbol=SYMBOL, exchange_order_id=placed.exchange_order_id)
    assert [without_source(fill) for fill in trades] == [
        without_source(fill) for fill in placed.fills
    ]
    assert [fill.is_maker for fill in trades] == [fill.is_maker for fill in placed.fills]


def test_market_order__by_quote_amount_spends_no_more(venue: Venue) -> None:
    venue.quote()
    changes = {
        "order_type": OrderType.MARKET,
        "price": None,
        "time_in_force": None,
        "quantity": None,
    }
    placed = place(venue, **changes, quote_quantity=Decimal(500))
    assert (placed.status, placed.quote_quantity) == ("FILLED", Decimal(500))
    assert placed.filled_quote_quantity is not None
    assert Decimal(490) < placed.filled_quote_quantity <= Decimal(500)


def test_market_order__on_an_empty_book_expires_or_is_refused(venue: Venue) -> None:
    changes = {"order_type": OrderType.MARKET, "price": None, "time_in_force": None}
    try:
        ended = place(venue, **changes).status
    except OrderRejected:
        ended = "REJECTED"
    assert ended in ("EXPIRED", "REJECTED")
    assert venue.gateway.fetch_open_orders() == []


@pytest.mark.parametrize("time_in_force", [TimeInForce.IOC, TimeInForce.FOK])
def test_immediate_order__unfilled_expires(venue: Venue, time_in_force: TimeInForce) -> None:
    placed = place(venue, time_in_force=time_in_force)
    assert (placed.status, placed.filled_quantity) == ("EXPIRED", Decimal(0))
    assert placed.reason == order(venue).reason


def test_stop_order__waits(venue: Venue) -> None:
    venue.quote()
    placed = place(
        venue,
        order_type=OrderType.STOP_LOSS_LIMIT,
        side=Side.SELL,
        price=Decimal(40000),
        stop_price=Decimal(41000),
    )
    assert (placed.status, placed.stop_price) == ("NEW", Decimal(41000))
    assert figures(order(venue)) == figures(placed)


def test_limit_maker__that_would_take_is_refused(venue: Venue) -> None:
    venue.quote()
    with pytest.raises(OrderRejected, match="immediately match and take"):
        place(venue, order_type=OrderType.LIMIT_MAKER, price=Decimal(70000), time_in_force=None)
    assert venue.accepted(ID) == 0


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"quantity": Decimal(3)}, -2010, "insufficient balance"),
        (
            {"side": Side.SELL, "quantity": Decimal("1.5"), "price": Decimal(70000)},
            -2010,
            "insufficient balance",
        ),
        ({"quantity": Decimal("0.000001")}, -1013, "LOT_SIZE"),
        ({"price": Decimal("50000.001")}, -1013, "PRICE_FILTER"),
        ({"quantity": Decimal("0.00001")}, -1013, "NOTIONAL"),
        ({"quantity": Decimal("0.0000000001")}, -1111, "precision"),
        ({"symbol": "NOSUCHCOIN"}, -1121, "symbol"),
        ({"price": None}, -1102, "price"),
        ({"order_type": OrderType.MARKET}, -1106, ""),
        ({"client_order_id": "x" * 37}, -1100, "newClientOrderId"),
        ({"recv_window_ms": 60_001}, -1131, ""),
    ],
)
def test_place__a_refusal_is_final_and_in_the_exchanges_words(
    venue: Venue, changes: dict[str, Any], code: int, text: str
) -> None:
    with pytest.raises(OrderRejected) as caught:
        place(venue, **changes)
    assert caught.value.code == code
    assert text in caught.value.message
    assert venue.gateway.fetch_all_orders(symbol=SYMBOL) == []


def test_place__a_halted_symbol_refuses(venue: Venue) -> None:
    venue.set_status(SYMBOL, "HALT")
    with pytest.raises(OrderRejected, match="Market is closed"):
        place(venue)


def test_place__an_id_that_is_open_is_a_duplicate(venue: Venue) -> None:
    place(venue)
    with pytest.raises(DuplicateOrder):
        place(venue, price=Decimal(49000))
    assert venue.accepted(ID) == 1


def test_place__an_id_that_is_filled_is_taken_again(venue: Venue) -> None:
    """A client order id is no idempotency key, and this is why."""
    first = place(venue)
    venue.fill(ID)
    assert place(venue).exchange_order_id != first.exchange_order_id
    assert venue.accepted(ID) == 2


@pytest.mark.parametrize("call", ["fetch_order", "cancel"])
def test_unknown_order__is_not_found(venue: Venue, call: str) -> None:
    with pytest.raises(OrderNotFound) as caught:
        getattr(venue.gateway, call)(symbol=SYMBOL, client_order_id="bo-never-1")
    assert caught.value.code == (-2013 if call == "fetch_order" else -2011)


def test_key__revoked_is_an_account_error(venue: Venue) -> None:
    now_ms = venue.gateway.now_ms()
    venue.revoke_key()
    asks: tuple[Callable[[], object], ...] = (
        lambda: place(venue, timestamp_ms=now_ms),
        lambda: venue.gateway.cancel(symbol=SYMBOL, client_order_id=ID),
        venue.gateway.fetch_account,
    )
    for ask in asks:
        with pytest.raises(AccountError) as caught:
            ask()
        assert caught.value.code == -2015


# -- time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("late_by_ms", [-2000, 1200])
def test_place__outside_its_window_is_not_executed(venue: Venue, late_by_ms: int) -> None:
    stale = venue.gateway.now_ms() - late_by_ms
    with pytest.raises(NotSent) as caught:
        place(venue, timestamp_ms=stale, recv_window_ms=1000)
    assert caught.value.code == -1021
    assert venue.accepted(ID) == 0


def test_place__is_signed_as_it_was_committed(venue: Venue) -> None:
    """A window that is still open accepts an old timestamp, which proves that it wasn't renewed."""
    assert (
        place(venue, timestamp_ms=venue.gateway.now_ms() - 1500, recv_window_ms=30_000).status
        == "NEW"
    )


@pytest.mark.parametrize("offset_ms", [-3_600_000, 3_600_000])
def test_now_ms__follows_the_exchanges_clock(venue: Venue, offset_ms: int) -> None:
    venue.gateway.now_ms()
    venue.set_clock_offset(offset_ms)
    assert venue.gateway.fetch_open_orders() == []
    assert abs(venue.gateway.now_ms() - clock.now_ms() - offset_ms) < 1500
    assert abs(venue.gateway.server_time_ms() - clock.now_ms() - offset_ms) < 1500
    assert to_ms(place(venue).updated_at) - clock.now_ms() - offset_ms < 1500


# -- lost and strange answers --------------------------------------------------------------------


@pytest.mark.parametrize("executed", [True, False])
def test_place__a_lost_answer_is_unknown_and_can_be_asked_about(
    venue: Venue, executed: bool
) -> None:
    venue.lose_answer("place", executed=executed)
    with pytest.raises(OutcomeUnknown):
        place(venue)
    assert venue.accepted(ID) == int(executed)
    if executed:
        assert order(venue).status == "NEW"
        with pytest.raises(DuplicateOrder):
            place(venue)
    else:
        with pytest.raises(OrderNotFound):
            order(venue)
        assert venue.gateway.fetch_all_orders(symbol=SYMBOL) == []


@pytest.mark.parametrize("executed", [True, False])
def test_cancel__a_lost_answer_is_unknown(venue: Venue, executed: bool) -> None:
    place(venue)
    venue.lose_answer("cancel", executed=executed)
    with pytest.raises(OutcomeUnknown):
        venue.gateway.cancel(symbol=SYMBOL, client_order_id=ID)
    assert order(venue).status == ("CANCELED" if executed else "NEW")


@pytest.mark.parametrize("executed", [True, False])
@pytest.mark.parametrize(
    ("status", "code"), [(504, -1007), (503, -1008), (500, -1000), (503, -2010)]
)
def test_place__a_fault_of_the_server_is_unknown(
    venue: Venue, status: int, code: int, executed: bool
) -> None:
    venue.answer("place", status, code, "Duplicate order sent.", executed=executed)
    with pytest.raises(OutcomeUnknown) as caught:
        place(venue)
    assert (caught.value.http_status, caught.value.code) == (status, code)
    assert venue.accepted(ID) == int(executed)


@pytest.mark.parametrize(
    "call", ["place", "cancel", "fetch_order", "fetch_open_orders", "fetch_trades", "fetch_account"]
)
def test_calls__a_strange_body_is_unknown(venue: Venue, call: str) -> None:
    place(venue, client_order_id="bo-before-1")
    venue.answer_garbage(call, executed=True)
    asks: dict[str, Callable[[], object]] = {
        "place": lambda: place(venue),
        "cancel": lambda: venue.gateway.cancel(symbol=SYMBOL, client_order_id="bo-before-1"),
        "fetch_order": lambda: order(venue, "bo-before-1"),
        "fetch_open_orders": venue.gateway.fetch_open_orders,
        "fetch_trades": lambda: venue.gateway.fetch_trades(symbol=SYMBOL),
        "fetch_account": venue.gateway.fetch_account,
    }
    with pytest.raises(OutcomeUnknown):
        asks[call]()


def test_calls__a_limit_says_when_to_come_again(venue: Venue) -> None:
    timestamp_ms = venue.gateway.now_ms()
    venue.limit("place", 7)
    with pytest.raises(NotSent) as caught:
        place(venue, timestamp_ms=timestamp_ms)
    assert caught.value.retry_after == 7
    assert (caught.value.http_status, venue.accepted(ID)) == (429, 0)


def test_place__an_order_may_be_invisible_for_a_while(venue: Venue) -> None:
    venue.hide_next(0.5)
    place(venue)
    with pytest.raises(OrderNotFound):
        order(venue)
    with pytest.raises(OrderNotFound):
        venue.gateway.cancel(symbol=SYMBOL, client_order_id=ID)
    assert venue.gateway.fetch_open_orders() == []
    wait_for(lambda: venue.gateway.fetch_open_orders(), what="the order to show")
    assert order(venue).status == "NEW"


# -- lists ---------------------------------------------------------------------------------------


def test_fetch_all_orders__by_id_and_by_time(venue: Venue) -> None:
    started = venue.gateway.server_time_ms()
    placed = [place(venue, client_order_id=f"bo-list-{number}") for number in range(5)]
    venue.gateway.cancel(symbol=SYMBOL, client_order_id="bo-list-1")
    names = [f"bo-list-{number}" for number in range(5)]

    def found(**window: Any) -> list[str]:
        return [
            report.client_order_id
            for report in venue.gateway.fetch_all_orders(symbol=SYMBOL, **window)
        ]

    assert found() == names
    assert found(start_ms=started) == names
    assert found(start_ms=started, end_ms=started + 3_600_000) == names
    assert found(from_order_id=placed[3].exchange_order_id) == names[3:]
    assert found(from_order_id=placed[0].exchange_order_id, limit=2) == names[:2]
    assert found(start_ms=started + 3_600_000) == []


def test_fetch_trades__by_order_and_by_id(venue: Venue) -> None:
    started = venue.gateway.server_time_ms()
    orders = [place(venue, client_order_id=f"bo-list-{number}") for number in range(2)]
    for _ in range(3):
        venue.fill("bo-list-0", "0.001")
    venue.fill("bo-list-1", "0.002")
    every = venue.gateway.fetch_trades(symbol=SYMBOL)
    assert [fill.quantity for fill in every] == [Decimal("0.001")] * 3 + [Decimal("0.002")]
    assert len({fill.trade_id for fill in every}) == 4

    def found(**window: Any) -> list[FillReport]:
        return venue.gateway.fetch_trades(symbol=SYMBOL, **window)

    assert found(exchange_order_id=orders[0].exchange_order_id) == every[:3]
    assert found(from_trade_id=every[1].trade_id) == every[1:]
    assert found(from_trade_id=every[1].trade_id, limit=2) == every[1:3]
    assert found(start_ms=started) == every
    assert found(start_ms=started + 3_600_000) == []


@pytest.mark.parametrize("ask", ["fetch_all_orders", "fetch_trades"])
def test_history__more_than_a_day_at_once_is_refused(venue: Venue, ask: str) -> None:
    with pytest.raises(GatewayError) as caught:
        getattr(venue.gateway, ask)(
            symbol=SYMBOL, start_ms=1_700_000_000_000, end_ms=1_700_000_000_000 + 86_400_001
        )
    assert caught.value.code == -1127


def test_fetch_account__follows_the_orders(venue: Venue) -> None:
    def balances() -> dict[str, tuple[Decimal, Decimal]]:
        report = venue.gateway.fetch_account()
        return {row.asset: (row.free, row.locked) for row in report.balances}

    assert balances() == {"BTC": (Decimal(1), Decimal(0)), "USDT": (Decimal(100000), Decimal(0))}
    place(venue)
    assert balances()["USDT"] == (Decimal(99800), Decimal(200))
    venue.fill(ID)
    assert balances() == {
        "BTC": (Decimal("1.003996"), Decimal(0)),
        "USDT": (Decimal(99800), Decimal(0)),
    }


def test_fetch_account__is_not_older_than_the_last_fill(venue: Venue) -> None:
    placed = place(venue)
    report = venue.gateway.fetch_account()
    assert report.updated_at is not None
    assert report.updated_at >= placed.updated_at
    assert {row.updated_at for row in report.balances} == {report.updated_at}


def test_fetch_instruments__of_these_symbols_or_all(venue: Venue) -> None:
    every = {rules.symbol: rules for rules in venue.gateway.fetch_instruments()}
    assert {"BTCUSDT", "ETHUSDT", "ETHBTC"} <= set(every)
    two = venue.gateway.fetch_instruments(["BTCUSDT", "ETHBTC"])
    assert [rules.symbol for rules in two] == ["BTCUSDT", "ETHBTC"]
    bitcoin = every[SYMBOL]
    assert (bitcoin.base_asset, bitcoin.quote_asset, bitcoin.is_trading) == ("BTC", "USDT", True)
    assert bitcoin.figure("LOT_SIZE", "stepSize") > 0
    assert "MARKET" in bitcoin.order_types
    venue.set_status(SYMBOL, "HALT")
    assert not venue.gateway.fetch_instruments([SYMBOL])[0].is_trading


def test_fetch_bids_and_asks__of_these_symbols_or_all(venue: Venue) -> None:
    """The book is empty but for one bid, so no symbol has both sides before the second order."""
    place(venue)
    assert venue.gateway.fetch_bids_and_asks([SYMBOL]) == {}
    place(venue, client_order_id=f"{ID}-ask", side=Side.SELL, price=Decimal(60_000))
    found = venue.gateway.fetch_bids_and_asks([SYMBOL, "ETHUSDT"])
    assert found == {SYMBOL: BidAsk(Decimal(50_000), Decimal(60_000))}
    assert venue.gateway.fetch_bids_and_asks() == found


def test_fetch_bids_and_asks__an_unknown_symbol_is_refused(venue: Venue) -> None:
    with pytest.raises(OrderRejected) as caught:
        venue.gateway.fetch_bids_and_asks([SYMBOL, "NOSUCHCOIN"])
    assert caught.value.code == -1121


def test_fetch_instruments__an_unknown_symbol_is_refused(venue: Venue) -> None:
    with pytest.raises(OrderRejected) as caught:
        venue.gateway.fetch_instruments(["NOSUCHCOIN"])
    assert caught.value.code == -1121
