"""Test the stages of a placement, and the price that was known when it arrived."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from exchanges import clock
from exchanges.models import ExchangeAccount, LastPrice
from orders.models import ExchangeOrder
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


def test_claim__stores_the_last_trade_that_the_gate_knew(
    demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    """A market order needs the price, so it is fetched. A limit order takes what is known."""
    first = attempt_of(submit("i-1"))
    assert (first.arrival_price, first.arrival_price_at) == (None, None)
    second = attempt_of(submit("i-2", order_type="MARKET", price=None))
    last = LastPrice.objects.get(symbol="BTCUSDT")
    assert (second.arrival_price, second.arrival_price_at) == (last.price, last.asked_at)
    asked_at = clock.now() - timedelta(minutes=3)
    LastPrice.objects.update(price=Decimal(60001), asked_at=asked_at)
    third = attempt_of(submit("i-3"))
    assert (third.arrival_price, third.arrival_price_at) == (Decimal(60001), asked_at)


def test_apply_report__a_report_that_changes_nothing_costs_no_write_for_its_stages(
    demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    attempt = attempt_of(submit())
    report = exchange.gateway(demo).fetch_order(
        symbol="BTCUSDT", client_order_id=attempt.client_order_id
    )
    version = attempt.order.version
    assert apply_report(attempt, report, timer=StageTimer()).version == version
