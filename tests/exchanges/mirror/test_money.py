"""Money is told from other assets by the listed instruments, or by the setting."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction
from pytest_django.fixtures import Settings

from exchanges.mirror.money import money_assets
from exchanges.models import Environment, TradingState
from orders.gate.facts import facts_for
from orders.gate.preview import simulate_gate
from tests.factories import BalanceFactory, ExchangeAccountFactory, InstrumentFactory
from tests.steps import make_intent

pytestmark = pytest.mark.django_db

PAIRS = [
    ("BTC", "USDT"),
    ("BTC", "USD1"),
    ("USD1", "USDT"),
    ("BTC", "EUR"),
    ("EUR", "USDT"),
    ("ETH", "EUR"),
    ("USDT", "MXN"),
    ("ETH", "PLN"),
    ("ETH", "BTC"),
    ("ETH", "USDT"),
    ("BNB", "ETH"),
    ("BNB", "USDT"),
]
MONEY = {"USDT", "USD1", "EUR", "MXN", "PLN"}


@pytest.fixture
def account() -> Any:
    for base, quote in PAIRS:
        InstrumentFactory(base_asset=base, quote_asset=quote)
    for asset in ("BTC", "ETH", "BNB"):
        BalanceFactory(account=ExchangeAccountFactory(name="demo"), asset=asset)
    account = ExchangeAccountFactory(name="demo")
    account.trading_state = TradingState.REDUCING
    account.save()
    return account


def test_money_assets__from_the_instruments(account: Any) -> None:
    assert money_assets("binance", Environment.SIMULATOR) == MONEY
    assert money_assets("binance", Environment.LIVE) == frozenset()


def test_money_assets__the_setting_overrides(account: Any, settings: Settings) -> None:
    settings.MONEY_ASSETS = frozenset({"BTC"})
    assert money_assets("binance", Environment.SIMULATOR) == {"BTC"}
    assert preview("ETHBTC") != "REDUCING"
    assert preview("ETHPLN") == "REDUCING"


@pytest.mark.parametrize(("base", "quote"), PAIRS)
def test_facts_for__follows_the_same_rule(account: Any, base: str, quote: str) -> None:
    with transaction.atomic():
        intent = make_intent(symbol=base + quote, side="SELL")
        facts = facts_for(intent, Environment.LIVE)
    assert facts.quote_is_money == (quote in MONEY)


def preview(symbol: str) -> str:
    asked = {"account": "demo", "symbol": symbol, "side": "SELL", "order_type": "LIMIT"}
    return simulate_gate({**asked, "quantity": "1", "price": "100"}).code


def test_simulate_gate__a_reduce_only_account_sells_for_any_currency(account: Any) -> None:
    assert preview("ETHPLN") == "PASSES"
    assert preview("BTCUSD1") == "PASSES"
    assert preview("ETHBTC") == "REDUCING"
    assert preview("BNBETH") == "REDUCING"
