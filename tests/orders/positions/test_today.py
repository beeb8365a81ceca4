"""Check today's realized result: the borders of the day, late trades, and the gate's limit."""

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
from exchanges.models import ExchangeAccount, Instrument
from orders import services
from orders.auto_halt import apply_halt_rules
from orders.models import (
    BreakKind,
    Fill,
    Position,
    PositionCursor,
    ReconciliationBreak,
    RiskLimit,
)
from orders.positions import store
from orders.positions import today as positions_today
from orders.positions.store import advance_positions, advance_recent, positions_of
from orders.positions.today import loss_today, results_today
from orders.sweep import resolve_unconfirmed
from tests.factories import ExchangeOrderFactory, FillFactory, InstrumentFactory, OrderFactory
from tests.harness.simulator import Simulator
from tests.harness.waiting import wait_for
from tests.steps import as_a_restore, submit

pytestmark = pytest.mark.django_db
D = Decimal


@pytest.fixture
def owner() -> ExchangeAccount:
    InstrumentFactory()
    InstrumentFactory(symbol="ETHUSDT", base_asset="ETH")
    InstrumentFactory(symbol="ETHBTC", base_asset="ETH", quote_asset="BTC")
    account: ExchangeAccount = OrderFactory(status="NEW").account
    return account


@pytest.fixture
def _all_are_ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the recent positions take the newest trades at once."""
    monkeypatch.setattr(store, "RECENT_AFTER", timedelta(0))


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """Return a list whose only item is the clock's time: noon of today."""
    now = [clock.now().replace(hour=12, minute=0, second=0, microsecond=0)]
    monkeypatch.setattr(clock, "now", lambda: now[0])
    return now


def fill(account: ExchangeAccount, side: str, quantity: str, price: str, **changes: Any) -> None:
    symbol = changes.get("symbol", "BTCUSDT")
    order = OrderFactory(account=account, status="FILLED", side=side, symbol=symbol)
    given = {
        "quantity": D(quantity),
        "price": D(price),
        "commission": D(0),
        "side": side,
        **changes,
    }
    FillFactory(
        exchange_order=ExchangeOrderFactory(order=order), **{"traded_at": clock.now(), **given}
    )


def fold(account: ExchangeAccount, now: list[datetime]) -> int:
    advance_positions(account)
    now[0] += timedelta(seconds=61)
    return advance_positions(account)["folded"]


def today(account: ExchangeAccount, currency: str = "USDT") -> dict[str, Decimal]:
    results = results_today(account.pk, currency, clock.now())
    assert not any(result.unpriced for result in results.values())
    return {symbol: result.net for symbol, result in results.items()}


def loss(account: ExchangeAccount, symbol: str = "") -> Decimal:
    return loss_today(account.pk, "USDT", symbol, clock.now()).amount


def test_results_today__sells_against_the_average_cost_net_of_commissions(
    owner: ExchangeAccount, noon: list[datetime]
) -> None:
    fill(owner, "BUY", "1", "100")
    fill(owner, "BUY", "1", "200")
    assert today(owner) == {"BTCUSDT": 0}
    fill(owner, "SELL", "1", "140", commission=D("0.5"), commission_asset="USDT")
    assert today(owner) == {"BTCUSDT": D("-10.5")}
    assert loss(owner) == D("10.5")


def test_results_today__is_the_same_however_much_is_folded(
    owner: ExchangeAccount, noon: list[datetime]
) -> None:
    for number in range(6):
        fill(
            owner,
            "SELL" if number % 3 == 2 else "BUY",
            "1",
            str(100 + number * number),
            commission=D("0.01"),
        )
        before = today(owner)
        fold(owner, noon)
        assert today(owner) == before
    assert Position.objects.get().trades == 5


def test_results_today__yesterday_counts_for_the_cost_alone(
    owner: ExchangeAccount, noon: list[datetime]
) -> None:
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


def test_results_today__each_currency_by_itself(
    owner: ExchangeAccount, noon: list[datetime]
) -> None:
    for symbol, worse in (("BTCUSDT", "90"), ("ETHUSDT", "95"), ("ETHBTC", "98")):
        fill(owner, "BUY", "1", "100", symbol=symbol)
        fill(owner, "SELL", "1", worse, symbol=symbol)
    assert today(owner) == {"BTCUSDT": -10, "ETHUSDT": -5}
    assert today(owner, "BTC") == {"ETHBTC": -2}
    assert loss(owner) == 15
    assert loss(owner, "ETHUSDT") == 5


def test_results_today__a_commission_in_a_third_asset_counts_at_its_last_price(
    owner: ExchangeAccount, noon: list[datetime]
) -> None:
    fill(owner, "BUY", "1", "100", commission=D("0.01"), commission_asset="BNB")
    unknown = results_today(owner.pk, "USDT", clock.now())["BTCUSDT"]
    assert unknown.net == 0
    assert unknown.unpriced == {"BNB"}
    fold(owner, noon)
    Position.objects.update(fee_prices={"BNB": "600"})
    assert today(owner) == {"BTCUSDT": -6}
    fill(owner, "BUY", "1", "100", symbol="ETHUSDT", commission=D("0.01"), commission_asset="BNB")
    assert today(owner) == {"BTCUSDT": -6, "ETHUSDT": -6}, "the price of another symbol's position"


def test_results_today__reads_one_statement_and_only_fills_that_no_position_holds(
    owner: ExchangeAccount, noon: list[datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        fill(owner, "BUY", "1", str(100 + number))
    fold(owner, noon)
    monkeypatch.setattr(positions_today, "MOST_UNFOLDED", 1)
    fill(owner, "SELL", "1", "90")
    with CaptureQueriesContext(connection) as statements:
        assert today(owner) == {"BTCUSDT": -12}
    assert len(statements) == 1
    fill(owner, "SELL", "1", "90")
    with pytest.raises(NotSent, match="too many fills"):
        today(owner)


def nothing(account: ExchangeAccount) -> None:
    """No fill arrives."""


def sale(account: ExchangeAccount) -> None:
    """A trade arrives in its order."""
    fill(account, "SELL", "1", "95", id=Fill.objects.latest("id").pk + 1)


def late(account: ExchangeAccount) -> None:
    """A fill with a lower number than the newest becomes visible after it."""
    fill(account, "SELL", "1", "70", id=Fill.objects.latest("id").pk - 50)


def early(account: ExchangeAccount) -> None:
    """A trade that was executed before another arrives after it."""
    fill(account, "BUY", "1", "130", traded_at=clock.now() - timedelta(minutes=5))


def yesterday(account: ExchangeAccount) -> None:
    """A trade of the day before arrives after today's."""
    fill(account, "SELL", "1", "10", traded_at=clock.now() - timedelta(days=1))


def three_trades(account: ExchangeAccount, now: list[datetime]) -> None:
    """Buy twice and sell at a loss, with a free range of numbers before the newest fill."""
    for side, price in (("BUY", "100"), ("BUY", "110"), ("SELL", "80")):
        fill(account, side, "1", price)
        now[0] += timedelta(seconds=1)
    with as_a_restore():
        Fill.objects.filter(pk=Fill.objects.latest("id").pk).update(id=F("id") + 100)
    now[0] += timedelta(seconds=1)


def from_the_cursor_on(account: ExchangeAccount) -> dict[str, Decimal]:
    """Return the result of today as if there were no recent positions."""
    PositionCursor.objects.update(recent_fill_id=0)
    return today(account)


@pytest.mark.usefixtures("_all_are_ordered")
@pytest.mark.parametrize("happens", [nothing, sale, late, early, yesterday])
def test_results_today__recent_positions_never_change_the_result(
    owner: ExchangeAccount, noon: list[datetime], happens: Callable[[ExchangeAccount], None]
) -> None:
    advance_positions(owner)
    three_trades(owner, noon)
    advance_recent(owner)
    assert today(owner) == {"BTCUSDT": -25}
    happens(owner)
    with CaptureQueriesContext(connection) as statements:
        before_advancing = today(owner)
    assert len(statements) == 1
    advance_recent(owner)
    after_advancing = today(owner)
    assert before_advancing == after_advancing == from_the_cursor_on(owner)


@pytest.mark.usefixtures("_all_are_ordered")
def test_results_today__adds_up_only_fills_that_no_recent_position_holds(
    owner: ExchangeAccount, noon: list[datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    advance_positions(owner)
    three_trades(owner, noon)
    monkeypatch.setattr(positions_today, "MOST_UNFOLDED", 1)
    with pytest.raises(NotSent, match="too many fills"):
        today(owner)
    advance_recent(owner)
    sale(owner)
    assert today(owner) == {"BTCUSDT": -35}
    late(owner)
    with pytest.raises(NotSent, match="too many fills"):
        today(owner)


@pytest.mark.usefixtures("_all_are_ordered")
def test_results_today__the_day_changes_at_midnight_utc(
    owner: ExchangeAccount, noon: list[datetime]
) -> None:
    advance_positions(owner)
    midnight = noon[0].replace(hour=0) + timedelta(days=1)
    fill(owner, "BUY", "3", "100")
    fill(owner, "SELL", "1", "90", traded_at=midnight - timedelta(milliseconds=1))
    noon[0] = midnight - timedelta(milliseconds=1)
    advance_recent(owner)
    assert today(owner) == {"BTCUSDT": -10}
    noon[0] = midnight
    assert today(owner) == {}
    fill(owner, "SELL", "1", "80", traded_at=midnight)
    assert today(owner) == {"BTCUSDT": -20}
    advance_recent(owner)
    assert today(owner) == {"BTCUSDT": -20}


def test_advance_recent__leaves_the_newest_trades(
    owner: ExchangeAccount, noon: list[datetime]
) -> None:
    """A trade of the same moment may still be stored after them."""
    advance_positions(owner)
    fill(owner, "BUY", "2", "100")
    noon[0] += store.RECENT_AFTER
    fill(owner, "SELL", "1", "90")
    advance_recent(owner)
    recent = Position.objects.get().recent
    assert recent is not None
    assert recent["quantity"] == "2"
    assert today(owner) == {"BTCUSDT": -10}


@pytest.mark.usefixtures("_all_are_ordered")
def test_advance_recent__keeps_what_the_positions_show(
    owner: ExchangeAccount, noon: list[datetime]
) -> None:
    fill(owner, "BUY", "1", "100")
    fold(owner, noon)
    fill(owner, "BUY", "1", "110")
    fill(owner, "SELL", "1", "95", symbol="ETHUSDT")
    advance_recent(owner)
    first = Position.objects.get(symbol="BTCUSDT")
    assert (first.quantity, first.trades) == (1, 1)
    assert first.recent is not None
    assert first.recent["quantity"] == "2"
    assert [each.holding.quantity for each in positions_of(owner)] == [2, -1]
    for _ in range(2):
        fold(owner, noon)
    assert today(owner) == {"BTCUSDT": 0, "ETHUSDT": 0}
    assert [row.quantity for row in Position.objects.order_by("symbol")] == [2, -1]


# -- through the gate ----------------------------------------------------------------------------


def lose(simulator: Simulator) -> None:
    """Buy 0.01 at 59000 and sell it at 58000, on the simulator."""
    for intent_id, side, price in (("in", "BUY", "59000"), ("out", "SELL", "58000")):
        order = submit(intent_id, side=side, price=price)
        simulator.control.fill(
            "BTCUSDT", client_order_id=order.exchange_orders.get().client_order_id
        )
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
    lost = loss(account)
    assert lost > 10, "and commissions"
    row = RiskLimit.objects.create(account=account, max_daily_loss=lost)
    assert submit("at-the-limit").status == "NEW"
    row.max_daily_loss = lost - D("0.01")
    row.save()
    denied = submit("over")
    assert (denied.status, denied.reason_code) == ("DENIED", "LIMIT_DAILY_LOSS")
    assert f"{lost.normalize():f}" in denied.reason
    assert f"{row.max_daily_loss.normalize():f} USDT" in denied.reason
    row.symbol = "ETHUSDT"
    row.save()
    assert submit("another-symbols-limit").status == "NEW"


def commission(account: ExchangeAccount, asset: str, amount: str = "1") -> None:
    """Record a purchase of today whose commission was paid in a third asset."""
    order = OrderFactory(account=account, status="FILLED")
    FillFactory(
        exchange_order=ExchangeOrderFactory(order=order),
        quantity=D(1),
        price=D(100),
        commission=D(amount),
        commission_asset=asset,
        traded_at=clock.now(),
    )


def test_submit_order__prices_a_new_commission_before_the_loss_is_judged(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    assert submit("warm-up").status == "NEW"
    RiskLimit.objects.create(account=account, max_daily_loss=D(100))
    commission(account, "BNB")  # some hundreds of USDT
    denied = submit("over")
    assert (denied.status, denied.reason_code) == ("DENIED", "LIMIT_DAILY_LOSS")


def test_submit_order__an_unknown_loss_lets_no_buy_pass_and_opens_a_break(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    assert submit("warm-up").status == "NEW"
    row = RiskLimit.objects.create(account=account, max_daily_loss=D(100))
    commission(account, "NOPRICE")
    denied = submit("buy")
    assert (denied.status, denied.reason_code) == ("DENIED", "LOSS_UNKNOWN")
    assert "NOPRICE" in denied.reason
    assert submit("exit", side="SELL", price="70000").status == "NEW", "an exit passes"

    apply_halt_rules()
    opened = ReconciliationBreak.objects.get(kind=BreakKind.LOSS_UNKNOWN)
    assert "NOPRICE" in opened.details["reason"]
    row.delete()
    apply_halt_rules()
    opened.refresh_from_db()
    assert opened.resolved_at is not None


def test_refresh_prices__an_old_price_keeps_its_time(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    assert submit("warm-up").status == "NEW"
    commission(account, "BNB")
    store.refresh_prices(account)
    row = Position.objects.get()
    assert row.last_price is not None
    assert "BNB" in row.fee_prices
    Instrument.objects.filter(symbol="BTCUSDT").update(status="BREAK")
    store.refresh_prices(account)
    again = Position.objects.get()
    assert (again.last_price, again.priced_at) == (row.last_price, row.priced_at)
