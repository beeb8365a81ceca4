"""Check the tasks that read the outside world, in eager mode."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
from celery import current_app

from exchanges import tasks
from exchanges.models import AccountSync, Balance, Environment, ExchangeAccount, Instrument
from tests.fakes import FakeExchange

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _exchange() -> Iterator[None]:
    current_app.conf.task_always_eager = True
    try:
        with FakeExchange({"USDT": "5"}).installed():
            yield
    finally:
        current_app.conf.task_always_eager = False


def test_sync_all_instruments__reads_each_environment_in_use_once() -> None:
    for name, environment, is_enabled in (
        ("one", Environment.SIMULATOR, True),
        ("two", Environment.SIMULATOR, True),
        ("three", Environment.TESTNET, True),
        ("off", Environment.LIVE, False),
    ):
        ExchangeAccount.objects.create(name=name, environment=environment, is_enabled=is_enabled)
    assert tasks.sync_all_instruments() == {"environments": 2}
    stored = Instrument.objects.filter(symbol="BTCUSDT").values_list("environment", flat=True)
    assert set(stored) == {"simulator", "testnet"}


def test_read_keys__stores_the_times_of_each_key() -> None:
    for name, environment in (
        ("one", Environment.SIMULATOR),
        ("two", Environment.LIVE),
        ("three", Environment.TESTNET),
    ):
        ExchangeAccount.objects.create(name=name, environment=environment)
    assert tasks.read_keys() == {"accounts": 2}
    rows = AccountSync.objects.filter(key_created_at__isnull=False, key_read_at__isnull=False)
    assert set(rows.values_list("account__name", flat=True)) == {"one", "two"}


def test_sync_balances__stores_the_balances_of_one_account() -> None:
    ExchangeAccount.objects.create(name="one", environment=Environment.SIMULATOR)
    ExchangeAccount.objects.create(name="two", environment=Environment.SIMULATOR)
    tasks.sync_balances("one")
    assert list(Balance.objects.values_list("account__name", "asset", "free")) == [
        ("one", "USDT", Decimal(5))
    ]
