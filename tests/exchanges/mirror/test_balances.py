"""Take an account's balances from an exchange whose clock is turned back."""

from __future__ import annotations

from decimal import Decimal

import pytest

from exchanges.binance.registry import get_gateway
from exchanges.mirror.balances import sync_balances
from exchanges.models import Balance, ExchangeAccount
from exchanges.simulator.engine.types import units
from tests.factories import ExchangeAccountFactory
from tests.fakes import FakeExchange

pytestmark = pytest.mark.django_db


def free(account: ExchangeAccount) -> Decimal:
    row: Balance = Balance.objects.get(account=account, asset="USDT")
    return Decimal(row.free)


def read(account: ExchangeAccount) -> None:
    get_gateway(account).forget_clock()
    sync_balances(account)


def test_sync_balances__believes_an_exchange_whose_clock_was_an_hour_ahead() -> None:
    """By their times, the new amounts are an hour older than the stored ones."""
    with FakeExchange({"USDT": "100"}).installed() as exchange:
        account = ExchangeAccountFactory(name="demo")
        exchange.offset_ms = 3_600_000
        read(account)
        exchange.simulator.engine.deposit("demo", "USDT", units("1"))
        read(account)
        assert free(account) == 101
        exchange.offset_ms = 0
        exchange.simulator.engine.deposit("demo", "USDT", units("1"))
        read(account)
        assert free(account) == 102
