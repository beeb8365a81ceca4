"""The exchange lags behind itself: it executes late, and its queries know less than its engine."""

from __future__ import annotations

from typing import Any

import pytest

from backoffice.celery import app
from orders.models import EventType, ReconciliationBreak
from tests.harness.scenario import Scenario
from tests.harness.waiting import wait_for
from tests.scenarios.asserting import assert_book_equals_truth
from tests.scenarios.steps import (
    LIMIT_BUY,
    MARKET_BUY,
    POST_ORDER,
    cancel,
    client_id,
    order,
    place,
    placements,
    settle,
    sweep_until,
)

# We hang up before the engine's time is over, and allow the queries a longer lag than the faults.
WORKER_ENV = {
    "EXCHANGE_REQUEST_TIMEOUT_MS": 700,
    "EXCHANGE_ENGINE_TIMEOUT_MS": 700,
    "EXCHANGE_READ_LAG_MS": 3500,
}


def test_place__executed_after_our_time_out_is_found(desk: Scenario) -> None:
    """The request is in the engine's queue when we hang up, and is executed only then."""
    desk.simulator.control.unfreeze()
    late: dict[str, Any] = {"match": POST_ORDER, "seconds": 0.5}
    desk.simulator.control.faults.add(
        "execute_late_after_disconnect", **late, skip_engine_check=True
    )

    assert place("i-1", MARKET_BUY)["status"] == "PENDING_NEW"
    assert desk.simulator.control.truth().accepted_total() == 0
    settle()

    assert order("i-1").status == "FILLED"
    assert placements(desk) == 1
    assert_book_equals_truth(desk, placed=1)


@pytest.mark.long
def test_place__stuck_before_the_engine_is_refused_there_and_sent_again(desk: Scenario) -> None:
    """The exchange checks the timestamp again before its engine: too late means never."""
    late: dict[str, Any] = {"match": POST_ORDER, "seconds": 0.5}
    desk.simulator.control.faults.add("execute_late_after_disconnect", **late)

    assert place("i-1")["status"] == "PENDING_NEW"
    settle()

    assert order("i-1").status == "NEW"
    assert placements(desk) == 2
    assert_book_equals_truth(desk, placed=1)


@pytest.mark.parametrize("arguments", [MARKET_BUY, LIMIT_BUY], ids=["MARKET", "LIMIT"])
def test_place__invisible_for_three_seconds_with_its_answer_lost_is_waited_for(
    desk: Scenario, arguments: dict[str, Any]
) -> None:
    """Not found means nothing for as long as the queries may lag."""
    desk.simulator.control.unfreeze()
    desk.simulator.control.faults.add("reset_after", match=POST_ORDER, invisible_for=3)

    assert place("i-1", arguments)["status"] == "PENDING_NEW"
    settle()

    found = order("i-1")
    assert found.status == ("FILLED" if arguments is MARKET_BUY else "NEW")
    assert found.acknowledged_at is not None
    assert (found.acknowledged_at - found.created_at).total_seconds() >= 3
    assert placements(desk) == 1
    assert_book_equals_truth(desk, placed=1)


def test_sync__an_order_still_invisible_is_not_taken_for_missing(desk: Scenario) -> None:
    desk.simulator.control.faults.add("none", match=POST_ORDER, invisible_for=3)

    assert place("i-1")["status"] == "NEW"
    counts = app.send_task("orders.sync_open_orders", args=("demo",), ignore_result=False).get(
        timeout=20
    )

    assert counts["seen"] == 0, "the exchange does not list it yet"
    assert order("i-1").status == "NEW"
    assert not ReconciliationBreak.objects.exists()
    assert_book_equals_truth(desk, placed=1)


def test_cancel__an_order_still_invisible_is_canceled_once_it_shows(desk: Scenario) -> None:
    """ "Unknown order" doesn't prove that there is nothing to cancel."""
    desk.simulator.control.faults.add("none", match=POST_ORDER, invisible_for=3)
    place("i-1")

    assert cancel("i-1", requested_by="anna")["status"] == "NEW"
    assert order("i-1").events.filter(event_type=EventType.CANCEL_UNCONFIRMED).exists()
    settle()

    assert order("i-1").status == "CANCELED"
    assert_book_equals_truth(desk, placed=1)


@pytest.mark.long
def test_sync__late_evidence_of_a_second_order_cancels_the_younger(desk: Scenario) -> None:
    """The exchange executes after all its own limits: people see it, and one order stays."""
    late: dict[str, Any] = {"match": POST_ORDER, "seconds": 6}
    desk.simulator.control.faults.add(
        "execute_late_after_disconnect", **late, skip_engine_check=True
    )
    place("i-1")
    sweep_until(lambda: order("i-1").status == "NEW")
    truth = desk.simulator.control.truth
    wait_for(lambda: truth().accepted(client_id("i-1")) == 1, what="the late execution")
    assert truth().accepted(client_id("i-1", 2)) == 1

    app.send_task("orders.sync_open_orders", args=("demo",), ignore_result=False).get(timeout=20)
    settle()

    older, younger = (truth().order(client_id("i-1", number)) for number in (1, 2))
    assert older is not None
    assert younger is not None
    assert (older["status"], younger["status"]) == ("NEW", "CANCELED")
    assert order("i-1").status == "NEW"
    kinds = set(ReconciliationBreak.objects.values_list("kind", flat=True))
    assert "DOUBLE_PLACEMENT" in kinds
