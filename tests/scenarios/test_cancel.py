"""Cancel: a request until the exchange confirms it, or at once if nothing was sent."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from backoffice.celery import app
from orders.execution import OrderExecutionService
from orders.intents import InvalidIntent
from orders.models import EventType, ExchangeOrder, Order
from tests.harness.processes import ChildProcess
from tests.harness.scenario import Scenario
from tests.harness.waiting import wait_for
from tests.scenarios.asserting import assert_book_equals_truth
from tests.scenarios.steps import (
    DELETE_ORDER,
    LIMIT_BUY,
    MARKET_BUY,
    POST_ORDER,
    cancel,
    client_id,
    order,
    place,
    placements,
    send,
    send_cancel,
    settle,
    statuses,
)


def record(intent_id: str, **changes: Any) -> Order:
    """Record an order like an orchestrator that shares our code."""
    figures = {name: LIMIT_BUY[name] for name in ("symbol", "order_type", "quantity", "price")}
    return OrderExecutionService("demo").execute_buy_order(
        intent_id=intent_id, **{**figures, **changes}
    )


def test_cancel_order__before_sending_withdraws(desk: Scenario) -> None:
    desk.worker.stop()
    record("i-1")

    canceled = OrderExecutionService("demo").cancel_order(
        "i-1", requested_by="anna", reason="a typing error"
    )
    assert (canceled.status, canceled.reason_code) == ("CANCELED", "WITHDRAWN")
    desk.worker.start()
    settle()

    assert order("i-1").status == "CANCELED"
    withdrawn = order("i-1").events.get(event_type=EventType.WITHDRAWN)
    assert withdrawn.actor == "anna"
    assert placements(desk) == 0
    assert_book_equals_truth(desk, placed=0)


def test_cancel_order__raced_with_the_placing_is_either_withdrawn_or_canceled_there(
    desk: Scenario, colleague: ChildProcess
) -> None:
    intents = [f"i-{number}" for number in range(20)]
    for number, intent_id in enumerate(intents):
        stored = record(intent_id)
        if number % 2:
            app.send_task("orders.place_order", kwargs={"order_id": str(stored.pk)})
        send_cancel(intent_id, requested_by="anna")
    wait_for(
        lambda: Order.objects.filter(cancel_requested_at__isnull=False).count() == len(intents),
        what="all cancels are requested",
    )
    settle()

    assert statuses() == dict.fromkeys(intents, "CANCELED")
    sent = ExchangeOrder.objects.count()
    assert Order.objects.filter(reason_code="WITHDRAWN").count() == len(intents) - sent
    assert placements(desk) == sent
    assert_book_equals_truth(desk, placed=sent)
    assert "Traceback" not in desk.worker.output() + colleague.output()


def test_cancel_order__in_flight_is_done_when_the_answer_comes(desk: Scenario) -> None:
    desk.simulator.control.faults.add("delay_answer", match=POST_ORDER, seconds=1)
    placing = send("i-1")
    wait_for(lambda: statuses().get("i-1") == "PENDING_NEW", what="the order is on its way")

    assert cancel("i-1", requested_by="anna")["status"] == "PENDING_NEW"
    assert placing.get(timeout=20)["status"] == "CANCELED"

    assert_book_equals_truth(desk, placed=1)


@pytest.mark.parametrize("executed", [True, False], ids=["executed", "unexecuted"])
def test_cancel_order__in_flight_with_its_answer_lost_is_done_when_its_fate_is_known(
    desk: Scenario, executed: bool
) -> None:
    desk.simulator.control.faults.add(
        "reset_after" if executed else "reset_before", match=POST_ORDER
    )
    place("i-1")

    assert cancel("i-1", requested_by="anna")["status"] == "PENDING_NEW"
    settle()

    closed = order("i-1")
    assert (closed.status, closed.reason_code) == ("CANCELED", "" if executed else "ABSENT")
    assert placements(desk) == 1, "an unwanted order is not sent again"
    assert_book_equals_truth(desk, placed=int(executed))


def test_cancel_order__waiting_after_a_refusal_is_withdrawn(desk: Scenario) -> None:
    desk.simulator.control.faults.add("rate_limited", match=POST_ORDER, retry_after=30)
    assert place("i-1")["status"] == "CREATED"

    assert cancel("i-1")["reason_code"] == "WITHDRAWN"
    settle()

    assert placements(desk) == 1
    assert_book_equals_truth(desk, placed=0)
    desk.worker.stop()  # It would remember the 30 s in the next test, although Redis is emptied.


@pytest.mark.core
def test_cancel_order__open_is_canceled_by_the_exchanges_word(desk: Scenario) -> None:
    place("i-1")

    answer = cancel("i-1", requested_by="anna", reason="the market turned")
    settle()

    assert answer["status"] == "CANCELED"
    request = order("i-1").events.get(event_type=EventType.CANCEL_REQUESTED)
    # Anybody who reaches the broker can write a name into a message, so it stays a claim.
    assert request.actor.startswith("message:gen")
    assert request.details == {"reason": "the market turned", "claimed_by": "anna"}
    assert order("i-1").events.order_by("-id")[0].source == "CANCEL"
    assert_book_equals_truth(desk, placed=1)


def test_cancel_order__partially_filled_keeps_its_fills(desk: Scenario) -> None:
    place("i-1")
    fill = desk.simulator.control.fill
    fill("BTCUSDT", client_order_id=client_id("i-1"), quantity="0.003", price="49999.99")
    fill("BTCUSDT", client_order_id=client_id("i-1"), quantity="0.00123")

    assert cancel("i-1")["status"] == "CANCELED"
    settle()

    assert order("i-1").filled_quantity == Decimal("0.00423")
    assert order("i-1").fills.count() == 2
    assert_book_equals_truth(desk, placed=1)


def test_cancel_order__just_filled_is_filled(desk: Scenario) -> None:
    """The exchange answers "unknown order" to the cancel, because a fill was faster."""
    place("i-1")
    desk.simulator.control.fill("BTCUSDT", client_order_id=client_id("i-1"))

    answer = cancel("i-1")
    settle()

    assert answer["status"] == "FILLED"
    assert_book_equals_truth(desk, placed=1)


def test_cancel_order__ended_by_the_exchange_meanwhile_takes_its_word(desk: Scenario) -> None:
    for intent_id in ("expired", "canceled"):
        place(intent_id)
    desk.simulator.control.expire("BTCUSDT", client_order_id=client_id("expired"))
    desk.simulator.control.cancel("BTCUSDT", client_order_id=client_id("canceled"))

    assert cancel("expired")["status"] == "EXPIRED"
    assert cancel("canceled")["status"] == "CANCELED"
    settle()

    assert_book_equals_truth(desk, placed=2)


def test_cancel_order__closed_is_told_so_and_left_alone(desk: Scenario) -> None:
    desk.simulator.control.unfreeze()
    place("filled", MARKET_BUY)
    place("denied", quantity="1000")
    before = desk.simulator.control.truth().requests.get("DELETE /api/v3/order", 0)

    assert cancel("filled")["status"] == "FILLED"
    assert cancel("denied")["status"] == "DENIED"

    assert desk.simulator.control.truth().requests.get("DELETE /api/v3/order", 0) == before
    assert order("filled").cancel_requested_at is None
    assert_book_equals_truth(desk, placed=1)


CANCEL_FAULTS: dict[str, dict[str, Any]] = {
    "done-then-reset": {"action": "reset_after"},
    "reset-before": {"action": "reset_before"},
    "done-then-503": {
        "action": "respond",
        "status": 503,
        "body": {"code": -1007, "msg": "Timeout"},
        "execute": True,
    },
    "503-undone": {
        "action": "respond",
        "status": 503,
        "body": {"code": -1007, "msg": "Timeout"},
        "execute": False,
    },
    "done-then-html": {"action": "garbage", "kind": "html"},
    "done-then-null": {"action": "garbage", "kind": "null"},
    "done-then-silence": {"action": "never_answer"},
    "429": {"action": "rate_limited", "retry_after": 1},
}


def test_cancel_order__with_its_answer_lost_goes_on_until_the_exchange_has_spoken(
    desk: Scenario,
) -> None:
    for name, fault in CANCEL_FAULTS.items():
        place(name)
        desk.simulator.control.faults.add(match={**DELETE_ORDER, "symbol": "BTCUSDT"}, **fault)
        answer = cancel(name)
        assert answer["status"] == "NEW", name
        assert order(name).events.filter(event_type=EventType.CANCEL_UNCONFIRMED).exists(), name
    settle(timeout=40)

    assert statuses() == dict.fromkeys(CANCEL_FAULTS, "CANCELED")
    assert_book_equals_truth(desk, placed=len(CANCEL_FAULTS))


def test_cancel_order__twice_is_one_wish(desk: Scenario, colleague: ChildProcess) -> None:
    place("i-1")
    for result in [
        send_cancel("i-1", requested_by=name) for name in ("anna", "boris", "anna", "boris")
    ]:
        assert result.get(timeout=20)["status"] == "CANCELED"
    settle()

    assert order("i-1").events.filter(event_type=EventType.CANCEL_REQUESTED).count() == 1
    assert colleague.is_alive
    assert_book_equals_truth(desk, placed=1)


def test_cancel_order__of_an_unknown_intent_is_the_callers_mistake(desk: Scenario) -> None:
    with pytest.raises(
        InvalidIntent, match=r"^intent_id: account 'demo' has no order with intent 'never-seen'"
    ):
        cancel("never-seen")
    with pytest.raises(InvalidIntent, match=r"^account: "):
        cancel("never-seen", account="nobody")

    assert place("i-1")["status"] == "NEW", "the worker goes on"
    assert "Traceback" not in desk.worker.output()


def test_cancel_order__works_with_redis_away(desk: Scenario) -> None:
    place("open")
    place("by-command")
    desk.redis.stop()

    canceled = OrderExecutionService("demo").cancel_order(
        "open", requested_by="anna", reason="the broker is away"
    )
    assert canceled.status == "CANCELED"
    command = desk.processes.command(
        "cancel_order",
        "by-command",
        "--account",
        "demo",
        "--reason",
        "the broker is away",
        ready="CANCELED",
    )
    assert command.running.wait(timeout=20) == 0
    desk.redis.start()

    assert statuses() == {"open": "CANCELED", "by-command": "CANCELED"}
    assert_book_equals_truth(desk, placed=2)
