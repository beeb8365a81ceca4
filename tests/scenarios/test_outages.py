"""The stream fails in every way while orders are placed and filled: the book becomes true again.

Worker, listener and beat are real processes. Afterwards every order, fill and balance equals the
simulator's truth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from exchanges import clock
from exchanges.binance.registry import get_gateway
from exchanges.mirror.instruments import sync_instruments
from exchanges.models import Balance, StreamState
from orders.models import AttemptOutcome, ExchangeOrder, Order, ReconciliationBreak
from tests.harness.processes import ChildProcess
from tests.harness.scenario import Scenario
from tests.harness.waiting import wait_for
from tests.scenarios.asserting import assert_book_equals_truth
from tests.scenarios.steps import place_by_hand, send_all, settle

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]
STREAM = {"api": "stream"}
REPORTS = {**STREAM, "event": "executionReport"}
BUY: dict[str, Any] = {
    "account": "demo", "symbol": "BTCUSDT", "side": "BUY", "order_type": "LIMIT",
    "quantity": "0.01", "price": "50000",
}  # fmt: skip
SHARES = {"BTCUSDT": 170, "ETHUSDT": 170, "BNBUSDT": 160}
SHORT_SILENCE = {"EXCHANGE_STREAM_SILENCE_SECONDS": "5"}
REAL_INTERVALS = {
    "SYNC_INTERVAL_SECONDS": "15", "RESOLVE_INTERVAL_SECONDS": "2", "EXCHANGE_READ_LAG_MS": "5000",
}  # fmt: skip
# Most of these stories sweep every second, which no real budget allows.
NO_LIMITS = {"request_weight": 1_000_000, "orders_10s": 100_000, "orders_day": 1_000_000}


@pytest.fixture
def listener(scenario: Scenario) -> ChildProcess:
    return start_listener(scenario, {})


@pytest.fixture
def wary_listener(scenario: Scenario) -> ChildProcess:
    """Start one that takes a silence for an end long before the exchange's next ping."""
    return start_listener(scenario, SHORT_SILENCE)


@pytest.fixture
def frugal_listener(scenario: Scenario) -> ChildProcess:
    """Start one with the exchange's real limits and the sweeps' real intervals."""
    return start_listener(scenario, REAL_INTERVALS, limits={})


def start_listener(
    scenario: Scenario, env: dict[str, str], limits: dict[str, int] = NO_LIMITS
) -> ChildProcess:
    control = scenario.simulator.control
    control.set_price("BTCUSDT", "60000")
    control.deposit("USDT", "1000000")
    control.limits(**limits)
    sync_instruments(scenario.account)
    scenario.processes.beat(env=env)
    return scenario.processes.command("listen_user_stream", ready="account_reconciled", env=env)


def place_many(names: str, count: int) -> list[str]:
    intents = [f"{names}-{number}" for number in range(count)]
    for result in send_all(intents, BUY).values():
        result.get(timeout=60)
    # An order that the shared budget blocks at first is sent a little later.
    rest = Order.objects.filter(intent_id__in=intents, status="NEW")
    wait_for(lambda: rest.count() == count, timeout=60, what="every order rests")
    return intents


def trade(scenario: Scenario, intents: list[str], symbol: str = "BTCUSDT") -> list[str]:
    """Trade by the exchange's hand: a third filled, a third in part, every seventh canceled.

    Return the client order ids of those that are left open.
    """
    control = scenario.simulator.control
    left = []
    shown = ExchangeOrder.objects.filter(
        order__intent_id__in=intents, outcome=AttemptOutcome.ACKNOWLEDGED
    )
    ids = dict(
        shown.values_list("order__intent_id", "client_order_id")
    )  # of a second attempt, if there was one
    for number, intent_id in enumerate(intents):
        ours = ids[intent_id]
        if number % 3 < 2:
            control.fill(symbol, client_order_id=ours, quantity="0.003")
        if number % 7 == 6:
            control.cancel(symbol, client_order_id=ours)
        elif number % 3 == 0:
            control.fill(symbol, client_order_id=ours, quantity="0.002", price="49999.9")
            control.fill(symbol, client_order_id=ours)
        else:
            left.append(ours)
    return left


def trade_by_hand(scenario: Scenario, name: str) -> None:
    """Place three orders past the back office: one filled in part, one filled, one canceled."""
    control = scenario.simulator.control
    for suffix in ("part", "filled", "withdrawn"):
        place_by_hand(scenario, f"{name}-{suffix}")
    control.fill("BTCUSDT", client_order_id=f"{name}-part", quantity="0.004")
    control.fill("BTCUSDT", client_order_id=f"{name}-filled")
    get_gateway(scenario.account).cancel(symbol="BTCUSDT", client_order_id=f"{name}-withdrawn")


def assert_balances_equal_truth(scenario: Scenario) -> None:
    ours = {
        row.asset: (row.free, row.locked)
        for row in Balance.objects.filter(account=scenario.account)
    }
    truth = scenario.simulator.control.truth().balances("main")
    assert {asset: figures for asset, figures in ours.items() if any(figures)} == {
        asset: tuple(figures) for asset, figures in truth.items() if any(figures)
    }


def assert_all_equals_truth(scenario: Scenario, *, placed: int, strangers: int) -> None:
    assert_book_equals_truth(scenario, placed=placed, strangers=strangers)
    assert Order.objects.filter(is_external=True).count() == strangers
    assert_balances_equal_truth(scenario)


def wait_until_true(
    scenario: Scenario, *, placed: int, strangers: int = 0, timeout: float = 60.0
) -> None:
    """Wait until the book is in sync and equals the exchange's truth in every detail."""

    def is_true() -> bool:
        try:
            assert_all_equals_truth(scenario, placed=placed, strangers=strangers)
        except AssertionError:
            return False
        return StreamState.objects.filter(in_sync_since__isnull=False).exists()

    try:
        wait_for(is_true, timeout=timeout, every=0.25, what="the book is the exchange's truth")
    except TimeoutError:
        assert_all_equals_truth(scenario, placed=placed, strangers=strangers)  # name the difference
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
def test_listener__orders_fill_while_the_stream_is_out(
    scenario: Scenario, outage: Callable[[Scenario], None]
) -> None:
    before = place_many("before", 7)
    outage(scenario)
    trade(scenario, before)
    trade_by_hand(scenario, "by-hand")
    meanwhile = place_many("meanwhile", 7)
    trade(scenario, meanwhile)
    wait_until_true(scenario, placed=17, strangers=3)


@pytest.mark.parametrize(
    ("action", "options"),
    [
        ("duplicate", {"copies": 2}),
        ("reorder", {}),
        ("delay", {"seconds": 1.5}),
        ("drop_event", {}),
    ],
)
@pytest.mark.usefixtures("listener")
def test_listener__events_come_twice_late_in_another_order_or_not_at_all(
    scenario: Scenario, action: str, options: dict[str, Any]
) -> None:
    rule = scenario.simulator.control.faults.add(action, match=REPORTS, times=None, **options)
    intents = place_many("i", 14)
    trade(scenario, intents)
    wait_for(lambda: scenario.simulator.control.faults.hits(rule) > 14, what="events have met it")
    scenario.simulator.control.faults.clear()
    trade_by_hand(scenario, "by-hand")
    wait_until_true(scenario, placed=17, strangers=3)


def test_listener__killed_and_started_again(scenario: Scenario, listener: ChildProcess) -> None:
    before = place_many("before", 7)
    listener.kill()
    trade(scenario, before)
    trade_by_hand(scenario, "by-hand")
    meanwhile = place_many("meanwhile", 7)
    trade(scenario, meanwhile)
    listener.start()
    wait_until_true(scenario, placed=17, strangers=3)
    assert not ReconciliationBreak.objects.filter(resolved_at=None).exists()


@pytest.mark.usefixtures("listener")
def test_listener__two_by_mistake_do_no_harm(scenario: Scenario) -> None:
    second = scenario.processes.command(
        "listen_user_stream", name="second", ready="account_reconciled"
    )
    intents = place_many("i", 14)
    trade(scenario, intents)
    trade_by_hand(scenario, "by-hand")
    wait_until_true(scenario, placed=17, strangers=3)
    assert Order.objects.count() == 17
    second.stop()
    wait_for(is_in_sync, what="the first says that it is well")


def is_in_sync() -> bool:
    return StreamState.objects.filter(in_sync_since__isnull=False).exists()


def test_listener__twenty_reconnects_in_a_row(
    scenario: Scenario, frugal_listener: ChildProcess
) -> None:
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

        wait_for(is_back, timeout=30, what="connected again and in sync")
    wait_until_true(scenario, placed=placed)
    for process in (frugal_listener, scenario.worker):
        assert "used up" not in process.output(), (
            "the exchange's patience was spent on reconnecting"
        )


@pytest.mark.parametrize("outage", ["mute", "half_open", "reset"])
@pytest.mark.usefixtures("wary_listener")
def test_listener__out_for_a_minute(scenario: Scenario, outage: str) -> None:
    """Every connection of that minute is muted, half-open or cut at its first event."""
    scenario.simulator.control.faults.add(outage, match=STREAM, times=None, seconds=60)
    until = clock.monotonic() + 60
    rounds, left = 0, list[str]()
    while clock.monotonic() < until:
        intents = place_many(f"round-{rounds}", 7)
        for client_order_id in left:  # of the round before
            scenario.simulator.control.fill("BTCUSDT", client_order_id=client_order_id)
        left = trade(scenario, intents)
        trade_by_hand(scenario, f"by-hand-{rounds}")
        left.append(f"by-hand-{rounds}-part")
        rounds += 1
        clock.sleep(1)  # or the rounds of a minute use up the account's money
    scenario.simulator.control.faults.clear()
    wait_until_true(scenario, placed=10 * rounds, strangers=3 * rounds, timeout=180)


@pytest.mark.usefixtures("listener")
def test_worker__restarts_while_five_hundred_orders_fill(scenario: Scenario) -> None:
    # The exchange allows 200 open orders per symbol.
    intents = {
        symbol: [f"{symbol}-{number}" for number in range(count)]
        for symbol, count in SHARES.items()
    }
    for symbol in intents:
        scenario.simulator.control.set_price(symbol, "60000")
    for symbol, names in intents.items():
        send_all(names, {**BUY, "symbol": symbol, "place_within_seconds": 600})
    ours = Order.objects.filter(is_external=False)
    wait_for(
        lambda: ours.filter(status="NEW").count() >= 100, timeout=60, what="a hundred orders rest"
    )
    scenario.worker.kill()
    resting = set(ours.filter(status="NEW").values_list("intent_id", flat=True))
    for symbol, names in intents.items():
        trade(scenario, [name for name in names if name in resting], symbol)
    trade_by_hand(scenario, "by-hand")
    scenario.worker.start()
    # A bot without an answer repeats its message. The killed worker's own comes much later.
    for symbol, names in intents.items():
        send_all(names, {**BUY, "symbol": symbol, "place_within_seconds": 600})
    unplaced = ours.filter(status__in=["CREATED", "PENDING_NEW"])
    wait_for(
        lambda: not unplaced.exists() and ours.count() == 500,
        timeout=180,
        what="every order is placed",
    )
    for symbol, names in intents.items():
        trade(scenario, [name for name in names if name not in resting], symbol)
    settle(timeout=120)
    wait_until_true(scenario, placed=503, strangers=3, timeout=120)
