"""Cancel many orders: all requests are recorded first, then the exchange is asked by symbol."""

from __future__ import annotations

from collections.abc import Callable
from time import sleep

import pytest
from django.core.management import call_command
from django.db import transaction

from exchanges import clock
from exchanges.binance.gateway import Gateway
from exchanges.models import ExchangeAccount
from exchanges.trading_state import halt_trading
from orders import services
from orders.models import EventType, Order, OrderEvent, Status
from orders.sweep import resolve_unconfirmed
from tests.factories import ExchangeAccountFactory, InstrumentFactory, OrderFactory
from tests.fakes import FakeExchange
from tests.steps import submit

pytestmark = pytest.mark.django_db


def resting(intent_id: str, symbol: str = "BTCUSDT") -> Order:
    price = "20000" if symbol == "BTCUSDT" else "1000"
    order = submit(intent_id, symbol=symbol, quantity="0.01", price=price)
    assert order.status == Status.NEW, order.reason
    return order


def calls(exchange: FakeExchange, *names: str) -> list[str]:
    return [name for name, _ in exchange.calls if name in names]


@pytest.fixture
def owner(exchange: FakeExchange) -> ExchangeAccount:
    return ExchangeAccountFactory(name="demo")


def test_halt_trading__with_cancel_open_records_every_request_before_it_asks(
    owner: ExchangeAccount, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        resting(f"i{number}", "ETHUSDT" if number % 2 else "BTCUSDT")
    requested_at_first_call: list[int] = []
    gateway = exchange.gateway

    def noting(account: ExchangeAccount) -> object:
        requested_at_first_call.append(
            Order.objects.filter(cancel_requested_at__isnull=False).count()
        )
        return gateway(account)

    monkeypatch.setattr("orders.placing.cancel_many.get_gateway", noting)
    exchange.calls.clear()
    call_command("halt_trading", "--reason", "drill", "--cancel-open")
    assert requested_at_first_call[0] == 12
    assert calls(exchange, "cancel", "cancel_open_orders") == ["cancel_open_orders"] * 2
    assert set(Order.objects.values_list("status", flat=True)) == {Status.CANCELED}
    events = OrderEvent.objects.filter(event_type=EventType.CANCEL_REQUESTED)
    assert (events.count(), events[0].details) == (12, {"reason": "drill"})


def test_cancel_orders__what_time_was_left_for_is_finished_by_the_sweep(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    orders = [resting(f"i{number}") for number in range(3)]
    services.cancel_orders(
        [order.pk for order in orders], requested_by="eva", reason="x", give_up_at=clock.monotonic()
    )
    assert not calls(exchange, "cancel", "cancel_open_orders")
    assert not Order.objects.filter(cancel_requested_at=None).exists()
    resolve_unconfirmed()
    assert set(Order.objects.values_list("status", flat=True)) == {Status.CANCELED}


@pytest.mark.parametrize("is_halted", [True, False])
def test_cancel_orders__an_order_that_nobody_wants_to_cancel_stays(
    owner: ExchangeAccount, exchange: FakeExchange, is_halted: bool
) -> None:
    """Not by symbol if one order is to stay, and not while new orders may come."""
    *unwanted, kept = [resting(f"i{number}") for number in range(6)]
    if is_halted:
        halt_trading(account=owner, reason="drill", actor="eva")
    services.cancel_orders(
        [order.pk for order in unwanted],
        requested_by="eva",
        reason="x",
        give_up_at=clock.monotonic() + 30,
    )
    assert calls(exchange, "cancel", "cancel_open_orders") == ["cancel"] * 5
    kept.refresh_from_db()
    assert (kept.status, kept.cancel_requested_at) == (Status.NEW, None)


def test_cancel_orders__a_symbol_that_cannot_be_canceled_at_once_is_canceled_one_by_one(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    orders = [resting(f"i{number}") for number in range(5)]
    halt_trading(account=owner, reason="drill", actor="eva")
    exchange.refuse_connection("cancel_open_orders")
    services.cancel_orders(
        [order.pk for order in orders],
        requested_by="eva",
        reason="x",
        give_up_at=clock.monotonic() + 30,
    )
    assert set(Order.objects.values_list("status", flat=True)) == {Status.CANCELED}


def test_request_cancels__leaves_closed_orders_and_earlier_requests(owner: ExchangeAccount) -> None:
    InstrumentFactory()
    filled = OrderFactory(account=owner, status=Status.FILLED)
    asked = OrderFactory(account=owner, status=Status.NEW, cancel_requested_by="max")
    Order.objects.filter(pk=asked.pk).update(cancel_requested_at=clock.now())
    count = services.request_cancels([filled.pk, asked.pk], requested_by="eva", reason="x")
    assert count == 0
    asked.refresh_from_db()
    assert asked.cancel_requested_by == "max"


@pytest.mark.django_db(transaction=True)
def test_cancel_order__in_a_callers_transaction_asks_after_its_commit(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    order = resting("i")
    with transaction.atomic():
        answer = services.cancel_order(account="demo", intent_id="i", requested_by="bot")
        assert not calls(exchange, "cancel")
        assert (answer.status, answer.cancel_requested_by) == (Status.NEW, "bot")
    order.refresh_from_db()
    assert (order.status, calls(exchange, "cancel")) == (Status.CANCELED, ["cancel"])


@pytest.mark.django_db(transaction=True)
def test_cancel_order__a_callers_rollback_asks_for_nothing(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    order = resting("i")
    with transaction.atomic():
        services.cancel_order(account="demo", intent_id="i", requested_by="bot")
        transaction.set_rollback(True)
    order.refresh_from_db()
    assert (order.status, order.cancel_requested_at) == (Status.NEW, None)
    assert not calls(exchange, "cancel")


@pytest.mark.long
def test_halt_trading__with_cancel_open_leaves_none_of_190_orders_at_a_slow_exchange(
    owner: ExchangeAccount, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(190):
        resting(f"i{number}", "ETHUSDT" if number % 2 else "BTCUSDT")
    for name in ("cancel", "cancel_open_orders", "fetch_order", "fetch_open_orders"):
        monkeypatch.setattr(Gateway, name, slowly(getattr(Gateway, name)))
    call_command("halt_trading", "--reason", "drill", "--cancel-open")
    assert set(Order.objects.values_list("status", flat=True)) == {Status.CANCELED}
    assert Order.objects.count() == 190


def slowly(call: Callable[..., object]) -> Callable[..., object]:
    def slow(*args: object, **kwargs: object) -> object:
        sleep(0.2)
        return call(*args, **kwargs)

    return slow
