"""A temporary limit replaces the lasting one, and the former limit holds again after its end."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
import time_machine
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from exchanges import clock
from exchanges.models import Environment, ExchangeAccount
from orders.auto_halt import _loss_limits
from orders.gate.facts import GateSnapshot, facts_for
from orders.models import RiskLimit
from tests.harness.simulator import Simulator
from tests.steps import make_intent, submit

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def facts() -> GateSnapshot:
    return facts_for(make_intent(), Environment.SIMULATOR)


def test_facts__drop_a_temporary_limit_at_its_end_without_a_query(account: ExchangeAccount) -> None:
    lasting = RiskLimit.objects.create(account=account, max_open_orders=5)
    with CaptureQueriesContext(connection) as before:
        assert [row.id for row in facts().limits] == [lasting.pk]
    until = clock.now() + HOUR
    temporary = RiskLimit.objects.create(account=account, max_open_orders=50, until=until)
    with CaptureQueriesContext(connection) as during:
        (row,) = facts().limits
    assert (row.id, row.until, row.max_open_orders) == (temporary.pk, until, 50)
    with time_machine.travel(until), CaptureQueriesContext(connection) as after:
        assert [row.id for row in facts().limits] == [lasting.pk]
    assert len(before) == len(during) == len(after)


def test_gate__denies_again_after_the_end(account: ExchangeAccount, simulator: Simulator) -> None:
    simulator.control.set_price("BTCUSDT", "60000")
    RiskLimit.objects.create(account=account, max_order_notional=Decimal(100))
    assert submit("one").reason_code == "LIMIT_ORDER_NOTIONAL"
    temporary = RiskLimit.objects.create(
        account=account, max_order_notional=Decimal(10_000), until=clock.now() + HOUR
    )
    assert submit("two").status == "NEW"
    RiskLimit.objects.filter(pk=temporary.pk).update(until=clock.now())
    assert submit("three").reason_code == "LIMIT_ORDER_NOTIONAL"


def test_halt_rules__know_the_loss_limit_in_force(account: ExchangeAccount) -> None:
    RiskLimit.objects.create(account=account, max_daily_loss=Decimal(5))
    until = clock.now() + HOUR
    RiskLimit.objects.create(account=account, max_daily_loss=Decimal(50), until=until)
    assert [row.max_daily_loss for row in _loss_limits()[account.pk]] == [Decimal(50)]
    with time_machine.travel(until):
        assert [row.max_daily_loss for row in _loss_limits()[account.pk]] == [Decimal(5)]


def test_a_limit__ends_in_the_future_and_lasts_once(account: ExchangeAccount) -> None:
    RiskLimit.objects.create(account=account)
    RiskLimit(account=account, until=clock.now() + HOUR).full_clean()
    with pytest.raises(ValidationError, match="must be in the future"):
        RiskLimit(account=account, until=clock.now()).full_clean()
    with pytest.raises(ValidationError):
        RiskLimit(account=account).full_clean()
    with pytest.raises(IntegrityError), transaction.atomic():
        RiskLimit.objects.create(account=account)
