"""The circuit breaker on real servers: an exchange dies and comes back, processes restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from backoffice.local.embedded import free_port
from backoffice.local.postgres import PostgresServer
from exchanges.breakers import force_breaker
from exchanges.limits import redis as shared
from exchanges.limits.breaker import breaker_state
from exchanges.models import ExchangeAccount, Instrument
from exchanges.trading_state import halt_trading
from exchanges.types import CallKind
from orders.models import Order
from tests.harness.processes import ChildProcess, ProcessFactory
from tests.harness.redis import TestRedis
from tests.harness.scenario import Scenario
from tests.harness.simulator import Simulator
from tests.harness.waiting import wait_for
from tests.scenarios.asserting import assert_book_equals_truth
from tests.scenarios.steps import (
    LIMIT_BUY,
    POST_ORDER,
    cancel,
    order,
    place,
    placements,
    send,
    send_all,
    settle,
    statuses,
    sweep_until,
)

UNAVAILABLE = {
    "status": 503,
    "body": {"code": -1016, "msg": "This service is no longer available."},
}
ETHER = {**LIMIT_BUY, "symbol": "ETHUSDT", "price": "2000.00"}


@pytest.fixture(autouse=True)
def _redis_answers(redis_server: TestRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "_away_until", 0.0)  # an earlier test had no Redis


def breaker(kind: CallKind = CallKind.PLACE) -> str:
    return breaker_state("demo", kind)


def open_by_failures(scenario: Scenario) -> None:
    """Fail placements until their breaker opens. Other calls are answered."""
    scenario.simulator.control.faults.add("respond", match=POST_ORDER, times=None, **UNAVAILABLE)
    answers = [send(f"failing-{number}", place_within_seconds=120) for number in range(16)]
    for answer in answers:
        answer.get(timeout=30)
    wait_for(lambda: breaker() == "open", what="the breaker is open")


# -- an exchange that is dead --------------------------------------------------------------------


@pytest.fixture
def mortal(
    simulator_factory: Callable[..., Simulator],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    account: ExchangeAccount,
) -> Simulator:
    """Start a simulator that comes back at its address, with its orders, after a stop."""
    state, port = tmp_path / "exchange.state", free_port()
    simulator = simulator_factory("--frozen", "--port", str(port), "--state", str(state))
    for name, value in simulator.environment("demo").items():
        monkeypatch.setenv(name, value)
    return simulator


@pytest.mark.long
def test_breaker__opened_by_a_dead_exchange_spares_orders_their_tries_and_heals(
    mortal: Simulator, processes: ProcessFactory, fast_timing: None
) -> None:
    for number in range(2):
        processes.worker(f"worker-{number}")
    assert place("i-0")["status"] == "NEW"
    mortal.child.stop()
    waiting = [f"i-{number}" for number in range(1, 25)]
    for answer in send_all(waiting, LIMIT_BUY, place_within_seconds=120).values():
        assert answer.get(timeout=30)["status"] == "CREATED"
    late = send("late", place_within_seconds=4).get(timeout=30)
    assert late["status"] == "CREATED"
    sweep_until(
        lambda: breaker() == "open" or breaker(CallKind.READ) == "open", what="a breaker is open"
    )

    sweep_until(lambda: order("late").status == "NOT_PLACED", what="the deadline of one has passed")
    assert order("late").reason_code == "PAST_DEADLINE"
    wait_for(  # one of them may be the breaker's probe
        lambda: {statuses()[name] for name in waiting} == {"CREATED"},
        what="no order is on its way",
    )

    mortal.child.start()
    settle(timeout=60)

    assert {statuses()[name] for name in waiting} == {"NEW"}
    assert mortal.control.truth().accepted_total() == 25
    assert (breaker(), breaker(CallKind.READ)) == ("closed", "closed")


# -- only placing fails --------------------------------------------------------------------------


@pytest.mark.long
def test_breaker__while_placing_is_open_cancels_and_reads_go_on_and_orders_wait_for_their_deadline(
    scenario: Scenario,
) -> None:
    place("i-0")
    open_by_failures(scenario)
    tried = placements(scenario)
    force_breaker(
        account=scenario.account,
        kind="place",
        state="open",
        reason="no probes in this story",
        actor="eva",
    )
    assert place("late", place_within_seconds=3)["status"] == "CREATED"

    assert cancel("i-0")["status"] == "CANCELED"
    # The sweep reads the fate of the sends without an answer until they are proven absent.
    sweep_until(
        lambda: (
            not Order.objects.filter(status="PENDING_NEW").exists()
            and order("late").status == "NOT_PLACED"
        ),
        timeout=40,
        what="the unknown are resolved and the late one is closed",
    )

    assert (breaker(CallKind.CANCEL), breaker(CallKind.READ)) == ("closed", "closed")
    assert placements(scenario) == tried
    assert set(
        Order.objects.filter(intent_id__startswith="failing").values_list("status", flat=True)
    ) == {"CREATED"}
    scenario.simulator.control.faults.clear()
    force_breaker(account=scenario.account, kind="place", state=None, reason="over", actor="eva")
    settle(timeout=60)
    assert_book_equals_truth(scenario, placed=17)


@pytest.mark.long
def test_breaker__half_open_lets_one_probe_through_across_all_processes(
    processes: ProcessFactory,
    account: ExchangeAccount,
    simulator: Simulator,
    redis_server: TestRedis,
    postgres: PostgresServer,
    fast_timing: None,
) -> None:
    env = {"EXCHANGE_REQUEST_TIMEOUT_MS": "15000"}  # the probe's answer takes long
    workers = [processes.worker(f"worker-{number}", env=env, wait=False) for number in range(4)]
    for worker in workers:
        worker.wait_until_ready()
    scenario = Scenario(account, simulator, postgres, redis_server, processes, workers[0])
    place("i-0")
    open_by_failures(scenario)
    control = simulator.control
    control.faults.clear()
    slow = control.faults.add("delay_answer", match=POST_ORDER, seconds=5)
    sweep_until(lambda: control.faults.hits(slow) == 1, timeout=30, what="the probe is on its way")
    before = placements(scenario)

    answers = send_all(
        (f"i-{number}" for number in range(1, 41)), LIMIT_BUY, place_within_seconds=120
    )

    assert {answer.get(timeout=30)["status"] for answer in answers.values()} == {"CREATED"}
    assert placements(scenario) == before
    assert breaker() == "open", (
        "the probe was answered before the others were refused: this has shown nothing"
    )
    settle(timeout=90)
    assert breaker() == "closed"
    assert_book_equals_truth(scenario, placed=57)


# -- restarts in the middle ----------------------------------------------------------------------


def renew(worker: ChildProcess) -> None:
    worker.kill()
    worker.start()


def test_breaker__stays_open_for_a_worker_that_starts_anew(scenario: Scenario) -> None:
    place("i-0")
    open_by_failures(scenario)
    force_breaker(
        account=scenario.account, kind="place", state="open", reason="odd answers", actor="eva"
    )
    tried = placements(scenario)
    renew(scenario.worker)
    assert place("i-1", place_within_seconds=120)["status"] == "CREATED"
    assert placements(scenario) == tried


@pytest.mark.core
def test_halt__holds_for_a_worker_that_starts_anew(scenario: Scenario) -> None:
    place("i-0")
    halt_trading(account=None, reason="drill", actor="eva")
    scenario.redis.flush()
    renew(scenario.worker)
    answer = place("i-1")
    assert (answer["status"], answer["reason_code"]) == ("DENIED", "HALTED")
    assert cancel("i-0")["status"] == "CANCELED"
    assert placements(scenario) == 1


# -- one symbol ----------------------------------------------------------------------------------


@pytest.mark.long
def test_halted_symbol__pauses_alone_and_goes_on_within_seconds(scenario: Scenario) -> None:
    scenario.processes.worker("colleague")
    scenario.processes.beat()
    control = scenario.simulator.control
    place("i-0")
    place("i-1", ETHER)
    control.set_symbol_status("BTCUSDT", "BREAK")
    # The first one is refused by the exchange, waits for newer rules, and then for the market.
    assert place("i-2", place_within_seconds=120)["status"] == "CREATED"
    wait_for(
        lambda: Instrument.objects.get(symbol="BTCUSDT").status == "BREAK",
        what="the newer rules are read",
    )

    waiting = [f"w-{number}" for number in range(8)]
    for answer in send_all(waiting, LIMIT_BUY, place_within_seconds=120).values():
        assert answer.get(timeout=20)["status"] == "CREATED"
    waiting.append("i-2")
    assert place("late", place_within_seconds=2)["status"] == "CREATED"
    assert place("i-3", ETHER)["status"] == "NEW"
    wait_for(lambda: order("late").status == "NOT_PLACED", what="the deadline of one has passed")
    asked = control.truth().requests["GET /api/v3/exchangeInfo"]

    control.set_symbol_status("BTCUSDT", "TRADING")

    wait_for(
        lambda: {statuses()[name] for name in waiting} == {"NEW"},
        timeout=20,
        what="the symbol trades again",
    )
    assert (
        control.truth().requests["GET /api/v3/exchangeInfo"] <= asked + 5
    )  # not one for each order
    settle()
    assert_book_equals_truth(scenario, placed=3 + len(waiting))
