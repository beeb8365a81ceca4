"""Check the samples of result and exposure that the overview draws."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from exchanges.models import ExchangeAccount
from orders.models import Position, ResultSample
from orders.positions import samples, store
from orders.tasks import refresh_positions_of
from tests.factories import ExchangeAccountFactory
from tests.harness.simulator import Simulator
from tests.steps import submit

pytestmark = pytest.mark.django_db
D = Decimal
NOON = datetime(2026, 11, 30, 12, 3, 20, 5, tzinfo=UTC)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """Return a list whose only item is the clock's time."""
    current = [NOON]
    monkeypatch.setattr("exchanges.clock.now", lambda: current[0])
    return current


def position(account: ExchangeAccount, symbol: str, quote: str, **more: Any) -> Position:
    return Position.objects.create(
        account=account,
        symbol=symbol,
        base_asset=symbol.removesuffix(quote),
        quote_asset=quote,
        **{"day": NOON.date(), "priced_at": NOON, **more},
    )


def stored() -> list[tuple[Any, ...]]:
    rows = ResultSample.objects.order_by("at", "quote_asset")
    return list(rows.values_list("at", "quote_asset", "realized", "unrealized", "exposure"))


def test_keep_sample__adds_up_by_quote_asset_and_writes_five_minutes_once(
    now: list[datetime],
) -> None:
    account = ExchangeAccountFactory()
    btc = position(
        *(account, "BTCUSDT", "USDT"),
        quantity=D(2),
        cost=D(100),
        last_price=D(60),
        day_realized=D(7),
    )
    position(
        *(account, "ETHUSDT", "USDT"),
        quantity=D(-1),
        cost=D(-10),
        last_price=D(12),
        day_realized=D(-3),
    )
    position(account, "ETHBTC", "BTC", last_price=D("0.04"))
    samples.keep_sample(account)
    began = NOON.replace(minute=0, second=0, microsecond=0)
    assert stored() == [
        (began, "BTC", D(0), D(0), D(0)),
        (began, "USDT", D(4), D(18), D(132)),
    ]
    now[0] += timedelta(seconds=90)
    Position.objects.filter(pk=btc.pk).update(last_price=D(65))
    samples.keep_sample(account)
    assert stored()[1] == (began, "USDT", D(4), D(28), D(142))
    now[0] += timedelta(seconds=30)
    Position.objects.update(priced_at=now[0])
    samples.keep_sample(account)
    assert len(stored()) == 4


@pytest.mark.parametrize(
    "change",
    [{"last_price": None}, {"priced_at": NOON - timedelta(minutes=6)}, {"priced_at": None}],
)
def test_keep_sample__holds_a_value_without_a_fresh_price_unknown(
    now: list[datetime], change: dict[str, Any]
) -> None:
    account = ExchangeAccountFactory()
    known = {"quantity": D(1), "cost": D(50), "last_price": D(60), "day_realized": D(7)}
    position(account, "ETHUSDT", "USDT", **known)
    position(account, "BTCUSDT", "USDT", **{**known, **change})
    samples.keep_sample(account)
    assert stored()[0][2:] == (D(14), None, None)


def test_keep_sample__holds_a_result_without_the_price_of_a_fee_unknown(
    now: list[datetime],
) -> None:
    account = ExchangeAccountFactory()
    position(account, "BTCUSDT", "USDT", last_price=D(60), day_fees={"BNB": "0.1"})
    samples.keep_sample(account)
    assert stored()[0][2] is None


def test_refresh_positions_of__keeps_a_sample(
    account: ExchangeAccount, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "RECENT_AFTER", timedelta(0))
    simulator.control.set_price("BTCUSDT", "60000")
    simulator.control.unfreeze()
    submit(order_type="MARKET", price=None, time_in_force=None, quantity="0.01")
    simulator.control.freeze()
    simulator.control.set_price("BTCUSDT", "61000")
    refresh_positions_of(account.name)
    row = ResultSample.objects.get()
    bought = D("0.01") * D("0.999")  # less the commission
    assert (row.quote_asset, row.exposure) == ("USDT", bought * 61000)
