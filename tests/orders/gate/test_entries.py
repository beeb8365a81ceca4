"""Test that every way to send an order passes the gate, with every condition that closes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from exchanges import clock
from exchanges.models import AccountSync, Environment, ExchangeAccount, Instrument, TradingState
from exchanges.trading_state import halt_trading, reduce_trading
from orders import services, tasks
from orders.execution import OrderExecutionService
from orders.models import Order, RiskLimit
from orders.sweep import resolve_unconfirmed
from tests.factories import OrderFactory
from tests.fakes import FakeExchange
from tests.harness.redis import TestRedis
from tests.steps import record, submit

pytestmark = pytest.mark.django_db
ORDER: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "order_type": "LIMIT",
    "quantity": "0.01",
    "price": "50000",
}
GIVEN: dict[str, Any] = {**ORDER, "intent_id": "i-1", "account": "demo", "side": "BUY"}


@pytest.fixture(autouse=True)
def exchange(db: None, redis_server: TestRedis) -> Iterator[FakeExchange]:
    with FakeExchange().installed() as exchange:
        yield exchange


@pytest.fixture
def demo() -> ExchangeAccount:
    """Return an account that has traded, so its next order needs nothing fetched."""
    account = ExchangeAccount.objects.create(name="demo", environment=Environment.SIMULATOR)
    assert submit(intent_id="before").status == "NEW"
    return account


# -- the entries ---------------------------------------------------------------------------------


def by_service(tmp_path: Path) -> None:
    submit()


def by_task(tmp_path: Path) -> None:
    tasks.submit_order(**GIVEN)


def by_stored_order(tmp_path: Path) -> None:
    services.place_order(record().pk)


def by_stored_orders_task(tmp_path: Path) -> None:
    tasks.place_order(str(record().pk))


def by_sweep(tmp_path: Path) -> None:
    Order.objects.filter(pk=record().pk).update(next_check_at=clock.now())
    resolve_unconfirmed()


def by_orchestrator(tmp_path: Path) -> None:
    OrderExecutionService("demo").execute_buy_order(intent_id="i-1", **ORDER)
    services.place_order(Order.objects.get(intent_id="i-1").pk, is_due=True)


def by_waiting_orchestrator(tmp_path: Path) -> None:
    OrderExecutionService("demo").execute_buy_order(intent_id="i-1", wait=True, **ORDER)


def by_command(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(",".join(GIVEN) + "\n" + ",".join(GIVEN.values()) + "\n")
    call_command("send_orders", str(path))


def by_sending_again(tmp_path: Path) -> None:
    """Make a request that certainly did not happen, so its order waits to be sent again."""
    OrderFactory(
        account=ExchangeAccount.objects.get(name="demo"),
        intent_id="i-1",
        status="CREATED",
        attempt=1,
        quantity=Decimal("0.01"),
        price=Decimal(50000),
        place_by=clock.now() + timedelta(seconds=30),
    )
    services.place_order(Order.objects.get(intent_id="i-1").pk, is_due=True)


ENTRIES = (
    by_service,
    by_task,
    by_stored_order,
    by_stored_orders_task,
    by_sweep,
    by_orchestrator,
    by_waiting_orchestrator,
    by_command,
    by_sending_again,
)


# -- what closes the gate ------------------------------------------------------------------------


def all_trading_halted(account: ExchangeAccount) -> None:
    halt_trading(account=None, reason="drill", actor="eva")


def account_halted(account: ExchangeAccount) -> None:
    halt_trading(account=account, reason="drill", actor="eva")


def account_disabled(account: ExchangeAccount) -> None:
    ExchangeAccount.objects.update(is_enabled=False)


def only_reducing(account: ExchangeAccount) -> None:
    reduce_trading(account=account, reason="drill", actor="eva")


def over_a_limit(account: ExchangeAccount) -> None:
    RiskLimit.objects.create(account=account, max_order_notional=Decimal("499.99"))


CLOSED_BY = {
    "HALTED": all_trading_halted,
    "HALTED ": account_halted,
    "ACCOUNT_DISABLED": account_disabled,
    "REDUCING": only_reducing,
    "LIMIT_ORDER_NOTIONAL": over_a_limit,
}


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("code", CLOSED_BY)
@pytest.mark.parametrize("enter", ENTRIES)
def test_gate__no_entry_passes_by(
    demo: ExchangeAccount,
    exchange: FakeExchange,
    tmp_path: Path,
    enter: Callable[[Path], None],
    code: str,
) -> None:
    CLOSED_BY[code](demo)
    enter(tmp_path)
    order = Order.objects.get(intent_id="i-1")
    assert (order.reason_code, order.status in ("DENIED", "NOT_PLACED")) == (code.strip(), True)
    assert len(exchange.calls_of("place")) == 1, "that of before"


@pytest.mark.usefixtures("eager", "demo")
@pytest.mark.parametrize("enter", ENTRIES)
def test_gate__every_entry_passes_where_nothing_closes_it(
    exchange: FakeExchange, tmp_path: Path, enter: Callable[[Path], None]
) -> None:
    enter(tmp_path)
    assert Order.objects.get(intent_id="i-1").status == "NEW"
    assert len(exchange.calls_of("place")) == 2


def test_gate__the_admin_has_no_way_to_place_an_order(
    demo: ExchangeAccount, admin_client: Client
) -> None:
    assert admin_client.post("/admin/orders/order/add/", GIVEN).status_code == 403
    order = record()
    for page in (f"/admin/orders/order/{order.pk}/change/", "/admin/orders/exchangeorder/add/"):
        assert admin_client.post(page, {"status": "PENDING_NEW"}).status_code in (403, 404)
    order.refresh_from_db()
    assert (order.status, order.attempt) == ("CREATED", 0)


# -- either side of each stored limit ------------------------------------------------------------


@pytest.mark.parametrize(
    ("late_by", "status"), [(timedelta(microseconds=-1), "NEW"), (timedelta(0), "NOT_PLACED")]
)
def test_gate__sends_until_the_deadline_and_not_at_it(
    demo: ExchangeAccount, monkeypatch: pytest.MonkeyPatch, late_by: timedelta, status: str
) -> None:
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)
    decided_at: datetime = now - timedelta(seconds=30) - late_by
    order = submit(submitted_at=decided_at.isoformat(), place_within_seconds=30)
    assert order.status == status


@pytest.mark.parametrize(
    ("word", "code"), [("TRADING", ""), ("DELISTED", "INSTRUMENT_NOT_TRADING")]
)
@pytest.mark.usefixtures("demo")
def test_gate__an_instrument_that_trades_and_one_that_does_not(word: str, code: str) -> None:
    Instrument.objects.filter(symbol="BTCUSDT").update(status=word, updated_at=clock.now())
    assert submit().reason_code == code


def test_gate__an_asset_without_a_balance_is_denied_and_not_guessed(
    demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    order = submit(symbol="DOGEUSDT", side="SELL", quantity="100", price="1")
    assert (order.status, order.reason) == ("DENIED", "needs 100 DOGE, but only 0 DOGE is free")


@pytest.mark.parametrize("times", [1000, 0])
def test_gate__an_account_whose_balances_were_never_known_is_denied(
    exchange: FakeExchange, times: int
) -> None:
    ExchangeAccount.objects.create(name="demo", environment=Environment.SIMULATOR)
    if times:
        exchange.refuse_connection("fetch_account", times=times)
    order = submit()
    if not times:
        assert order.status == "NEW"
        return
    assert (order.status, order.reason_code) == ("DENIED", "BALANCE_UNKNOWN")
    assert order.reason == "needs 500 USDT, but no balance is known yet"
    assert exchange.calls_of("place") == []


def test_gate__an_old_balance_that_cannot_be_refreshed_makes_the_order_wait_until_its_deadline(
    demo: ExchangeAccount, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange.refuse_connection("fetch_account", times=1000)
    AccountSync.objects.update(
        balances_synced_at=clock.now() - timedelta(seconds=10, milliseconds=1)
    )
    order = submit(place_within_seconds=20)
    assert order.status == "CREATED"
    later = clock.now() + timedelta(seconds=20)
    monkeypatch.setattr(clock, "now", lambda: later)
    order = services.place_order(order.pk, is_due=True)
    assert (order.status, order.reason_code) == ("NOT_PLACED", "PAST_DEADLINE")
    assert len(exchange.calls_of("place")) == 1


def test_gate__an_order_waits_for_a_balance_of_more_than_ten_seconds_only(
    demo: ExchangeAccount, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)
    for age, calls in (
        (
            timedelta(seconds=10),
            ["place", "fetch_account"],
        ),  # refreshed ahead, after the order was sent
        (timedelta(seconds=10, microseconds=1), ["fetch_account", "place"]),
    ):
        AccountSync.objects.update(balances_synced_at=now - age)
        exchange.calls.clear()
        assert submit(intent_id=f"age-{age.microseconds}").status == "NEW"
        assert [name for name, _ in exchange.calls if name != "fetch_time"] == calls


def test_gate__the_halt_of_everything_counts_whatever_an_account_says(
    demo: ExchangeAccount,
) -> None:
    halt_trading(account=demo, reason="own", actor="eva")
    halt_trading(account=None, reason="all", actor="eva")
    ExchangeAccount.objects.update(trading_state=TradingState.ACTIVE)
    assert submit().reason == "all trading is halted: all"
