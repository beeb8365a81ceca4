"""Run the whole cycle on Binance's Spot testnet, with a real worker.

It needs EXCHANGE_TESTNET_API_KEY and EXCHANGE_TESTNET_API_SECRET. Orders are far from the market,
or as small as its rules allow. Everything left open is canceled.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from decimal import ROUND_DOWN, ROUND_UP, Decimal
from typing import Any

import pytest
from celery.result import AsyncResult

from backoffice.celery import app
from exchanges.binance.registry import get_gateway
from exchanges.mirror.balances import sync_balances
from exchanges.mirror.instruments import sync_instruments
from exchanges.models import Balance, Environment, ExchangeAccount, Instrument
from exchanges.types import plain
from orders.execution import OrderExecutionService
from orders.intents import InvalidIntent
from orders.models import ExchangeOrder, Fill, Order
from orders.states import OPEN
from tests.harness.processes import ProcessFactory
from tests.harness.waiting import wait_for

pytestmark = [
    pytest.mark.testnet,
    pytest.mark.skipif(
        not (
            os.environ.get("EXCHANGE_TESTNET_API_KEY")
            and os.environ.get("EXCHANGE_TESTNET_API_SECRET")
        ),
        reason="EXCHANGE_TESTNET_API_KEY and EXCHANGE_TESTNET_API_SECRET are not set",
    ),
]

SYMBOL = "BTCUSDT"
Submit = Callable[..., dict[str, Any]]


@pytest.fixture
def account(transactional_db: None) -> ExchangeAccount:
    account = ExchangeAccount.objects.create(name="testnet", environment=Environment.TESTNET)
    sync_instruments(account)
    sync_balances(account)
    return account


@pytest.fixture
def submit(processes: ProcessFactory, account: ExchangeAccount) -> Iterator[Submit]:
    """Send one order through a worker with production's waits, under a new id in every run."""
    own_waits = [
        name
        for name in processes.env
        if name.startswith(("EXCHANGE_", "RESOLVE_", "SYNC_", "PLACE_"))
    ]
    for name in own_waits:
        del processes.env[name]
    processes.worker()
    run = uuid.uuid4().hex[:12]

    def send(intent: str, **arguments: Any) -> dict[str, Any]:
        given = {
            "account": account.name,
            "symbol": SYMBOL,
            "intent_id": f"{run}-{intent}",
            **arguments,
        }
        result: AsyncResult[Any] = app.send_task(
            "orders.submit_order", kwargs=given, ignore_result=False
        )
        answer: dict[str, Any] = result.get(timeout=90)
        return answer

    yield send
    for order in Order.objects.filter(
        account=account, status__in=[*OPEN], intent_id__startswith=run
    ):
        OrderExecutionService(account.name).cancel_order(order.intent_id, reason="the test is over")


def best_price(account: ExchangeAccount) -> Decimal:
    """Return the price of a trade of our own: a MARKET order as small as allowed."""
    return Decimal(Fill.objects.filter(account=account, symbol=SYMBOL).latest("traded_at").price)


def small_quantity(price: Decimal) -> str:
    """Return a quantity worth about 1.5 times the minimum notional, on the step."""
    rules = Instrument.objects.get(environment=Environment.TESTNET, symbol=SYMBOL).rules
    step = rules.figure("LOT_SIZE", "stepSize")
    least = (
        rules.figure("NOTIONAL", "minNotional")
        or rules.figure("MIN_NOTIONAL", "minNotional")
        or Decimal(10)
    )
    return plain((least * Decimal("1.5") / price / step).to_integral_value(ROUND_UP) * step)


def settle(order_id: str, *statuses: str) -> Order:
    """Sweep and sync until the order has one of these statuses."""

    def is_there() -> bool:
        app.send_task("orders.resolve_unconfirmed", ignore_result=False).get(timeout=90)
        app.send_task("orders.sync_open_orders", args=("testnet",), ignore_result=False).get(
            timeout=90
        )
        return Order.objects.get(pk=order_id).status in statuses

    wait_for(is_there, timeout=120, every=1.0, what=f"the order is {' or '.join(statuses)}")
    return Order.objects.get(pk=order_id)


def assert_equals_exchange(account: ExchangeAccount, order: Order) -> None:
    """Check that our book equals the exchange's, fill by fill."""
    attempt = ExchangeOrder.objects.get(order=order)
    gateway = get_gateway(account)
    report = gateway.fetch_order(symbol=order.symbol, client_order_id=attempt.client_order_id)
    trades = gateway.fetch_trades(symbol=order.symbol, exchange_order_id=report.exchange_order_id)
    assert str(order.status) == report.status
    assert attempt.exchange_order_id == report.exchange_order_id
    assert order.filled_quantity == report.filled_quantity
    assert {(fill.trade_id, fill.quantity, fill.price) for fill in order.fills.all()} == {
        (trade.trade_id, trade.quantity, trade.price) for trade in trades
    }


def test_testnet__the_whole_cycle(account: ExchangeAccount, submit: Submit) -> None:
    bought = submit("market", side="BUY", order_type="MARKET", quote_quantity="20")
    assert bought["status"] == "FILLED", bought
    assert_equals_exchange(account, Order.objects.get(pk=bought["order_id"]))
    again = submit("market", side="BUY", order_type="MARKET", quote_quantity="20.00")
    assert again == bought

    price = best_price(account)
    cent = Instrument.objects.get(environment=Environment.TESTNET, symbol=SYMBOL).rules.figure(
        "PRICE_FILTER", "tickSize"
    )
    far = plain((price * Decimal("0.9") / cent).to_integral_value(ROUND_DOWN) * cent)
    resting = submit(
        "resting", side="BUY", order_type="LIMIT", quantity=small_quantity(price), price=far
    )
    assert resting["status"] == "NEW", resting
    tracked = settle(resting["order_id"], "NEW")
    assert_equals_exchange(account, tracked)

    canceled = OrderExecutionService(account.name).cancel_order(
        tracked.intent_id, reason="the cycle goes on"
    )
    assert canceled.status == "CANCELED"
    assert_equals_exchange(account, canceled)
    assert OrderExecutionService(account.name).cancel_order(tracked.intent_id).status == "CANCELED"


def test_testnet__an_order_larger_than_the_best_quote_is_filled_in_parts(
    account: ExchangeAccount, submit: Submit
) -> None:
    """IOC takes the available quantity and ends, and the market decides how much that is."""
    submit("price", side="BUY", order_type="MARKET", quote_quantity="20")
    tick = Instrument.objects.get(environment=Environment.TESTNET, symbol=SYMBOL).rules.figure(
        "PRICE_FILTER", "tickSize"
    )
    price = plain((best_price(account) / tick).to_integral_value(ROUND_DOWN) * tick)
    answer = submit(
        "ioc", side="BUY", order_type="LIMIT", time_in_force="IOC", quantity="0.05", price=price
    )

    order = settle(answer["order_id"], "FILLED", "EXPIRED")
    assert_equals_exchange(account, order)
    assert sum(fill.quantity for fill in order.fills.all()) == order.filled_quantity


def test_testnet__insufficient_balance_is_refused(account: ExchangeAccount, submit: Submit) -> None:
    submit("price", side="BUY", order_type="MARKET", quote_quantity="20")
    ours = submit("ours", side="SELL", order_type="MARKET", quantity="8000")
    assert (ours["status"], ours["reason_code"]) in {
        ("DENIED", "INSUFFICIENT_BALANCE"),
        ("DENIED", "MARKET_LOT_SIZE"),
    }
    # Past our gate, which is made to believe in more money.
    plenty = Decimal(10) ** 12
    Balance.objects.filter(account=account).update(free=plenty)
    amount = plain(plenty / 10**6)
    theirs = submit("theirs", side="BUY", order_type="MARKET", quote_quantity=amount)
    assert theirs["status"] in ("REJECTED", "DENIED"), theirs
    assert theirs["exchange_order_id"] is None


def test_testnet__bad_parameters_are_refused_by_us(
    account: ExchangeAccount, submit: Submit
) -> None:
    for field, arguments in {
        "quantity": {"side": "BUY", "order_type": "MARKET", "quantity": "1e-3"},
        "price": {"side": "BUY", "order_type": "LIMIT", "quantity": "1"},
        "side": {"side": "HOLD", "order_type": "MARKET", "quantity": "1"},
    }.items():
        with pytest.raises(InvalidIntent, match=f"^{field}: "):
            submit(f"bad-{field}", **arguments)
    denied = submit("no-symbol", symbol="NOSUCHCOIN", side="BUY", order_type="MARKET", quantity="1")
    assert (denied["status"], denied["reason_code"]) == ("DENIED", "UNKNOWN_INSTRUMENT")
    tiny = submit("tiny", side="BUY", order_type="LIMIT", quantity="0.00001", price="1000")
    assert tiny["status"] == "DENIED"
    assert not ExchangeOrder.objects.exists()
