"""The guard rails on real servers: bans, saturation, the kill switch, an exchange that dies."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

import pytest

from exchanges import clock
from exchanges.mirror.instruments import sync_instruments
from exchanges.models import ExchangeAccount
from exchanges.trading_state import halt_trading
from orders.models import Order
from tests.harness.processes import ChildProcess, ProcessFactory
from tests.harness.scenario import Scenario
from tests.harness.simulator import Simulator
from tests.harness.waiting import wait_for
from tests.scenarios.steps import (
    POST_ORDER,
    cancel,
    place,
    placements,
    send,
    send_all,
    settle,
    statuses,
    sweep_once,
    sweep_until,
)

WEIGHT_PER_MINUTE = 1200


@pytest.mark.long
@pytest.mark.parametrize("seconds", [8, 60])
def test_ban__four_workers_send_nothing_until_it_is_over(scenario: Scenario, seconds: int) -> None:
    """A worker that is killed and restarted in the middle of it doesn't either."""
    for number in range(3):
        scenario.processes.worker(f"worker-{number}")
    control = scenario.simulator.control
    place("i-0")
    control.faults.add("banned", match=POST_ORDER, retry_after=seconds)
    assert place("i-1", place_within_seconds=300)["status"] == "CREATED"
    over_at = clock.monotonic() + seconds - 1
    before = control.truth().requests
    for answer in send_all(
        (f"i-{n}" for n in range(2, 40)), LIMIT, place_within_seconds=300
    ).values():
        assert answer.get(timeout=seconds)["status"] == "CREATED"
    scenario.worker.kill()
    scenario.worker.start(wait=False)
    sweep_until(
        lambda: clock.monotonic() > over_at, timeout=seconds + 30, what="the ban is nearly over"
    )
    assert control.truth().requests == before
    scenario.processes.beat()
    wait_for(
        lambda: set(statuses().values()) == {"NEW"},
        timeout=60,
        what="every order is placed after the ban",
    )
    assert control.truth().accepted_total() == 40


LIMIT = {
    "account": "demo",
    "symbol": "BTCUSDT",
    "side": "BUY",
    "order_type": "LIMIT",
    "quantity": "0.001",
    "price": "50000.00",
}


@pytest.mark.long
def test_limits__four_processes_use_a_minute_up_and_are_never_refused(
    processes: ProcessFactory, account: ExchangeAccount, simulator: Simulator
) -> None:
    simulator.control.limits(request_weight=WEIGHT_PER_MINUTE)
    sync_instruments(account)
    # From anywhere in one minute to the end of the next, so at least one whole minute.
    askers = [
        processes._run(
            f"asker-{n}",
            [sys.executable, "-m", "tests.scenarios.saturate", "demo", "122"],
            "asking",
            {},
            True,
        )
        for n in range(4)
    ]
    for asker in askers:
        wait_for(lambda asker=asker: not asker.is_alive, timeout=180, what="the minute is over")  # type: ignore[misc]
    told = [json.loads(asker.output().strip().splitlines()[-1]) for asker in askers]
    passed = Counter[str]()
    for answer in told:
        passed.update(answer["passed"])
    assert sum(answer["refused"] for answer in told) == 0
    whole_minute = sorted(passed)[1]
    assert 0.9 * WEIGHT_PER_MINUTE <= passed[whole_minute] <= WEIGHT_PER_MINUTE


@pytest.mark.long
def test_halt__pressed_in_a_burst_stops_all_but_what_is_on_the_wire(
    processes: ProcessFactory, account: ExchangeAccount, simulator: Simulator, fast_timing: None
) -> None:
    workers = [
        processes.worker(f"worker-{n}", options=["--pool", "solo"], wait=False) for n in range(8)
    ]
    wait_for(
        lambda: all("ready." in worker.output() for worker in workers),
        timeout=120,
        what="the workers are ready",
    )
    simulator.control.limits(orders_10s=100_000)
    simulator.control.faults.add("delay_answer", match=POST_ORDER, times=None, seconds=0.1)
    send_all((f"i-{number}" for number in range(200)), LIMIT)

    def sent() -> int:
        return simulator.control.truth().requests.get("POST /api/v3/order", 0)

    wait_for(lambda: sent() >= 30, timeout=60, what="the burst is on")
    halt_trading(account=None, reason="drill", actor="eva")
    at_halt = sent()
    wait_for(
        lambda: (
            Order.objects.count() == 200
            and not Order.objects.filter(status__in=["CREATED", "PENDING_NEW"]).exists()
        ),
        timeout=90,
        what="every order has its answer",
    )
    assert sent() <= at_halt + len(workers)
    found = Counter(statuses().values())
    assert found["NEW"] == simulator.control.truth().accepted_total() == sent()
    assert found["DENIED"] == 200 - found["NEW"] > 0
    assert set(Order.objects.filter(status="DENIED").values_list("reason_code", flat=True)) == {
        "HALTED"
    }


@pytest.mark.long
@pytest.mark.parametrize(
    "page",
    [
        {"status": 403, "body": "<html>Request blocked</html>", "content_type": "text/html"},
        {
            "status": 429,
            "body": {"code": -1003, "msg": "Too much request weight used."},
            "headers": {"Retry-After": "60"},
        },
        {
            "status": 400,
            "body": {"code": -1003, "msg": "Way too much request weight used; IP banned."},
        },
    ],
    ids=["page of the firewall", "429", "-1003"],
)
def test_stop__is_obeyed_by_every_process_and_by_cancels_too(
    desk: Scenario, colleague: ChildProcess, page: dict[str, Any]
) -> None:
    place("i-0")
    control = desk.simulator.control
    control.faults.add("respond", match=POST_ORDER, **page)
    assert place("i-1", place_within_seconds=300)["status"] == "CREATED"
    before = control.truth().requests
    for result in [send(f"i-{number}", LIMIT, place_within_seconds=300) for number in range(2, 20)]:
        assert result.get(timeout=30)["status"] == "CREATED"
    assert cancel("i-0")["status"] == "NEW"
    sweep_once()
    assert control.truth().requests == before
    # They would remember this stop in the next test, although Redis is emptied.
    desk.worker.stop()
    colleague.stop()


def test_breaker__opens_on_an_exchange_in_maintenance_and_heals(scenario: Scenario) -> None:
    place("i-0")
    control = scenario.simulator.control
    control.set_maintenance(True)
    for result in [send(f"i-{number}", LIMIT, place_within_seconds=60) for number in range(1, 25)]:
        result.get(timeout=30)
    tried = placements(scenario)
    assert tried < 24  # the breaker has spared the exchange the others
    assert set(statuses().values()) <= {"NEW", "CREATED", "PENDING_NEW"}
    control.set_maintenance(False)
    settle(timeout=60)
    assert set(statuses().values()) == {"NEW"}
    assert control.truth().accepted_total() == 25
