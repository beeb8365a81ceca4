"""Notify the orchestrator on real servers: worker and listener write, a bot's own worker hears."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from orders.models import Order
from tests.harness.processes import ProcessFactory
from tests.harness.redis import TestRedis
from tests.harness.simulator import Simulator
from tests.harness.waiting import wait_for
from tests.scenarios.bot import HEARD
from tests.scenarios.steps import client_id, send

pytestmark = pytest.mark.django_db(transaction=True)
EVENTS = {"ORDER_EVENTS_TASK": "bot.order_changed"}


@pytest.fixture
def _parts(
    account: Any, simulator: Simulator, processes: ProcessFactory, fast_timing: None
) -> None:
    simulator.control.set_price("BTCUSDT", "60000")
    threads = ("--pool", "threads", "--concurrency", "2")
    processes.worker(
        "bot", queues="order-events", options=(*threads, "-I", "tests.scenarios.bot"), wait=False
    )
    processes.worker(env=EVENTS, wait=False, queues="trading,cancel,duties,sync")
    processes.command("listen_user_stream", ready="stream_in_sync", env=EVENTS)
    for process in processes.started:
        process.wait_until_ready()


def heard(redis_server: TestRedis, intent_id: str | None = None) -> list[dict[str, Any]]:
    messages = [json.loads(text) for text in redis_server.client().lrange(HEARD, 0, -1)]
    return [m for m in messages if intent_id is None or m["order"]["intent_id"] == intent_id]


def states(redis_server: TestRedis, intent_id: str) -> list[str]:
    return [message["order"]["status"] for message in heard(redis_server, intent_id)]


def is_told(redis_server: TestRedis, intent_id: str, status: str) -> bool:
    return status in states(redis_server, intent_id)


@pytest.mark.usefixtures("_parts")
def test_orchestrator__hears_each_step_in_order(
    simulator: Simulator, redis_server: TestRedis
) -> None:
    for number in range(5):
        intent_id = f"i-{number}"
        send(intent_id).get(timeout=20)
        simulator.control.fill("BTCUSDT", client_order_id=client_id(intent_id), quantity="0.004")
        wait_for(
            partial(is_told, redis_server, intent_id, "PARTIALLY_FILLED"),
            what="the part fill is reported",
        )
        simulator.control.fill("BTCUSDT", client_order_id=client_id(intent_id))
        wait_for(partial(is_told, redis_server, intent_id, "FILLED"), what="the fill is reported")
    for number in range(5):
        # At least once: the second comparison may report a part fill before its trade is known.
        messages = heard(redis_server, f"i-{number}")
        versions = [message["version"] for message in messages]
        assert versions == sorted(versions)
        fills = {message["order"]["status"]: len(message["fills"]) for message in messages}
        assert list(fills.items()) == [("NEW", 0), ("PARTIALLY_FILLED", 1), ("FILLED", 2)]


@pytest.mark.usefixtures("_parts")
def test_orchestrator__is_told_again_after_the_broker_was_emptied(
    simulator: Simulator, redis_server: TestRedis, processes: ProcessFactory
) -> None:
    processes.beat(env=EVENTS)
    wait_for(
        lambda: redis_server.client().exists("backoffice:order-notices"),
        what="the sweep has left its mark",
    )
    send("i-1").get(timeout=20)
    wait_for(lambda: states(redis_server, "i-1") == ["NEW"], what="told")
    redis_server.flush()
    wait_for(lambda: states(redis_server, "i-1") == ["NEW"], timeout=30, what="told again")
    assert Order.objects.get().status == "NEW"


@pytest.fixture
def _told_parts(
    account: Any, simulator: Simulator, processes: ProcessFactory, fast_timing: None
) -> None:
    simulator.control.set_price("BTCUSDT", "60000")
    events = {"ORDER_EVENTS_TASK": "orchestrator.order_changed"}
    processes.worker(env=events, queues="trading,cancel,duties,sync", wait=False)
    processes.command("listen_user_stream", ready="stream_in_sync", env=events, wait=False)
    for process in processes.started:
        process.wait_until_ready()


@pytest.mark.usefixtures("_told_parts")
def test_orchestrator_example__buys_and_sells_when_it_is_told(
    simulator: Simulator, processes: ProcessFactory
) -> None:
    bot = processes.program("bot", "examples/orchestrator.py", "--by-event", "--orders", "1")
    wait_for(lambda: Order.objects.filter(side="BUY", status="NEW").exists(), what="it has bought")
    buy = Order.objects.get()
    simulator.control.fill("BTCUSDT", client_order_id=client_id(buy.intent_id))
    wait_for(
        lambda: Order.objects.filter(side="SELL", status="NEW").exists(),
        what="it sells after the fill",
    )
    sell = Order.objects.get(side="SELL")
    assert sell.intent_id == f"{buy.intent_id}-sell"
    simulator.control.fill("BTCUSDT", client_order_id=client_id(sell.intent_id))
    wait_for(lambda: not bot.is_alive, what="it ends after the last fill")
    assert bot.running.returncode == 0
    assert Order.objects.count() == 2


@pytest.mark.long
@pytest.mark.usefixtures("_told_parts")
def test_orchestrator_example__cancels_on_time_out_and_sells_what_was_filled(
    simulator: Simulator, processes: ProcessFactory
) -> None:
    bot = processes.program(
        "bot", "examples/orchestrator.py", "--by-event", "--orders", "1", "--rest", "3"
    )
    wait_for(lambda: Order.objects.filter(side="BUY", status="NEW").exists(), what="it has bought")
    buy = Order.objects.get()
    simulator.control.fill("BTCUSDT", client_order_id=client_id(buy.intent_id), quantity="0.001")
    wait_for(
        lambda: Order.objects.filter(side="SELL", status="NEW").exists(),
        what="it sells what it has",
    )
    buy.refresh_from_db()
    assert (buy.status, str(buy.filled_quantity.normalize())) == ("CANCELED", "0.001")
    request = buy.events.get(event_type="CANCEL_REQUESTED")
    assert request.actor.startswith("message:")
    assert request.details["claimed_by"] == "round-trips"
    sell = Order.objects.get(side="SELL")
    assert sell.quantity <= buy.filled_quantity
    wait_for(lambda: not bot.is_alive, what="the sell was canceled, too, and it ends")
    sell.refresh_from_db()
    assert (sell.status, bot.running.returncode, Order.objects.count()) == ("CANCELED", 0, 2)
