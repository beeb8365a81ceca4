"""The broker is silent for a minute: halts and cancels go on, nothing is lost or done twice."""

from __future__ import annotations

import os
import subprocess
import sys
from time import monotonic, sleep

import pytest
from django.core.management import call_command

from exchanges.models import TradingHalt
from orders import services
from orders.execution import OrderExecutionService
from orders.models import EventType, Order, OrderEvent
from tests.harness.processes import ROOT, ProcessFactory, database_url
from tests.harness.scenario import Scenario
from tests.harness.waiting import wait_for
from tests.scenarios.asserting import assert_book_equals_truth
from tests.scenarios.steps import LIMIT_BUY, client_id, order, place, statuses

WITHIN_SECONDS = 10.0
OPEN = [f"open-{number}" for number in range(12)]
PRESSED, BY_COMMAND = OPEN[:4], OPEN[4:6]


def command(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a machine that holds no key, and without a broker."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("EXCHANGE_DEMO_API")
    }
    environment["DATABASE_URL"] = database_url()
    return subprocess.run(
        [sys.executable, "manage.py", *argv],
        env=environment,
        cwd=ROOT,
        timeout=30,
        check=False,
        capture_output=True,
        text=True,
    )


def cancels_are_through(scenario: Scenario, intents: list[str]) -> bool:
    truth = scenario.simulator.control.truth()
    found = [truth.order(client_id(intent_id)) for intent_id in intents]
    return all(each is not None and each["status"] == "CANCELED" for each in found)


@pytest.mark.long
@pytest.mark.parametrize("seconds", [pytest.param(5, id="5 s"), pytest.param(60, id="60 s")])
def test_cancel__reaches_the_exchange_while_the_broker_is_silent(
    scenario: Scenario, processes: ProcessFactory, seconds: int
) -> None:
    processes.beat()
    processes.command("listen_user_stream", ready="listener_started")
    for intent_id in OPEN:
        assert place(intent_id)["status"] == "NEW"
    scenario.redis.stop()
    silent_from = monotonic()

    # Pressed in the admin, by a web process without keys: it records the requests.
    services.request_cancels(
        [order(intent_id).pk for intent_id in PRESSED], requested_by="eva", reason="drill"
    )
    wait_for(
        lambda: cancels_are_through(scenario, PRESSED),
        timeout=WITHIN_SECONDS,
        what="the cancels from the admin reach the exchange",
    )
    for intent_id in BY_COMMAND:
        command("cancel_order", intent_id, "--account", "demo", "--reason", "drill")
    wait_for(
        lambda: cancels_are_through(scenario, BY_COMMAND),
        timeout=WITHIN_SECONDS,
        what="the cancels from the shell reach the exchange",
    )
    figures = {name: LIMIT_BUY[name] for name in ("symbol", "order_type", "quantity", "price")}
    OrderExecutionService("demo").execute_buy_order(
        intent_id="recorded", place_within_seconds=600, **figures
    )
    began_at = monotonic()
    call_command("halt_trading", reason="drill")
    assert monotonic() - began_at < 5
    assert TradingHalt.objects.get().is_halted
    call_command("resume_trading", reason="over")
    while monotonic() - silent_from < seconds:
        assert order("recorded").status == "CREATED"
        sleep(0.5)

    scenario.redis.start()
    wait_for(lambda: order("recorded").status == "NEW", timeout=60, what="the order is sent")
    wait_for(
        lambda: not Order.objects.filter(next_check_at__isnull=False).exists(),
        timeout=30,
        what="every order is settled",
    )
    closed = {intent_id for intent_id, status in statuses().items() if status == "CANCELED"}
    assert closed == {*PRESSED, *BY_COMMAND}
    assert_book_equals_truth(scenario, placed=len(OPEN) + 1)
    asked = scenario.simulator.control.truth().requests["DELETE /api/v3/order"]
    assert asked == len(PRESSED) + len(BY_COMMAND), "no cancel was sent twice"
    requests = OrderEvent.objects.filter(event_type=EventType.CANCEL_REQUESTED)
    assert requests.count() == Order.objects.filter(cancel_requested_at__isnull=False).count()
