"""Check the reading of the best bids and asks that all accounts of an environment share."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from exchanges import clock
from exchanges.binance.http import HttpResult
from exchanges.db.leases import lease
from exchanges.errors import NotSent, OutcomeUnknown
from exchanges.mirror import prices
from exchanges.mirror.instruments import sync_instruments
from exchanges.mirror.prices import refresh_mids
from exchanges.models import ExchangeAccount, Instrument, MidPrice
from tests.factories import ExchangeAccountFactory
from tests.fakes import FakeExchange

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("without_limits")]
CALL = "fetch_bids_and_asks"
BOTH = ["BTCUSDT", "ETHUSDT"]


@pytest.fixture
def exchange() -> Iterator[FakeExchange]:
    with FakeExchange().installed() as exchange:
        yield exchange


@pytest.fixture
def owner(exchange: FakeExchange) -> ExchangeAccount:
    account: ExchangeAccount = ExchangeAccountFactory(name="demo")
    sync_instruments(account)
    return account


def row(symbol: str, bid: str = "1", ask: str = "2") -> dict[str, str]:
    return {"symbol": symbol, "bidPrice": bid, "bidQty": "1", "askPrice": ask, "askQty": "1"}


def stored() -> list[str]:
    return list(MidPrice.objects.order_by("symbol").values_list("symbol", flat=True))


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let it be so many seconds later than it was."""
    moment = clock.now() + timedelta(seconds=seconds)
    monkeypatch.setattr(clock, "now", lambda: moment)


def test_refresh_mids__stores_bid_and_ask_of_the_symbols(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    before = clock.now()
    assert refresh_mids(owner, BOTH) == 2
    assert stored() == BOTH
    mid = MidPrice.objects.get(symbol="BTCUSDT")
    assert (mid.exchange, mid.environment) == ("binance", "simulator")
    assert 0 < mid.bid < mid.ask
    assert before <= mid.asked_at <= clock.now()
    assert exchange.calls_of(CALL) == [{"symbols": '["BTCUSDT","ETHUSDT"]'}]


def test_refresh_mids__replaces_a_figure_and_keeps_the_time_of_one_that_is_missing(
    owner: ExchangeAccount, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh_mids(owner, BOTH)
    first = times()
    later(monkeypatch, 60)
    exchange.answer_body(CALL, [row("BTCUSDT", "7", "9"), row("ETHUSDT", "0", "0"), 7])
    assert refresh_mids(owner, BOTH) == 1
    assert MidPrice.objects.get(symbol="BTCUSDT").known.price == Decimal(8)
    assert times()["BTCUSDT"] > first["BTCUSDT"]
    assert times()["ETHUSDT"] == first["ETHUSDT"]


def times() -> dict[str, datetime]:
    return dict(MidPrice.objects.values_list("symbol", "asked_at"))


def test_refresh_mids__a_symbol_that_the_exchange_lost_stops_no_other(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    Instrument.objects.create(environment=owner.environment, symbol="GONEUSDT", status="TRADING")
    assert refresh_mids(owner, ["GONEUSDT", "BTCUSDT"]) == 1
    assert stored() == ["BTCUSDT"]
    assert exchange.calls_of(CALL) == [{"symbols": '["BTCUSDT","GONEUSDT"]'}, {}]


def test_refresh_mids__asks_for_listed_symbols_only(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    Instrument.objects.filter(symbol="ETHUSDT").update(status="DELISTED")
    assert refresh_mids(owner, [*BOTH, "NEVERHEARD"]) == 1
    assert refresh_mids(owner, ["NEVERHEARD"]) == 0
    assert exchange.calls_of(CALL) == [{"symbols": '["BTCUSDT"]'}]


def test_refresh_mids__reads_the_whole_market_instead_of_many_names(
    owner: ExchangeAccount, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prices, "_MOST_NAMED", 1)
    assert refresh_mids(owner, BOTH) == 2
    assert exchange.calls_of(CALL) == [{}]
    assert stored() == BOTH  # and no symbol that nobody trades


def test_refresh_mids__is_done_once_an_interval_and_by_one_worker(
    owner: ExchangeAccount, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ExchangeAccountFactory(name="other")
    with lease("mids:binance:simulator"):
        assert refresh_mids(owner, BOTH) == 0
    assert refresh_mids(owner, BOTH) == 2
    assert refresh_mids(other, BOTH) == 0
    later(monkeypatch, 3)
    assert refresh_mids(other, BOTH) == 2
    assert len(exchange.calls_of(CALL)) == 2


@pytest.fixture
def of_accounts(exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the accounts that asked, in their order."""
    asked: list[str] = []
    answer = exchange.request

    def request(name: str, method: str, parameters: dict[str, Any]) -> HttpResult:
        asked.append(name)
        return answer(name, method, parameters)

    monkeypatch.setattr(exchange, "request", request)
    return asked


def test_refresh_mids__asks_through_another_account_if_one_cannot(
    owner: ExchangeAccount, exchange: FakeExchange, of_accounts: list[str]
) -> None:
    for name in ("b", "c", "d"):
        ExchangeAccountFactory(name=name)
    ExchangeAccountFactory(name="a-of-the-testnet", environment="testnet")
    ExchangeAccountFactory(name="a-that-is-off", is_enabled=False)
    exchange.refuse_connection(CALL)
    assert refresh_mids(owner, BOTH) == 2
    assert of_accounts == ["demo", "b"]
    MidPrice.objects.all().delete()
    of_accounts.clear()
    exchange.refuse_connection(CALL, times=9)
    with pytest.raises(NotSent):
        refresh_mids(owner, BOTH)
    assert len(of_accounts) == 3  # and not once for each of a hundred accounts


def test_refresh_mids__waits_for_an_exchange_that_is_silent_only_once(
    owner: ExchangeAccount, exchange: FakeExchange, of_accounts: list[str]
) -> None:
    ExchangeAccountFactory(name="b")
    exchange.lose_answer(CALL, executed=False, times=9)
    with pytest.raises(OutcomeUnknown):
        refresh_mids(owner, BOTH)
    assert of_accounts == ["demo"]
