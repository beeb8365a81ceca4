"""Fetch missing trades page by page: each is stored once, with its commission as charged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from exchanges import clock
from exchanges.binance.registry import get_gateway
from exchanges.models import ExchangeAccount
from exchanges.types import FillReport, Side
from orders.models import ExchangeOrder, Fill, Order, ReconciliationBreak
from orders.reconciliation.questions import fetch_missing_fills
from orders.recording import apply
from orders.sweep import resolve_unconfirmed
from tests import steps
from tests.factories import ExchangeAccountFactory
from tests.fakes import FakeExchange
from tests.steps import attempt_of

pytestmark = pytest.mark.django_db
D = Decimal


@pytest.fixture
def exchange() -> Iterator[FakeExchange]:
    with FakeExchange({"USDT": "100000", "BTC": "10", "BNB": "10"}).installed() as exchange:
        yield exchange


@pytest.fixture
def owner(exchange: FakeExchange) -> ExchangeAccount:
    return ExchangeAccountFactory(name="demo")


def submit(**changes: Any) -> ExchangeOrder:
    return attempt_of(steps.submit(**{"quantity": "0.1", "price": "40000"} | changes))


def learn_state(attempt: ExchangeOrder) -> Order:
    """Apply the answer of a query: it has the filled quantity, but no trades."""
    gateway = get_gateway(attempt.order.account)
    report = gateway.fetch_order(symbol=attempt.symbol, client_order_id=attempt.client_order_id)
    return apply.apply_report(attempt, report)


def assert_fills_add_up(attempt: ExchangeOrder) -> None:
    attempt.refresh_from_db()
    fills = list(Fill.objects.filter(exchange_order=attempt))
    assert sum(fill.quantity for fill in fills) == attempt.filled_quantity == attempt.fills_quantity
    assert sum(fill.quote_quantity for fill in fills) == attempt.filled_quote_quantity


@pytest.mark.usefixtures("owner")
@pytest.mark.parametrize("count", [1000, 1001, 2345])
def test_fetch_missing_fills__reads_every_page(
    exchange: FakeExchange, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = submit()
    now_ms = clock.now_ms()
    monkeypatch.setattr(clock, "now_ms", lambda: now_ms)  # All in the same millisecond.
    for _ in range(count):
        exchange.fill(attempt.client_order_id, "0.00001")
    learn_state(attempt)
    order = fetch_missing_fills(get_gateway(attempt.order.account), attempt)
    assert (order.fills.count(), order.filled_quantity) == (count, D("0.00001") * count)
    assert_fills_add_up(attempt)
    assert len(exchange.calls_of("fetch_trades")) == count // 1000 + 1


@pytest.mark.usefixtures("owner")
def test_fetch_missing_fills__again_stores_nothing_twice(exchange: FakeExchange) -> None:
    attempt = submit()
    exchange.fill(attempt.client_order_id, "0.03")
    learn_state(attempt)
    gateway = get_gateway(attempt.order.account)
    fetch_missing_fills(gateway, attempt)
    version = attempt.order.version
    assert fetch_missing_fills(gateway, attempt).version == version
    assert attempt.order.fills.count() == 1


@pytest.mark.usefixtures("owner")
def test_fetch_missing_fills__resumes_after_a_page_failed(exchange: FakeExchange) -> None:
    attempt = submit()
    for _ in range(1500):
        exchange.fill(attempt.client_order_id, "0.00001")
    learn_state(attempt)
    exchange.lose_answer("fetch_trades", executed=False)
    Order.objects.update(next_check_at=clock.now())
    resolve_unconfirmed()
    assert not Fill.objects.exists()
    for _ in range(2):
        Order.objects.filter(next_check_at__isnull=False).update(next_check_at=clock.now())
        resolve_unconfirmed()
    assert_fills_add_up(attempt)
    assert Order.objects.get().next_check_at is None


@pytest.mark.usefixtures("owner")
@pytest.mark.parametrize(
    ("side", "in_bnb", "asset"),
    [("BUY", False, "BTC"), ("SELL", False, "USDT"), ("BUY", True, "BNB")],
)
def test_fetch_missing_fills__keeps_the_commission_as_it_was_taken(
    exchange: FakeExchange, side: str, in_bnb: bool, asset: str
) -> None:
    attempt = submit(side=side, price="40000" if side == "BUY" else "90000")
    account = exchange.simulator.engine.accounts["demo"]
    account.commission = replace(account.commission, discount_enabled_for_account=in_bnb)
    exchange.fill(attempt.client_order_id, "0.03")
    exchange.fill(attempt.client_order_id)
    learn_state(attempt)
    fetch_missing_fills(get_gateway(attempt.order.account), attempt)
    theirs = get_gateway(attempt.order.account).fetch_trades(symbol="BTCUSDT")
    ours = {fill.trade_id: (fill.commission, fill.commission_asset) for fill in Fill.objects.all()}
    assert ours == {fill.trade_id: (fill.commission, fill.commission_asset) for fill in theirs}
    assert {commission_asset for _, commission_asset in ours.values()} == {asset}
    assert all(commission > 0 for commission, _ in ours.values())


@pytest.mark.usefixtures("owner")
def test_fetch_missing_fills__without_commission(exchange: FakeExchange) -> None:
    attempt = submit()
    account = exchange.simulator.engine.accounts["demo"]
    account.commission = replace(account.commission, standard=type(account.commission.standard)())
    exchange.fill(attempt.client_order_id)
    learn_state(attempt)
    fetch_missing_fills(get_gateway(attempt.order.account), attempt)
    assert Fill.objects.get().commission == 0


@pytest.mark.usefixtures("owner")
def test_resolve_unconfirmed__trades_that_never_come_are_a_break_that_closes_by_itself(
    exchange: FakeExchange,
) -> None:
    attempt = submit()
    exchange.fill(attempt.client_order_id)
    learn_state(attempt)
    exchange.answer_body("fetch_trades", [], times=12)
    for _ in range(12):
        Order.objects.filter(next_check_at__isnull=False).update(next_check_at=clock.now())
        resolve_unconfirmed()
    assert ReconciliationBreak.objects.get(resolved_at=None).kind == "FILL_GAP"
    Order.objects.update(next_check_at=clock.now())
    resolve_unconfirmed()
    assert_fills_add_up(attempt)
    assert not ReconciliationBreak.objects.filter(resolved_at=None).exists()


@pytest.mark.usefixtures("exchange")
def test_trade_with_oneself__is_a_fill_of_each_order(owner: ExchangeAccount) -> None:
    """Without self-trade prevention both orders of a trade may be ours."""
    buy, sell = submit(), submit(intent_id="i-2", side="SELL", price="90000")
    for attempt, side in ((buy, Side.BUY), (sell, Side.SELL)):
        apply.apply_fills(attempt, [trade(attempt, "7", side)])
        apply.apply_fills(attempt, [trade(attempt, "7", side)])
        assert_fills_add_up(attempt)
    assert [*Fill.objects.order_by("side").values_list("side", "trade_id", "epoch")] == [
        ("BUY", "7", 0),
        ("SELL", "7", 0),
    ]
    owner.refresh_from_db()
    assert (owner.trading_state, ReconciliationBreak.objects.count()) == ("ACTIVE", 0)


def trade(attempt: ExchangeOrder, trade_id: str, side: Side) -> FillReport:
    return FillReport(
        symbol=attempt.symbol,
        trade_id=trade_id,
        exchange_order_id=attempt.exchange_order_id,
        side=side,
        quantity=D("0.01"),
        price=D(40000),
        quote_quantity=D(400),
        commission=D(0),
        commission_asset="",
        is_maker=side is Side.BUY,
        traded_at=clock.now(),
    )
