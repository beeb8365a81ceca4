"""Messages come twice, shuffled, to several workers, or not at all: the broker is a doorbell."""

from __future__ import annotations

import random
import time
from datetime import timedelta

import pytest
from django.conf import settings

from backoffice.celery import app
from exchanges import clock
from orders.execution import OrderExecutionService
from orders.models import ExchangeOrder, Order
from tests.harness.processes import ChildProcess
from tests.harness.scenario import Scenario
from tests.harness.waiting import wait_for
from tests.scenarios.asserting import assert_book_equals_truth
from tests.scenarios.steps import (
    LIMIT_BUY,
    MARKET_BUY,
    POST_ORDER,
    order,
    place,
    placements,
    send,
    settle,
    statuses,
)


@pytest.mark.core
def test_submit_order__the_same_message_twice_is_one_order(desk: Scenario) -> None:
    desk.simulator.control.unfreeze()

    first, second = place("i-1", MARKET_BUY), place("i-1", MARKET_BUY, quantity="0.0100")

    assert first == second
    assert first["status"] == "FILLED"
    assert placements(desk) == 1
    assert_book_equals_truth(desk, placed=1)


def test_submit_order__a_hundred_messages_of_twenty_intents_are_twenty_orders(
    desk: Scenario, colleague: ChildProcess
) -> None:
    desk.simulator.control.unfreeze()
    arguments = {f"i-{number}": MARKET_BUY if number % 2 else LIMIT_BUY for number in range(20)}
    messages = [intent_id for intent_id in arguments for _ in range(5)]
    random.Random(20).shuffle(messages)

    results = [(intent_id, send(intent_id, arguments[intent_id])) for intent_id in messages]
    answers = [(intent_id, result.get(timeout=60)) for intent_id, result in results]
    settle()

    assert len({(intent_id, answer["order_id"]) for intent_id, answer in answers}) == 20
    assert placements(desk) == 20
    assert_book_equals_truth(desk, placed=20)
    assert "Traceback" not in desk.worker.output() + colleague.output()


def test_submit_order__the_same_message_to_two_workers_at_once_is_one_order(
    desk: Scenario, colleague: ChildProcess
) -> None:
    intents = [f"i-{number}" for number in range(30)]

    results = [send(intent_id) for intent_id in intents for _ in range(2)]
    for result in results:
        result.get(timeout=60)
    settle()

    assert statuses() == dict.fromkeys(intents, "NEW")
    assert placements(desk) == 30
    assert_book_equals_truth(desk, placed=30)
    assert "Traceback" not in desk.worker.output() + colleague.output()


def test_submit_order__by_message_and_directly_at_once_is_one_order(desk: Scenario) -> None:
    service, intents = OrderExecutionService("demo"), [f"i-{number}" for number in range(30)]
    limit = {name: LIMIT_BUY[name] for name in ("symbol", "order_type", "quantity", "price")}

    results = [send(intent_id) for intent_id in intents]
    placed = [
        service.execute_buy_order(intent_id=intent_id, wait=True, **limit)
        for intent_id in reversed(intents)
    ]
    for result in results:
        result.get(timeout=60)
    settle()

    assert len({order.pk for order in placed}) == 30
    assert statuses() == dict.fromkeys(intents, "NEW")
    assert placements(desk) == 30
    assert_book_equals_truth(desk, placed=30)


def test_submit_order__a_message_that_waited_too_long_is_not_placed(desk: Scenario) -> None:
    """Prices move, so a late order is a wrong order. Repeating it doesn't make it fresh."""
    decided_at = clock.now() - timedelta(seconds=settings.PLACE_WITHIN_SECONDS + 1)

    late = place("i-1", submitted_at=decided_at.isoformat())
    assert (late["status"], late["reason_code"]) == ("NOT_PLACED", "PAST_DEADLINE")
    assert place("i-1")["status"] == "NOT_PLACED"
    assert (
        place("i-2", submitted_at=decided_at.isoformat(), place_within_seconds=600)["status"]
        == "NEW"
    )

    assert placements(desk) == 1
    assert_book_equals_truth(desk, placed=1)


def test_place_order__a_message_for_a_stored_order_may_come_to_two_workers(
    desk: Scenario, colleague: ChildProcess
) -> None:
    service = OrderExecutionService("demo")
    for number in range(15):
        stored = service.execute_buy_order(
            intent_id=f"i-{number}",
            symbol="BTCUSDT",
            order_type="LIMIT",
            quantity="0.01",
            price="50000",
        )
        app.send_task("orders.place_order", kwargs={"order_id": str(stored.pk)})
    settle()

    assert set(statuses().values()) == {"NEW"}
    assert placements(desk) == 15
    assert_book_equals_truth(desk, placed=15)
    assert colleague.is_alive


def test_resolve_unconfirmed__overlapping_sweeps_do_the_work_once(
    desk: Scenario, colleague: ChildProcess
) -> None:
    desk.simulator.control.faults.add("reset_before", match=POST_ORDER, times=8)
    intents = [f"i-{number}" for number in range(8)]
    for result in [send(intent_id) for intent_id in intents]:
        result.get(timeout=30)
    wait_for(lambda: set(statuses().values()) == {"PENDING_NEW"}, what="all are unanswered")

    while set(statuses().values()) != {"NEW"}:
        sweeps = [
            app.send_task("orders.resolve_unconfirmed", ignore_result=False) for _ in range(6)
        ]
        for sweep in sweeps:
            sweep.get(timeout=30)
    settle()

    assert set(Order.objects.values_list("attempt", flat=True)) == {2}
    assert placements(desk) == 16
    assert_book_equals_truth(desk, placed=8)
    assert colleague.is_alive


@pytest.mark.core
def test_redis__flushed_with_orders_queued_loses_nothing_that_was_recorded(desk: Scenario) -> None:
    """A bot that sends only a message repeats it until it is answered."""
    desk.worker.stop()
    service = OrderExecutionService("demo")
    for number in range(5):
        service.execute_buy_order(
            intent_id=f"recorded-{number}",
            symbol="BTCUSDT",
            order_type="LIMIT",
            quantity="0.01",
            price="50000",
        )
    for number in range(5):
        send(f"message-{number}")
    with desk.redis.client() as client:
        assert client.llen("trading") == 10
    desk.redis.flush()
    desk.worker.start()
    settle()
    assert statuses() == {f"recorded-{number}": "NEW" for number in range(5)}

    for number in range(5):
        assert place(f"message-{number}")["status"] == "NEW"
    settle()

    assert_book_equals_truth(desk, placed=10)


def test_redis__away_while_an_order_is_recorded_costs_seconds(desk: Scenario) -> None:
    desk.redis.stop()
    started = time.monotonic()
    OrderExecutionService("demo").execute_buy_order(
        intent_id="i-1", symbol="BTCUSDT", order_type="LIMIT", quantity="0.01", price="50000"
    )
    assert time.monotonic() - started < 5, "the caller waits for a broker that is away"
    assert order("i-1").status == "CREATED"
    assert placements(desk) == 0
    desk.redis.start()

    settle(timeout=40)

    assert order("i-1").status == "NEW"
    assert_book_equals_truth(desk, placed=1)


def test_beat__two_of_them_do_the_work_once(scenario: Scenario) -> None:
    """No other process sweeps."""
    faults = scenario.simulator.control.faults
    faults.add("reset_before", match=POST_ORDER, times=3)
    faults.add("reset_after", match=POST_ORDER, times=3)
    for beat in ("beat-1", "beat-2"):
        scenario.processes.beat(beat, wait=False)
    intents = [f"i-{number}" for number in range(6)]
    for result in [send(intent_id) for intent_id in intents]:
        assert result.get(timeout=30)["status"] == "PENDING_NEW"

    wait_for(
        lambda: set(statuses().values()) == {"NEW"},
        timeout=30,
        what="the beats have settled every order",
    )

    assert ExchangeOrder.objects.count() == 9
    assert placements(scenario) == 9
    assert_book_equals_truth(scenario, placed=6)
    assert settings.RESOLVE_INTERVAL_SECONDS < 1
