"""Check that a bad row of balances or rules costs only itself, and that a break names it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from exchanges import clock
from exchanges.binance.registry import GATEWAYS_PER_THREAD, get_gateway
from exchanges.mirror.balances import apply_balances, sync_balances
from exchanges.mirror.instruments import sync_instruments
from exchanges.models import Balance, ExchangeAccount, Instrument
from exchanges.types import BalanceReport
from orders.models import ReconciliationBreak
from tests.exchanges.binance import binance_answers as binance
from tests.factories import ExchangeAccountFactory
from tests.fakes import FakeExchange

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("without_limits")]


@pytest.fixture
def exchange() -> Iterator[FakeExchange]:
    with FakeExchange().installed() as exchange:
        yield exchange


@pytest.fixture
def owner(exchange: FakeExchange) -> ExchangeAccount:
    account: ExchangeAccount = ExchangeAccountFactory(name="demo")
    return account


def open_breaks() -> list[tuple[str, str]]:
    rows = ReconciliationBreak.objects.filter(resolved_at__isnull=True)
    return sorted((row.kind, row.subject) for row in rows)


def test_sync_instruments__filters_null_cost_only_their_symbol(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    sync_instruments(owner)
    known = Instrument.objects.count()
    body = binance.exchange_info(filters=None)
    (bad,) = body["symbols"]
    body["symbols"].append({**bad, "symbol": "ETHUSDT", "baseAsset": "ETH", "filters": []})
    for _ in range(2):
        exchange.answer_body("fetch_instruments", body)
        sync_instruments(owner)
    assert open_breaks() == [("UNREADABLE_REPORT", "exchangeInfo BTCUSDT")]
    assert Instrument.objects.get(symbol="BTCUSDT").status == "TRADING", "with its old rules"
    assert Instrument.objects.get(symbol="ETHUSDT").filters == []
    # A list this short is a fault of the exchange's, so it takes no other symbol away.
    assert not Instrument.objects.filter(status="DELISTED").exists()
    assert Instrument.objects.count() == known
    sync_instruments(owner)
    assert open_breaks() == []


def test_sync_balances__a_bad_row_costs_only_its_asset(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    old = clock.now().replace(year=2020)
    for asset in ("ETH", "BNB"):
        Balance.objects.create(account=owner, asset=asset, free=3, updated_at=old)
    rows = binance.account()["balances"]
    bad: dict[str, Any] = {"asset": "ETH", "free": "1.0", "locked": None}
    exchange.answer_body("fetch_account", binance.account(balances=[*rows, bad]))
    sync_balances(owner)
    assert dict(Balance.objects.values_list("asset", "free")) == {
        "BTC": Decimal("0.1"),
        "USDT": Decimal("1000.00000001"),
        "ETH": Decimal(3),
        "BNB": Decimal(0),
    }
    assert open_breaks() == [("UNREADABLE_REPORT", "account ETH")]
    sync_balances(owner)
    assert open_breaks() == []


@pytest.mark.parametrize("update_time", [0, 1_500_000_000_000, None, "?", 4_000_000_000_000])
def test_sync_balances__a_reading_that_began_after_the_last_event_counts(
    owner: ExchangeAccount, exchange: FakeExchange, update_time: Any
) -> None:
    """Whatever the exchange says about the account's last change."""

    def read() -> Decimal:
        rows = [{"asset": "BTC", "free": "0.5", "locked": "0"}]
        body = binance.account(balances=rows, updateTime=update_time)
        exchange.answer_body("fetch_account", body)
        sync_balances(owner)
        free: Decimal = Balance.objects.get(asset="BTC").free
        return free

    def hear(at: datetime) -> None:
        event = [BalanceReport(name, Decimal(9), Decimal(0), at) for name in ("BTC", "BNB")]
        apply_balances(owner, event)

    hear(clock.now() - timedelta(seconds=30))
    assert read() == Decimal("0.5")
    assert Balance.objects.get(asset="BNB").free == 0, "not in the reading any more"
    # A reading may lag, so it says nothing about an event of this moment.
    now = clock.now()
    hear(now)
    if update_time != 4_000_000_000_000:
        assert read() == 9
    hear(now + timedelta(seconds=2))
    assert Balance.objects.get(asset="BTC").free == 9, "the stream goes on"


def test_sync_balances__an_asset_that_comes_twice_counts_once(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    row = {"asset": "BTC", "free": "0.5", "locked": "0"}
    exchange.answer_body("fetch_account", binance.account(balances=[row, row]))
    sync_balances(owner)
    assert Balance.objects.get().free == Decimal("0.5")


def test_sync_instruments__a_symbol_that_comes_twice_counts_once(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    body = binance.exchange_info()
    body["symbols"] *= 2
    exchange.answer_body("fetch_instruments", body)
    sync_instruments(owner)
    assert Instrument.objects.get().symbol == "BTCUSDT"


def test_get_gateway__a_thread_keeps_only_those_it_used_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    accounts = [
        ExchangeAccount(name=f"a-{number}", environment="simulator") for number in range(40)
    ]
    for account in accounts:
        prefix = f"EXCHANGE_{account.name.upper().replace('-', '_')}"
        for name, value in (
            ("API_KEY", "k"),
            ("API_SECRET", "s"),
            ("REST_URL", "http://127.0.0.1:9"),
        ):
            monkeypatch.setenv(f"{prefix}_{name}", value)
    first = get_gateway(accounts[0])
    made = [get_gateway(account) for account in accounts[:GATEWAYS_PER_THREAD]]
    assert made[0] is first
    get_gateway(accounts[0])  # Used last.
    get_gateway(accounts[-1])
    assert get_gateway(accounts[0]) is first
    assert get_gateway(accounts[1]) is not made[1]
