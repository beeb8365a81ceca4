"""The stream fails in every way it can while orders are placed and filled, ours and by hand: the book is true again.

Worker, listener and beat are real processes. Afterwards every order, fill and balance equals the simulator's truth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from exchanges.models import Balance, StreamState
from exchanges.services import sync_instruments
from orders.models import Order, ReconciliationBreak
from tests.harness.processes import ChildProcess
from tests.harness.scenario import Scenario
from tests.harness.waiting import wait_for
from tests.scenarios.asserting import assert_book_equals_truth
from tests.scenarios.steps import client_id, place_by_hand, send_all, settle

pytestmark = pytest.mark.django_db(transaction=True)
STREAM = {"api": "stream"}
REPORTS = {**STREAM, "event": "executionReport"}
BUY: dict[str, Any] = {
    "account": "demo", "symbol": "BTCUSDT", "side": "BUY", "order_type": "LIMIT", "quantity": "0.01", "price": "50000",
}  # fmt: skip
SHORT_SILENCE = {"EXCHANGE_STREAM_SILENCE_SECONDS": "5"}


@pytest.fixture
def listener(scenario: Scenario) -> ChildProcess:
    return start_listener(scenario, {})


@pytest.fixture
def wary_listener(scenario: Scenario) -> ChildProcess:
    """It takes a silence for an end long before the exchange's next ping."""
    return start_listener(scenario, SHORT_SILENCE)


def start_listener(scenario: Scenario, env: dict[str, str]) -> ChildProcess:
    scenario.simulator.control.set_price("BTCUSDT", "60000")
    # The sweeps of these tests run every second, which no real budget would allow.
    scenario.simulator.control.limits(request_weight=1_000_000, orders_10s=100_000, orders_day=1_000_000)
    sync_instruments(scenario.account)
    scenario.processes.beat()
    return scenario.processes.command("listen_user_stream", ready="account_reconciled", env=env)


def place_many(names: str, count: int) -> list[str]:
    intents = [f"{names}-{number}" for number in range(count)]
    for result in send_all(intents, BUY).values():
        result.get(timeout=60)
    # One that the shared budget did not let pass at once goes a little later.
    rest = Order.objects.filter(intent_id__in=intents, status="NEW")
    wait_for(lambda: rest.count() == count, timeout=60, what="every order rests")
    return intents


def trade(scenario: Scenario, intents: list[str]) -> None:
    """By the exchange's hand: a third filled in parts, a third in part, the rest not; every seventh canceled."""
    control = scenario.simulator.control
    for number, intent_id in enumerate(intents):
        ours = client_id(intent_id)
        if number % 3 < 2:
            control.fill("BTCUSDT", client_order_id=ours, quantity="0.003")
        if number % 7 == 6:
            control.cancel("BTCUSDT", client_order_id=ours)
        elif number % 3 == 0:
            control.fill("BTCUSDT", client_order_id=ours, quantity="0.002", price="49999.99")
            control.fill("BTCUSDT", client_order_id=ours)


def trade_by_hand(scenario: Scenario, name: str) -> None:
    place_by_hand(scenario, name)
    scenario.simulator.control.fill("BTCUSDT", client_order_id=name, quantity="0.004")


def assert_balances_equal_truth(scenario: Scenario) -> None:
    ours = {row.asset: (row.free, row.locked) for row in Balance.objects.filter(account=scenario.account)}
    truth = scenario.simulator.control.truth().balances("main")
    assert {asset: figures for asset, figures in ours.items() if any(figures)} == {
        asset: tuple(figures) for asset, figures in truth.items() if any(figures)
    }


def wait_until_true(scenario: Scenario, *, placed: int, strangers: int = 0, timeout: float = 60.0) -> None:
    """The book, with every fill and balance, is the exchange's truth; and it is said to be in sync."""

    def is_true() -> bool:
        try:
            assert_book_equals_truth(scenario, placed=placed, strangers=strangers)
            assert_balances_equal_truth(scenario)
        except AssertionError:
            return False
        return StreamState.objects.filter(in_sync_since__isnull=False).exists()

    try:
        wait_for(is_true, timeout=timeout, every=0.25, what="the book is the exchange's truth")
    except TimeoutError:
        assert_book_equals_truth(scenario, placed=placed, strangers=strangers)  # says in what it is not
        assert_balances_equal_truth(scenario)
        raise


def reset(scenario: Scenario) -> None:
    scenario.simulator.control.disconnect_streams(reset=True)


def close(scenario: Scenario) -> None:
    scenario.simulator.control.disconnect_streams(reset=False)


def mute(scenario: Scenario) -> None:
    scenario.simulator.control.faults.add("mute", match=STREAM, seconds=6)


def half_open(scenario: Scenario) -> None:
    scenario.simulator.control.faults.add("half_open", match=STREAM)


@pytest.mark.parametrize("outage", [reset, close, mute, half_open])
@pytest.mark.usefixtures("wary_listener")
def test_listener__orders_fill_while_the_stream_is_out(scenario: Scenario, outage: Callable[[Scenario], None]) -> None:
    before = place_many("before", 7)
    outage(scenario)
    trade(scenario, before)
    meanwhile = place_many("meanwhile", 7)
    trade(scenario, meanwhile)
    trade_by_hand(scenario, "by-hand")
    wait_until_true(scenario, placed=15, strangers=1)


@pytest.mark.parametrize(
    ("action", "options"),
    [
        ("duplicate", {"copies": 2}),
        ("reorder", {}),
        ("delay", {"seconds": 1.5}),
        ("drop_event", {}),
    ],
)
def test_listener__events_come_twice_late_in_another_order_or_not_at_all(
    scenario: Scenario, listener: ChildProcess, action: str, options: dict[str, Any]
) -> None:
    scenario.simulator.control.faults.add(action, match=REPORTS, times=None, **options)
    intents = place_many("i", 14)
    trade(scenario, intents)
    trade_by_hand(scenario, "by-hand")
    scenario.simulator.control.faults.clear()
    wait_until_true(scenario, placed=15, strangers=1)


def test_listener__killed_and_started_again(scenario: Scenario, listener: ChildProcess) -> None:
    before = place_many("before", 7)
    listener.kill()
    trade(scenario, before)
    trade_by_hand(scenario, "by-hand")
    listener.start()
    meanwhile = place_many("meanwhile", 7)
    trade(scenario, meanwhile)
    wait_until_true(scenario, placed=15, strangers=1)
    assert not ReconciliationBreak.objects.filter(resolved_at=None).exists()


def test_listener__two_by_mistake_do_no_harm(scenario: Scenario, listener: ChildProcess) -> None:
    scenario.processes.command("listen_user_stream", name="second", ready="account_reconciled")
    intents = place_many("i", 14)
    trade(scenario, intents)
    trade_by_hand(scenario, "by-hand")
    wait_until_true(scenario, placed=15, strangers=1)
    assert Order.objects.count() == 15


@pytest.mark.long
def test_listener__twenty_reconnects_in_a_row(scenario: Scenario, listener: ChildProcess) -> None:
    placed = 0
    for number in range(20):
        intents = place_many(f"round-{number}", 3)
        placed += 3
        since = StreamState.objects.get().connected_since
        reset(scenario)
        trade(scenario, intents)

        def is_back(since: Any = since) -> bool:
            state = StreamState.objects.get()
            return state.in_sync_since is not None and state.connected_since not in (None, since)

        wait_for(is_back, timeout=30, what="connected anew and in sync")
    wait_until_true(scenario, placed=placed)


@pytest.mark.long
@pytest.mark.parametrize("outage", [mute, half_open, reset])
@pytest.mark.usefixtures("wary_listener")
def test_listener__out_for_a_minute(scenario: Scenario, outage: Callable[[Scenario], None]) -> None:
    for number in range(10):
        outage(scenario)
        trade(scenario, place_many(f"round-{number}", 7))
        trade_by_hand(scenario, f"by-hand-{number}")
    wait_until_true(scenario, placed=80, strangers=10, timeout=120)


@pytest.mark.long
def test_worker__restarts_while_five_hundred_orders_fill(scenario: Scenario, listener: ChildProcess) -> None:
    intents = [f"i-{number}" for number in range(500)]
    wanted = {**BUY, "place_within_seconds": 600}
    results = send_all(intents, wanted)
    wait_for(lambda: Order.objects.filter(status="NEW").count() >= 100, timeout=60, what="a hundred orders rest")
    scenario.worker.kill()
    resting = list(Order.objects.filter(status="NEW").values_list("intent_id", flat=True))
    trade(scenario, resting)
    scenario.worker.start()
    for result in results.values():
        result.forget()
    send_all(intents, wanted)  # a bot without an answer asks again; what a killed worker had in hand comes much later
    wait_for(
        lambda: (
            not Order.objects.filter(status__in=["CREATED", "PENDING_NEW"]).exists()
            and Order.objects.filter(is_external=False).count() == 500
        ),
        timeout=180,
        what="every order is placed",
    )
    trade(scenario, [intent_id for intent_id in intents if intent_id not in set(resting)])
    settle(timeout=120)
    wait_until_true(scenario, placed=500, timeout=120)
