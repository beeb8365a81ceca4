"""The kill switch on real servers: it outlives its processes, and rules press it by themselves."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.core.management import call_command

from exchanges import clock
from exchanges.models import ExchangeAccount
from exchanges.trading_state import halt_trading, resume_trading
from orders.models import Order, ReconciliationBreak, RiskLimit
from tests.factories import ExchangeOrderFactory, FillFactory, OrderFactory
from tests.harness.scenario import Scenario
from tests.harness.waiting import wait_for
from tests.scenarios.steps import (
    LIMIT_BUY,
    POST_ORDER,
    place,
    placements,
    send_all,
    settle,
    statuses,
)

SMALL = {**LIMIT_BUY, "quantity": "0.001"}


def all_are_decided() -> bool:
    return not Order.objects.filter(status__in=["CREATED", "PENDING_NEW"]).exists()


@pytest.mark.long
def test_halt__outlives_a_killed_worker_and_an_emptied_broker(scenario: Scenario) -> None:
    """Pressed in a burst: unsent orders are denied, also after every process has gone."""
    place("first", SMALL)
    scenario.simulator.control.faults.add(
        "delay_answer", match=POST_ORDER, times=None, seconds=0.05
    )
    send_all((f"i-{number}" for number in range(40)), SMALL)
    wait_for(lambda: placements(scenario) >= 8, timeout=30, what="the burst is on")
    halt_trading(account=None, reason="drill", actor="eva")
    at_halt = placements(scenario)
    scenario.worker.kill()
    scenario.redis.flush()
    scenario.worker.start()
    scenario.processes.beat()
    assert place("after", SMALL)["reason_code"] == "HALTED"
    wait_for(all_are_decided, timeout=60, what="every order has its answer")
    assert placements(scenario) <= at_halt + 4, "one for each thread of the one worker, at most"
    assert set(statuses().values()) <= {"NEW", "DENIED", "NOT_PLACED"}
    resume_trading(account=None, reason="over", actor="eva")
    # The emptied Redis holds new orders back until the fence has passed.
    place("again", SMALL, place_within_seconds=120)
    settle(timeout=60)
    assert statuses()["again"] == "NEW"


@pytest.mark.long
def test_halt__with_cancel_open_ends_with_nothing_open_at_the_exchange(scenario: Scenario) -> None:
    """Pressed while the worker is in the middle of a placement: that order is found and ended."""
    for number in range(3):
        place(f"i-{number}", SMALL)
    scenario.simulator.control.faults.add("delay_answer", match=POST_ORDER, times=1, seconds=1)
    send_all(["on-the-wire"], SMALL)
    wait_for(lambda: placements(scenario) == 4, timeout=20, what="it has left")
    call_command("halt_trading", "--reason", "drill", "--cancel-open")
    assert set(statuses().values()) == {"CANCELED"}
    assert {row["status"] for row in scenario.simulator.control.truth().orders()} == {"CANCELED"}
    assert place("after", SMALL)["reason_code"] == "HALTED"


@pytest.mark.long
def test_halt_rules__the_beat_halts_an_account_that_has_lost_too_much(scenario: Scenario) -> None:
    place("first", SMALL)
    account = scenario.account
    now = clock.now()
    for side, price in (("BUY", Decimal(100)), ("SELL", Decimal(89))):
        attempt = ExchangeOrderFactory(
            order=OrderFactory(account=account, status="FILLED", side=side, created_at=now)
        )
        FillFactory(
            exchange_order=attempt,
            side=side,
            quantity=Decimal(1),
            price=price,
            commission=Decimal(0),
        )
    RiskLimit.objects.create(account=account, max_daily_loss=Decimal(10))
    scenario.processes.beat()

    def is_halted() -> bool:
        return ExchangeAccount.objects.filter(pk=account.pk, trading_state="HALTED").exists()

    wait_for(is_halted, timeout=30, what="the rule halts it")
    account.refresh_from_db()
    assert (
        account.trading_state_reason
        == "by rule: today's realized loss is 11, at most 10 USDT are allowed"
    )
    assert ReconciliationBreak.objects.get(kind="HALTED_BY_RULE").subject == "daily-loss"
    assert place("after", SMALL)["reason_code"] == "HALTED"
