"""Test the stages of a placement, and the price of the market that was known at its claim."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from exchanges import clock
from exchanges.models import ExchangeAccount, LastPrice, MidPrice
from orders.models import ExchangeOrder, Order
from orders.recording.apply import apply_report
from orders.stages import Stage, StageReached, StageTimer, stages_of
from tests.factories import ExchangeOrderFactory, OrderFactory
from tests.fakes import FakeExchange
from tests.steps import attempt_of, submit

pytestmark = pytest.mark.django_db
PLACED = [
    Stage.RECEIVED,
    Stage.GATED,
    Stage.CLAIMED,
    Stage.SENT,
    Stage.ANSWERED,
    Stage.RECORDED,
]


def test_stages_of__an_order_that_was_placed_and_filled(
    demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    before = clock.now()
    order = submit(order_type="MARKET", price=None)
    stages = stages_of(order)
    assert [reached.stage for reached in stages] == [*PLACED, Stage.FIRST_FILL]
    *own, filled = stages
    moments = [reached.at for reached in own]
    assert before <= moments[0]
    assert moments == sorted(moments)
    assert moments[-1] <= clock.now()
    assert own[1].at == attempt_of(order).sent_at
    assert [reached.took for reached in own[1:]] == [after - at for at, after in pairwise(moments)]
    assert filled.at == order.fills.get().traded_at


def test_stages_of__a_refused_order(demo: ExchangeAccount, exchange: FakeExchange) -> None:
    exchange.answer("place", 400, -2010, "Order would immediately match and take.")
    order = submit()
    assert order.status == "REJECTED"
    assert [reached.stage for reached in stages_of(order)] == PLACED


def test_stages_of__each_attempt_by_itself(demo: ExchangeAccount, exchange: FakeExchange) -> None:
    exchange.refuse_connection("place")
    order = submit()
    assert order.status == "CREATED"
    assert [reached.stage for reached in stages_of(order)] == [Stage.RECEIVED, Stage.GATED]


def test_stages_of__an_answer_that_another_process_recorded(demo: ExchangeAccount) -> None:
    sent_at = clock.now()
    attempt = ExchangeOrderFactory(
        order=OrderFactory(account=demo, status="NEW"),
        sent_at=sent_at,
        acknowledged_at=sent_at + timedelta(seconds=1),
    )
    ExchangeOrder.objects.filter(pk=attempt.pk).update(stage_us=[2500])
    assert stages_of(attempt.order) == [
        StageReached(1, Stage.RECEIVED, sent_at - timedelta(microseconds=2500), None),
        StageReached(1, Stage.GATED, sent_at, timedelta(microseconds=2500)),
        StageReached(1, Stage.RECORDED, sent_at + timedelta(seconds=1), None),
    ]


def test_stages_of__a_row_of_an_earlier_version(demo: ExchangeAccount) -> None:
    attempt = ExchangeOrderFactory(order=OrderFactory(account=demo, status="NEW"))
    assert attempt.stage_us is None
    assert [reached.stage for reached in stages_of(attempt.order)] == [
        Stage.GATED,
        Stage.RECORDED,
    ]


def test_stage_timer__a_stage_that_takes_hours_fits_its_column(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timer = StageTimer()
    later = clock.monotonic() + 7200
    monkeypatch.setattr(clock, "monotonic", lambda: later)
    timer.reach(Stage.GATED)
    assert timer.microseconds() == [2**31 - 1]


def arrival_of(order: Order) -> tuple[Decimal | None, datetime | None, str]:
    attempt = attempt_of(order)
    return attempt.arrival_price, attempt.arrival_price_at, attempt.arrival_price_source


def know_mid(age: timedelta) -> datetime:
    """Let the mid be 60,001, as it was so long ago. Return the time."""
    at = clock.now() - age
    MidPrice.objects.update_or_create(
        exchange="binance",
        environment="simulator",
        symbol="BTCUSDT",
        defaults={"bid": Decimal(60_000), "ask": Decimal(60_002), "asked_at": at},
    )
    return at


def test_claim__stores_the_last_trade_if_no_mid_is_known(
    demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    """A market order needs the price, so it is fetched. A limit order takes what is known.

    The price is as old as the trade, however young our query is.
    """
    assert arrival_of(submit("i-1")) == (None, None, "")
    second = submit("i-2", order_type="MARKET", price=None)
    last = LastPrice.objects.get(symbol="BTCUSDT")
    assert arrival_of(second) == (last.price, last.traded_at, "last_trade")
    traded_at = clock.now() - timedelta(minutes=3)
    LastPrice.objects.update(price=Decimal(60_003), traded_at=traded_at, asked_at=clock.now())
    assert arrival_of(submit("i-3")) == (Decimal(60_003), traded_at, "last_trade")


def test_claim__stores_a_fresh_mid_with_its_time(
    demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    asked_at = know_mid(timedelta(seconds=12))
    assert arrival_of(submit("i-1")) == (Decimal(60_001), asked_at, "mid")
    order = submit("i-2", order_type="MARKET", price=None)  # fetches a newer last trade
    assert arrival_of(order) == (Decimal(60_001), asked_at, "mid")


def test_claim__stores_the_newer_price_if_no_mid_is_fresh(
    demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    order = submit("i-1", order_type="MARKET", price=None)
    assert arrival_of(order)[2] == "last_trade"
    know_mid(timedelta(minutes=2))
    assert arrival_of(submit("i-2"))[2] == "last_trade"
    LastPrice.objects.update(traded_at=clock.now() - timedelta(minutes=3), asked_at=clock.now())
    assert arrival_of(submit("i-3"))[2] == "mid"


def test_claim__takes_no_price_of_another_market(
    demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    know_mid(timedelta())
    MidPrice.objects.update(environment="testnet")
    assert arrival_of(submit("i-1")) == (None, None, "")


def test_apply_report__a_report_that_changes_nothing_costs_no_write_for_its_stages(
    demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    attempt = attempt_of(submit())
    report = exchange.gateway(demo).fetch_order(
        symbol="BTCUSDT", client_order_id=attempt.client_order_id
    )
    version = attempt.order.version
    assert apply_report(attempt, report, timer=StageTimer()).version == version
