"""The gate denies on a live account whose halt rules or sweep stand still, and only there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from exchanges import clock
from exchanges.db.duty_runs import stamp_runs
from exchanges.duties import HALT_RULES, SWEEP
from exchanges.models import DutyRun, Environment, ExchangeAccount, TradingState
from orders import auto_halt, sweep
from orders.gate.preview import GatePreview, simulate_gate
from tests.factories import ExchangeAccountFactory, InstrumentFactory, OrderFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def live() -> ExchangeAccount:
    InstrumentFactory(environment=Environment.LIVE)
    account: ExchangeAccount = ExchangeAccountFactory(name="desk", environment=Environment.LIVE)
    ExchangeAccount.objects.update(trading_state=TradingState.ACTIVE)
    stamp_runs(HALT_RULES, [account.pk])
    stamp_runs(SWEEP, [account.pk])
    return account


def ask(account: ExchangeAccount) -> GatePreview:
    given: dict[str, Any] = {"symbol": "BTCUSDT", "side": "BUY", "order_type": "LIMIT"}
    return simulate_gate({**given, "account": account.name, "quantity": "0.01", "price": "50000"})


def let_pass(duty: str, seconds: float) -> None:
    DutyRun.objects.filter(duty=duty).update(ran_at=F("ran_at") - timedelta(seconds=seconds))


@pytest.mark.parametrize(("duty", "name"), [(HALT_RULES, "halt rules"), (SWEEP, "sweep")])
def test_gate__denies_while_a_duty_of_a_live_account_stands_still(
    live: ExchangeAccount, duty: str, name: str
) -> None:
    assert ask(live).code != "DUTY_STANDS_STILL"
    let_pass(duty, 61)
    answer = ask(live)
    assert answer.code == "DUTY_STANDS_STILL"
    assert (
        answer.text == f"the {name} of the account did not run for 61 s, at most 60 s are allowed"
    )


@pytest.mark.parametrize(("seconds", "denied"), [(59, False), (61, True)])
def test_gate__gives_a_new_account_time_for_the_first_run(
    live: ExchangeAccount, seconds: float, denied: bool
) -> None:
    DutyRun.objects.all().delete()
    ExchangeAccount.objects.update(created_at=Now() - timedelta(seconds=seconds))
    assert (ask(live).code == "DUTY_STANDS_STILL") is denied


def test_gate__takes_the_setting(live: ExchangeAccount, settings: Settings) -> None:
    let_pass(SWEEP, 61)
    settings.MAX_DUTY_AGE_SECONDS = 90.0
    assert ask(live).code != "DUTY_STANDS_STILL"


def test_gate__asks_only_about_live_accounts_and_not_in_eager_mode(
    live: ExchangeAccount, eager: None
) -> None:
    DutyRun.objects.all().delete()
    assert ask(live).code != "DUTY_STANDS_STILL"


def test_gate__lets_a_simulator_account_trade_without_duties() -> None:
    InstrumentFactory()
    assert ask(ExchangeAccountFactory()).code != "DUTY_STANDS_STILL"


def test_gate__reads_the_stamps_in_the_statement_of_the_claim(live: ExchangeAccount) -> None:
    with CaptureQueriesContext(connection) as queries:
        ask(live)
    about = [row["sql"] for row in queries if "exchanges_dutyrun" in row["sql"]]
    assert len(about) == 1
    assert "exchanges_tradinghalt" in about[0]


def test_halt_rules__stamp_every_enabled_account_whose_rules_were_checked(
    live: ExchangeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a halted one, which may be resumed at any moment."""
    DutyRun.objects.all().delete()
    halted = ExchangeAccountFactory(trading_state=TradingState.HALTED)
    broken = ExchangeAccountFactory()
    ExchangeAccountFactory(is_enabled=False)
    rules = auto_halt._apply_rules

    def fail(account: ExchangeAccount, causes: Any) -> bool:
        if account == broken:
            raise ValueError("an unreadable row")
        return rules(account, causes)

    monkeypatch.setattr(auto_halt, "_apply_rules", fail)
    auto_halt.apply_halt_rules()
    stamped = DutyRun.objects.filter(duty=HALT_RULES).values_list("account_id", flat=True)
    assert set(stamped) == {live.pk, halted.pk}


def test_sweep__stamps_the_accounts_that_it_swept_or_that_had_nothing_due(
    live: ExchangeAccount,
) -> None:
    DutyRun.objects.all().delete()
    other, waiting = ExchangeAccountFactory(), ExchangeAccountFactory()
    for account in (other, waiting):
        OrderFactory(account=account, status="CREATED", next_check_at=clock.now())
    sent: list[str] = []
    sweep.resolve_unconfirmed(lambda account: sent.append(account.name))
    stamped = set(DutyRun.objects.filter(duty=SWEEP).values_list("account__name", flat=True))
    assert len(sent) == 1
    assert stamped == {live.name, other.name, waiting.name} - set(sent)
