"""The database was restored from an older backup and the bots repeat their intents: no second buy.

The exchange would take the same client order id again, because its first order is filled.
"""

from __future__ import annotations

from typing import Any

import pytest

from backoffice.celery import app
from exchanges import clock
from orders.execution import OrderExecutionService
from orders.intents import IntentConflict
from orders.models import Order, ReconciliationBreak
from tests.harness.scenario import Scenario
from tests.scenarios.asserting import assert_book_equals_truth
from tests.scenarios.backups import lose, restore_backup, take_backup
from tests.scenarios.steps import (
    MARKET_BUY,
    POST_ORDER,
    order,
    place,
    placements,
    settle,
    statuses,
)


@pytest.fixture
def busy(desk: Scenario) -> Scenario:
    """Return a market that fills, and a worker that has worked before."""
    desk.simulator.control.unfreeze()
    place("warm-up", MARKET_BUY)
    return desk


@pytest.mark.core
def test_submit__an_intent_whose_rows_are_lost_is_adopted(busy: Scenario) -> None:
    assert place("i-1", MARKET_BUY)["status"] == "FILLED"
    lose("i-1")

    assert place("i-1", MARKET_BUY)["status"] == "FILLED"
    settle()

    assert placements(busy) == 2
    assert_book_equals_truth(busy, placed=2)


def test_submit__an_intent_whose_rows_are_lost_is_adopted_by_a_fresh_worker(busy: Scenario) -> None:
    assert place("i-1", MARKET_BUY)["status"] == "FILLED"
    busy.worker.kill()
    lose("i-1")
    busy.worker.start()

    assert place("i-1", MARKET_BUY)["status"] == "FILLED"
    settle()

    assert placements(busy) == 2
    assert_book_equals_truth(busy, placed=2)


@pytest.mark.parametrize(
    "disconnect", [True, False], ids=["reconnected", "under-the-running-worker"]
)
def test_submit__after_an_older_copy_was_restored_every_intent_is_adopted(
    busy: Scenario, disconnect: bool
) -> None:
    backup = take_backup()
    intents = [f"i-{number}" for number in range(5)]
    for intent_id in intents:
        place(intent_id, MARKET_BUY)
    restore_backup(backup, disconnect=disconnect)

    answers = [place(intent_id, MARKET_BUY) for intent_id in intents]
    settle()

    assert [answer["status"] for answer in answers] == ["FILLED"] * 5
    assert placements(busy) == 6
    assert_book_equals_truth(busy, placed=6)


def test_submit__a_lost_open_order_does_not_hide_an_older_filled_one(busy: Scenario) -> None:
    """Open orders show the younger one first, and the history before it is still unread."""
    backup = take_backup()
    place("filled", MARKET_BUY)
    place("open")
    restore_backup(backup, disconnect=True)
    app.send_task("orders.sync_open_orders", args=("demo",), ignore_result=False).get(timeout=20)
    assert any(intent_id.startswith("recovered:") for intent_id in statuses())

    answers = {"filled": place("filled", MARKET_BUY), "open": place("open")}
    settle()

    assert {name: answer["status"] for name, answer in answers.items()} == {
        "filled": "FILLED",
        "open": "NEW",
    }
    assert statuses() == {"warm-up": "FILLED", "filled": "FILLED", "open": "NEW"}
    assert_book_equals_truth(busy, placed=3)


def test_submit__an_order_found_by_the_sweep_is_remembered_too(busy: Scenario) -> None:
    """Its answer was lost, and the worker that sent it knows that its claim must be stored."""
    busy.simulator.control.faults.add("reset_after", match=POST_ORDER)
    place("i-1", MARKET_BUY)
    settle()
    lose("i-1")

    assert place("i-1", MARKET_BUY)["status"] == "FILLED"
    settle()

    assert_book_equals_truth(busy, placed=2)


def test_submit__an_order_of_a_second_attempt_is_adopted(busy: Scenario) -> None:
    busy.simulator.control.faults.add("reset_before", match=POST_ORDER)
    place("i-1", MARKET_BUY)
    settle()
    assert (order("i-1").status, order("i-1").attempt) == ("FILLED", 2)
    lose("i-1")

    assert place("i-1", MARKET_BUY)["status"] == "FILLED"
    settle()

    assert_book_equals_truth(busy, placed=2)


def test_submit__figures_off_the_exchanges_grid_are_recognized(busy: Scenario) -> None:
    """The exchange shows the figures as sent, the intent has them as requested."""
    figures: dict[str, Any] = {"quantity": "0.0100049", "price": "50000.009"}
    place("i-1", **figures)
    lose("i-1")

    assert place("i-1", **figures)["status"] == "NEW"
    settle()

    assert str(order("i-1").quantity).rstrip("0") == "0.0100049"
    assert_book_equals_truth(busy, placed=2)


def test_submit__other_figures_under_a_recovered_intent_are_a_conflict(busy: Scenario) -> None:
    place("i-1", MARKET_BUY)
    lose("i-1")

    with pytest.raises(IntentConflict, match=r"^quantity: "):
        place("i-1", MARKET_BUY, quantity="0.02")

    assert placements(busy) == 2


def test_execute_buy_order__an_intent_whose_rows_are_lost_is_adopted(busy: Scenario) -> None:
    place("i-1", MARKET_BUY)
    lose("i-1")

    service = OrderExecutionService("demo")
    recorded = service.execute_buy_order(
        intent_id="i-1", symbol="BTCUSDT", order_type="MARKET", quantity=MARKET_BUY["quantity"]
    )
    settle()

    assert order("i-1").pk == recorded.pk
    assert statuses() == {"warm-up": "FILLED", "i-1": "FILLED"}
    assert_book_equals_truth(busy, placed=2)


def test_execute_buy_order__an_intent_that_was_recovered_before_is_adopted(busy: Scenario) -> None:
    place("i-1", MARKET_BUY)
    lose("i-1")
    place("i-2", MARKET_BUY)
    assert any(intent_id.startswith("recovered:") for intent_id in statuses())

    service = OrderExecutionService("demo")
    recorded = service.execute_buy_order(
        intent_id="i-1", symbol="BTCUSDT", order_type="MARKET", quantity=MARKET_BUY["quantity"]
    )
    settle()

    assert order("i-1").pk == recorded.pk
    assert statuses() == {"warm-up": "FILLED", "i-1": "FILLED", "i-2": "FILLED"}
    assert_book_equals_truth(busy, placed=3)


def test_execute_buy_order__other_figures_under_a_recovered_intent_are_denied(
    busy: Scenario,
) -> None:
    place("i-1", MARKET_BUY)
    lose("i-1")

    OrderExecutionService("demo").execute_buy_order(
        intent_id="i-1", symbol="BTCUSDT", order_type="MARKET", quantity="0.02"
    )
    settle()

    assert (order("i-1").status, order("i-1").reason_code) == ("DENIED", "INTENT_CONFLICT")
    assert placements(busy) == 2


def test_sweep__a_backup_from_before_the_sending_is_brought_up_to_date(busy: Scenario) -> None:
    """The backup has the intent as recorded and unsent. Its deadline is over at the restore."""
    busy.worker.pause()
    OrderExecutionService("demo").execute_buy_order(
        intent_id="i-1", symbol="BTCUSDT", order_type="MARKET", quantity=MARKET_BUY["quantity"]
    )
    backup = take_backup()
    busy.worker.resume()
    settle()
    assert order("i-1").status == "FILLED"
    restore_backup(backup, disconnect=True)
    Order.objects.filter(intent_id="i-1").update(place_by=clock.now())
    settle()
    assert order("i-1").status == "NOT_PLACED"

    place("i-2", MARKET_BUY)
    settle()

    assert order("i-1").status == "FILLED"
    assert placements(busy) == 3
    assert_book_equals_truth(busy, placed=3)
    found = ReconciliationBreak.objects.get(order=order("i-1"))
    assert (found.kind, found.details["held"], found.details["is"]) == (
        "LATE_EVIDENCE",
        "NOT_PLACED",
        "FILLED",
    )
