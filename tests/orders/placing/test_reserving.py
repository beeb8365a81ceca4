"""Test the reservations of placed orders against the simulator, and 200 orders on one balance."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connections

from exchanges import clock
from exchanges.mirror.balances import release_covered, sync_balances
from exchanges.models import AccountSync, Balance, ExchangeAccount, LastPrice, Reservation
from orders import services
from orders.models import Order
from orders.sweep import resolve_unconfirmed
from tests.harness.simulator import Simulator
from tests.harness.waiting import wait_for
from tests.steps import submit

D = Decimal
POST_ORDER = {"method": "POST", "path": "/api/v3/order"}


@pytest.fixture(autouse=True)
def _market(account: ExchangeAccount, simulator: Simulator) -> None:
    simulator.control.set_price("BTCUSDT", "60000")


def reserved(asset: str = "USDT") -> Decimal:
    row = Balance.objects.get(account__name="demo", asset=asset)
    total = sum((r.amount for r in Reservation.objects.filter(asset=asset)), D(0))
    assert row.reserved == total
    return total


@pytest.mark.django_db
def test_submit_order__holds_back_what_it_may_spend_until_the_exchange_shows_it(
    account: ExchangeAccount,
) -> None:
    submit()
    assert reserved() == 500
    sync_balances(account)
    row = Balance.objects.get(account=account, asset="USDT")
    assert (row.reserved, row.locked) == (0, 500)


@pytest.mark.django_db
def test_submit_order__a_fill_is_held_back_until_the_figures_show_it(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    order = submit(side="SELL", price="70000")
    simulator.control.fill("BTCUSDT", client_order_id=order.exchange_orders.get().client_order_id)
    assert services.cancel_order(account="demo", intent_id="i-1").status == "FILLED"
    assert reserved("BTC") == D("0.01")
    sync_balances(account)
    assert reserved("BTC") == 0


@pytest.mark.django_db
def test_submit_order__a_canceled_order_gives_back_at_once() -> None:
    submit()
    services.cancel_order(account="demo", intent_id="i-1")
    assert reserved() == 0


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("http_status", "code", "status"), [(400, -2010, "REJECTED"), (429, -1003, "CREATED")]
)
def test_submit_order__a_refused_request_gives_back_at_once(
    simulator: Simulator, http_status: int, code: int, status: str
) -> None:
    body = json.dumps(
        {"code": code, "msg": "Account has insufficient balance for requested action."}
    )
    simulator.control.faults.add("respond", match=POST_ORDER, status=http_status, body=body)
    assert submit().status == status
    assert reserved() == 0


@pytest.mark.django_db
def test_submit_order__waits_for_money_that_is_reserved_and_denies_for_money_that_is_gone(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    sync_balances(account)
    free = Balance.objects.get(account=account, asset="USDT").free
    Balance.objects.filter(account=account, asset="USDT").update(reserved=free)
    waiting = submit()
    assert waiting.status == "CREATED"
    assert (
        "reserved for orders in flight"
        in waiting.events.get(event_type="WAITING").details["reason"]
    )
    denied = submit(intent_id="i-2", quantity="9", price="59000")
    assert (denied.status, denied.reason_code) == ("DENIED", "INSUFFICIENT_BALANCE")
    assert simulator.control.truth().accepted_total() == 0


MARKET_BUY: dict[str, Any] = {"order_type": "MARKET", "price": None}
ASK_PRICE = {"method": "GET", "path": "/api/v3/aggTrades"}


def asked_for_prices(simulator: Simulator) -> int:
    return int(simulator.control.truth().requests.get("GET /api/v3/aggTrades", 0))


@pytest.mark.django_db
def test_submit_order__a_market_buy_holds_back_the_last_price_with_a_margin(
    simulator: Simulator,
) -> None:
    simulator.control.faults.add("respond", match=POST_ORDER, times=2, status=500, body="")
    assert submit(**MARKET_BUY).status == "PENDING_NEW"
    assert reserved() == D("0.01") * 60000 * D("1.05")
    submit(intent_id="i-2", **MARKET_BUY)
    assert reserved() == 2 * D("0.01") * 60000 * D("1.05")
    assert asked_for_prices(simulator) == 1, "it is known for a minute"


@pytest.mark.django_db
def test_submit_order__a_market_buy_by_amount_holds_that_back_and_asks_for_no_price(
    simulator: Simulator,
) -> None:
    simulator.control.faults.add("respond", match=POST_ORDER, status=500, body="")
    submit(**MARKET_BUY, quantity=None, quote_quantity="250")
    assert (reserved(), asked_for_prices(simulator)) == (D(250), 0)


@pytest.mark.django_db
def test_submit_order__a_market_sale_for_an_amount_holds_back_what_it_may_take(
    simulator: Simulator,
) -> None:
    simulator.control.faults.add("respond", match=POST_ORDER, status=500, body="")
    submit(**MARKET_BUY, side="SELL", quantity=None, quote_quantity="600")
    assert (reserved("BTC"), asked_for_prices(simulator)) == (D("0.0105"), 1)


@pytest.mark.django_db
def test_submit_order__an_account_that_reduces_sells_all_it_has_and_no_more(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    sync_balances(account)
    held = Balance.objects.get(account=account, asset="BTC").free
    ExchangeAccount.objects.update(trading_state="REDUCING", trading_state_reason="drill")
    bought = submit(intent_id="i-1")
    assert (bought.status, bought.reason_code) == ("DENIED", "REDUCING")
    swapped = submit(intent_id="i-2", symbol="ETHBTC", side="SELL", quantity="0.1", price="0.06")
    assert (swapped.status, swapped.reason_code) == ("DENIED", "REDUCING")
    above = submit(intent_id="i-3", side="SELL", quantity=str(held + D("0.00001")), price="70000")
    assert (above.status, above.reason_code) == ("DENIED", "INSUFFICIENT_BALANCE")
    assert submit(intent_id="i-4", side="SELL", quantity=str(held), price="70000").status == "NEW"
    again = submit(intent_id="i-5", side="SELL", quantity="0.00001", price="700000")
    assert again.status != "NEW", "it is being sold already"


@pytest.mark.django_db
def test_submit_order__an_old_price_is_asked_for_anew(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    simulator.control.faults.add("respond", match=POST_ORDER, status=500, body="")
    long_ago = clock.now() - timedelta(seconds=61)
    LastPrice.objects.create(
        exchange="binance",
        environment="simulator",
        symbol="BTCUSDT",
        price=1,
        traded_at=long_ago,
        asked_at=long_ago,
    )
    submit(**MARKET_BUY)
    assert (reserved(), asked_for_prices(simulator)) == (D("0.01") * 60000 * D("1.05"), 1)


@pytest.mark.django_db
def test_submit_order__a_market_buy_waits_while_no_price_can_be_had(simulator: Simulator) -> None:
    simulator.control.faults.add("respond", match=ASK_PRICE, status=500, body="")
    waiting = submit(**MARKET_BUY)
    assert waiting.status == "CREATED"
    assert simulator.control.truth().accepted_total() == 0
    services.place_order(waiting.pk, is_due=True)
    assert simulator.control.truth().accepted_total() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("free", "code"), [("630", "INSUFFICIENT_LIQUIDITY"), ("629.99", "INSUFFICIENT_BALANCE")]
)
def test_submit_order__a_market_buy_needs_its_price_and_the_margin(
    account: ExchangeAccount, simulator: Simulator, free: str, code: str
) -> None:
    sync_balances(account)
    simulator.control.withdraw(
        "USDT", Balance.objects.get(account=account, asset="USDT").free - D(free)
    )
    sync_balances(account)
    order = submit(**MARKET_BUY)
    assert order.reason_code == code  # the book is empty, so the order expires
    if code == "INSUFFICIENT_BALANCE":
        assert order.reason == "needs 630 USDT, but only 629.99 USDT is free"


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_submit_order__two_hundred_at_once_spend_what_there_is_and_no_more(
    account: ExchangeAccount, simulator: Simulator, fast_timing: None
) -> None:
    """Send as many orders as the balance pays for (120), so the exchange refuses none."""
    sync_balances(account)
    free = Balance.objects.get(account=account, asset="USDT").free
    simulator.control.withdraw("USDT", free - 120 * 500)
    sync_balances(account)
    sums: list[Decimal] = []

    def bot(number: int) -> None:
        try:
            for i in range(25):
                submit(intent_id=f"i-{number}-{i}", place_within_seconds=60)
                sums.append(Balance.objects.get(account=account, asset="USDT").reserved)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(bot, range(8)))

    def all_are_decided() -> bool:
        resolve_unconfirmed()
        return not Order.objects.filter(status__in=["CREATED", "PENDING_NEW"]).exists()

    wait_for(all_are_decided, timeout=60, what="every order is sent or denied")
    statuses = [str(status) for status in Order.objects.values_list("status", flat=True)]
    assert statuses.count("NEW") == 120
    assert statuses.count("DENIED") == 80
    assert simulator.control.truth().accepted_total() == 120
    assert 0 <= min(sums) <= max(sums) <= 120 * 500
    sync_balances(account)
    release_covered()
    assert reserved() == 0


def with_balances_of(account: ExchangeAccount, seconds_ago: float) -> None:
    submit(intent_id="warm-up")
    AccountSync.objects.update(balances_synced_at=clock.now() - timedelta(seconds=seconds_ago))


def account_calls(simulator: Simulator) -> int:
    return int(simulator.control.truth().requests.get("GET /api/v3/account", 0))


@pytest.mark.django_db
@pytest.mark.parametrize(("seconds_ago", "calls"), [(4, 0), (6, 1)])
def test_submit_order__reads_balances_that_are_aging_when_it_is_through(
    account: ExchangeAccount, simulator: Simulator, seconds_ago: float, calls: int
) -> None:
    with_balances_of(account, seconds_ago)
    before, placed_at = account_calls(simulator), clock.now()
    assert submit().status == "NEW"
    assert account_calls(simulator) - before == calls
    account.refresh_from_db()
    assert account.balances_synced_at is not None
    assert (account.balances_synced_at >= placed_at) is bool(calls)


@pytest.mark.django_db
def test_submit_order__is_through_even_if_balances_cannot_be_read(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    with_balances_of(account, 6)
    simulator.control.faults.add("reset_before", match={"method": "GET", "path": "/api/v3/account"})
    assert submit().status == "NEW"
