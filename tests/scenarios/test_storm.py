"""Everything at once, by a seed: faults, killed workers, a flushed broker, a restarted database."""

from __future__ import annotations

import random
from typing import Any

import pytest
from celery.exceptions import TimeoutError as ResultTimeout
from django.db import connections

from orders.models import BreakKind, Order, ReconciliationBreak
from tests.harness.processes import ChildProcess
from tests.harness.scenario import Scenario
from tests.harness.waiting import wait_for
from tests.scenarios.asserting import assert_book_equals_truth
from tests.scenarios.steps import (
    LIMIT_BUY,
    MARKET_BUY,
    cancel,
    place,
    send,
    send_cancel,
    settle,
    statuses,
)

INTENTS = 60
UNKNOWN = {"code": -1007, "msg": "Timeout waiting for response from backend server."}
ACTIONS: list[dict[str, Any]] = [
    {"action": "reset_before"},
    {"action": "reset_after"},
    {"action": "close_after"},
    {"action": "delay_answer", "seconds": 0.4},
    {"action": "delay_execution", "seconds": 0.4},
    {"action": "execute_late_after_disconnect", "seconds": 0.2},
    {"action": "never_answer"},
    {"action": "respond", "status": 503, "body": UNKNOWN, "execute": True},
    {"action": "respond", "status": 503, "body": UNKNOWN, "execute": False},
    {"action": "garbage", "kind": "html"},
    {"action": "garbage", "kind": "cut"},
    {"action": "rate_limited", "retry_after": 1},
    {"action": "none", "invisible_for": 0.3},
    {"action": "reset_after", "invisible_for": 0.3},
    {"action": "none", "clock_skew_ms": 5000},
]
ARGUMENTS: list[dict[str, Any]] = [
    MARKET_BUY,
    LIMIT_BUY,
    {**LIMIT_BUY, "time_in_force": "IOC"},
    {**LIMIT_BUY, "side": "SELL", "price": "70000", "quantity": "0.001"},
    {**MARKET_BUY, "symbol": "ETHUSDT", "quantity": "0.05"},
]


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_storm__leaves_every_intent_placed_once_and_the_book_true(
    desk: Scenario, colleague: ChildProcess, seed: int
) -> None:
    generator = random.Random(seed)
    control = desk.simulator.control
    control.limits(orders_10s=100_000)
    control.unfreeze()
    control.faults.script(
        [
            {
                "match": {"api": "rest", "path": path},
                "random": {"seed": seed, "rate": rate, "actions": ACTIONS},
            }
            for path, rate in (
                ("/api/v3/order", 0.35),
                ("/api/v3/allOrders", 0.2),
                ("/api/v3/myTrades", 0.2),
            )
        ]
    )
    intents = {f"i-{number}": generator.choice(ARGUMENTS) for number in range(INTENTS)}
    unwanted = generator.sample(sorted(intents), INTENTS // 4)
    beat = desk.processes.beat(f"beat-{seed}", wait=False)

    for number, (intent_id, arguments) in enumerate(intents.items()):
        for _ in range(generator.choice((1, 1, 2))):
            send(intent_id, arguments, place_within_seconds=60)
        if intent_id in unwanted:
            send_cancel(intent_id, requested_by="anna")
        if number % 20 == 10:
            disturb(desk, colleague, generator)

    def is_on() -> bool:
        """Repeat what a flush may have lost, like a bot, until a quarter of it is known."""
        known = statuses()
        for intent_id in intents.keys() - known.keys():
            send(intent_id, intents[intent_id], place_within_seconds=60)
        return len(known) >= INTENTS // 4

    wait_for(is_on, timeout=60, every=1, what="the storm is on")
    control.faults.clear()

    for intent_id, arguments in intents.items():
        wait_until_answered(intent_id, arguments)
    for intent_id in unwanted:
        cancel(intent_id, requested_by="anna")
    settle(timeout=90)

    beat.stop()
    assert statuses().keys() == intents.keys()
    assert set(Order.objects.filter(intent_id__in=unwanted).values_list("status", flat=True)) <= {
        *("CANCELED", "FILLED", "EXPIRED", "NOT_PLACED")
    }
    assert_book_equals_truth(desk, placed=control.truth().accepted_total())
    # An order whose question got no answer rests for a minute, and says so by UNREADABLE_REPORT.
    harmless = {
        *(BreakKind.LATE_EVIDENCE, BreakKind.FILL_GAP),
        *(BreakKind.MISSING_AT_EXCHANGE, BreakKind.UNREADABLE_REPORT),
    }
    assert not ReconciliationBreak.objects.exclude(kind__in=harmless).exists()


def disturb(desk: Scenario, colleague: ChildProcess, generator: random.Random) -> None:
    what = generator.choice(("worker", "colleague", "redis", "database"))
    if what == "redis":
        desk.redis.flush()
    elif what == "database":
        connections.close_all()
        desk.postgres.restart()
    else:
        victim = colleague if what == "colleague" else desk.worker
        victim.kill()
        victim.start(wait=False)


def wait_until_answered(intent_id: str, arguments: dict[str, Any]) -> None:
    """Repeat the message until it is answered, like a bot."""

    def is_answered() -> bool:
        try:
            return bool(
                send(intent_id, arguments, place_within_seconds=60).get(timeout=5)["status"]
            )
        except ResultTimeout:
            return False

    wait_for(is_answered, timeout=60, what=f"{intent_id} is answered")
    assert place(intent_id, arguments)["intent_id"] == intent_id
