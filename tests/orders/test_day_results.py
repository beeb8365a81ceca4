"""What was realised today: the rule at the borders of the day, and how little is read for it; then through the gate."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from exchanges import clock
from exchanges.errors import NotSent
from exchanges.models import ExchangeAccount
from orders import day_results, services
from orders.day_results import loss_today, results_today
from orders.intents import parse_intent
from orders.models import Fill, Order, Position, RiskLimit
from orders.positions import fold_settled
from orders.reconcile import resolve_unconfirmed
from tests.factories import ExchangeOrderFactory, FillFactory, InstrumentFactory, OrderFactory
from tests.harness.simulator import Simulator
from tests.harness.waiting import wait_for

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]
D = Decimal


@pytest.fixture
def owner() -> ExchangeAccount:
    InstrumentFactory()
    InstrumentFactory(symbol="ETHUSDT", base_asset="ETH")
    InstrumentFactory(symbol="ETHBTC", base_asset="ETH", quote_asset="BTC")
    account: ExchangeAccount = OrderFactory(status="NEW").account
    return account


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """The one item is what the clock shows: noon of today."""
    now = [clock.now().replace(hour=12, minute=0, second=0, microsecond=0)]
    monkeypatch.setattr(clock, "now", lambda: now[0])
    return now


def fill(account: ExchangeAccount, side: str, quantity: str, price: str, **changes: Any) -> None:
    symbol = changes.get("symbol", "BTCUSDT")
    order = OrderFactory(account=account, status="FILLED", side=side, symbol=symbol)
    given = {"quantity": D(quantity), "price": D(price), "commission": D(0), "side": side, **changes}
    FillFactory(exchange_order=ExchangeOrderFactory(order=order), **{"traded_at": clock.now(), **given})


def fold(account: ExchangeAccount, now: list[datetime]) -> int:
    fold_settled(account)
    now[0] += timedelta(seconds=61)
    return fold_settled(account)["folded"]


def today(account: ExchangeAccount, currency: str = "USDT") -> dict[str, Decimal]:
    return results_today(account.pk, currency, clock.now())


def test_results_today__sells_against_the_average_cost_net_of_commissions(
    owner: ExchangeAccount, noon: list[datetime]
) -> None:
    fill(owner, "BUY", "1", "100")
    fill(owner, "BUY", "1", "200")
    assert today(owner) == {"BTCUSDT": 0}
    fill(owner, "SELL", "1", "140", commission=D("0.5"), commission_asset="USDT")
    assert today(owner) == {"BTCUSDT": D("-10.5")}
    assert loss_today(owner.pk, "USDT", "", clock.now()) == D("10.5")


def test_results_today__is_the_same_however_much_is_folded(owner: ExchangeAccount, noon: list[datetime]) -> None:
    for number in range(6):
        fill(owner, "SELL" if number % 3 == 2 else "BUY", "1", str(100 + number * number), commission=D("0.01"))
        before = today(owner)
        fold(owner, noon)
        assert today(owner) == before
    assert Position.objects.get().trades == 5


def test_results_today__yesterday_counts_for_the_cost_alone(owner: ExchangeAccount, noon: list[datetime]) -> None:
    midnight = noon[0].replace(hour=0)
    fill(owner, "BUY", "3", "100", traded_at=midnight - timedelta(hours=2))
    fill(owner, "SELL", "1", "50", traded_at=midnight - timedelta(milliseconds=1))
    assert today(owner) == {}
    assert fold(owner, noon) == 2
    assert today(owner) == {}
    fill(owner, "SELL", "1", "90", traded_at=midnight)
    assert today(owner) == {"BTCUSDT": -10}
    fold(owner, noon)
    assert today(owner) == {"BTCUSDT": -10}
    noon[0] += timedelta(days=1)
    assert today(owner) == {}


def test_results_today__a_trade_of_yesterday_that_comes_late_is_not_todays(
    owner: ExchangeAccount, noon: list[datetime]
) -> None:
    fill(owner, "BUY", "3", "100")
    fill(owner, "SELL", "1", "90")
    fold(owner, noon)
    fill(owner, "SELL", "1", "10", traded_at=noon[0] - timedelta(days=1))
    assert today(owner) == {"BTCUSDT": -10}


def test_results_today__each_currency_by_itself(owner: ExchangeAccount, noon: list[datetime]) -> None:
    for symbol, worse in (("BTCUSDT", "90"), ("ETHUSDT", "95"), ("ETHBTC", "98")):
        fill(owner, "BUY", "1", "100", symbol=symbol)
        fill(owner, "SELL", "1", worse, symbol=symbol)
    assert today(owner) == {"BTCUSDT": -10, "ETHUSDT": -5}
    assert today(owner, "BTC") == {"ETHBTC": -2}
    assert loss_today(owner.pk, "USDT", "", clock.now()) == 15
    assert loss_today(owner.pk, "USDT", "ETHUSDT", clock.now()) == 5


def test_results_today__a_commission_in_a_third_asset_counts_at_its_last_price(
    owner: ExchangeAccount, noon: list[datetime]
) -> None:
    fill(owner, "BUY", "1", "100", commission=D("0.01"), commission_asset="BNB")
    assert today(owner) == {"BTCUSDT": 0}, "no price is known yet"
    fold(owner, noon)
    Position.objects.update(fee_prices={"BNB": "600"})
    assert today(owner) == {"BTCUSDT": -6}


def test_results_today__reads_one_statement_and_only_fills_that_no_position_holds(
    owner: ExchangeAccount, noon: list[datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        fill(owner, "BUY", "1", str(100 + number))
    fold(owner, noon)
    monkeypatch.setattr(day_results, "MOST_UNFOLDED", 1)
    fill(owner, "SELL", "1", "90")
    with CaptureQueriesContext(connection) as statements:
        assert today(owner) == {"BTCUSDT": -12}
    assert len(statements) == 1
    fill(owner, "SELL", "1", "90")
    with pytest.raises(NotSent, match="too many fills"):
        today(owner)


def late(account: ExchangeAccount) -> None:
    """A fill with a lower number than the newest becomes visible after it."""
    fill(account, "SELL", "1", "70", id=Fill.objects.latest("id").pk - 50)


def early(account: ExchangeAccount) -> None:
    """A trade that was executed before another comes after it."""
    fill(account, "BUY", "1", "130", traded_at=clock.now() - timedelta(minutes=5))


def another(account: ExchangeAccount) -> None:
    """The newest fill is not the one that it was: the database was restored."""
    newest = Fill.objects.latest("id")
    newest.trade_id, newest.price, newest.quote_quantity = "restored", D(50), D(50)
    newest.save()


@pytest.mark.parametrize(("happens", "reads"), [(late, 2), (early, 2), (another, 2), (lambda account: None, 1)])
def test_results_today__goes_on_from_what_is_known_only_where_that_still_holds(
    owner: ExchangeAccount, noon: list[datetime], happens: Callable[[ExchangeAccount], None], reads: int
) -> None:
    for side, price in (("BUY", "100"), ("BUY", "110"), ("SELL", "80")):
        fill(owner, side, "1", price)
        noon[0] += timedelta(seconds=1)
    Fill.objects.filter(pk=Fill.objects.latest("id").pk).update(id=F("id") + 100)
    assert today(owner) == {"BTCUSDT": -25}
    happens(owner)
    with CaptureQueriesContext(connection) as statements:
        gone_on = today(owner)
    assert len(statements) == reads
    day_results._known.clear()
    assert gone_on == today(owner)


# -- through the gate ----------------------------------------------------------------------------------------------


def submit(intent_id: str, **arguments: Any) -> Order:
    given = {"intent_id": intent_id, "account": "demo", "symbol": "BTCUSDT", "side": "BUY", "order_type": "LIMIT"}
    given |= {"quantity": "0.01", "price": "50000"}
    return services.submit_order(parse_intent({**given, **arguments}, now=clock.now()))


def lose(simulator: Simulator) -> None:
    """Buy 0.01 at 59000 and sell it at 58000, on the simulator."""
    for intent_id, side, price in (("in", "BUY", "59000"), ("out", "SELL", "58000")):
        order = submit(intent_id, side=side, price=price)
        simulator.control.fill("BTCUSDT", client_order_id=order.exchange_orders.get().client_order_id)
        assert services.cancel_order(account="demo", intent_id=intent_id).status == "FILLED"

    def fills_are_here() -> bool:
        resolve_unconfirmed()
        return Fill.objects.count() == 2

    wait_for(fills_are_here, timeout=20, what="the fills are fetched")


def test_submit_order__is_refused_from_the_loss_on_that_is_over_the_limit(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    simulator.control.set_price("BTCUSDT", "60000")
    lose(simulator)
    loss = loss_today(account.pk, "USDT", "", clock.now())
    assert loss > 10, "and commissions"
    row = RiskLimit.objects.create(account=account, max_daily_loss=loss)
    assert submit("at-the-limit").status == "NEW"
    row.max_daily_loss = loss - D("0.01")
    row.save()
    denied = submit("over")
    assert (denied.status, denied.reason_code) == ("DENIED", "LIMIT_DAILY_LOSS")
    assert f"{loss.normalize():f}" in denied.reason
    assert f"{row.max_daily_loss.normalize():f} USDT" in denied.reason
    row.symbol = "ETHUSDT"
    row.save()
    assert submit("another-symbols-limit").status == "NEW"
