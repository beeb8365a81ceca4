"""Declare an order lost, and begin a new epoch after a reset of the exchange."""

from __future__ import annotations

import io
from collections.abc import Iterator
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command

from exchanges import clock
from exchanges.models import Balance, ExchangeAccount, Reservation, SymbolCatchUp
from exchanges.trading_state import resume_trading
from orders import services
from orders.intents import InvalidIntent
from orders.models import ExchangeOrder, Order, OrderEvent, ReconciliationBreak
from orders.reconciliation.account import reconcile_account
from orders.reconciliation.open_orders import sync_open_orders
from orders.sweep import resolve_unconfirmed
from tests import steps
from tests.factories import ExchangeAccountFactory
from tests.fakes import FakeExchange
from tests.orders.test_sweep_attempts import Time

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("without_limits")]
D = Decimal


@pytest.fixture
def exchange() -> Iterator[FakeExchange]:
    with FakeExchange().installed() as exchange:
        yield exchange


@pytest.fixture
def owner(exchange: FakeExchange) -> ExchangeAccount:
    account: ExchangeAccount = ExchangeAccountFactory(name="demo")
    return account


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


def declare(intent_id: str = "i-1") -> Order:
    return services.declare_lost(
        account="demo", intent_id=intent_id, declared_by="anna", reason="it is gone"
    )


def kinds() -> list[str]:
    rows = ReconciliationBreak.objects.filter(resolved_at=None)
    return sorted(rows.values_list("kind", flat=True))


@pytest.mark.usefixtures("owner")
def test_declare_lost__closes_an_unanswered_order_and_frees_its_money(
    exchange: FakeExchange,
) -> None:
    exchange.lose_answer("place", executed=True)
    steps.submit()
    assert Reservation.objects.count() == 1
    order = declare()
    assert (order.status, order.reason_code, order.reason) == (
        "NOT_PLACED",
        "DECLARED_LOST",
        "it is gone",
    )
    assert (order.open_attempts, order.next_check_at) == (0, None)
    assert not Reservation.objects.exists()
    assert set(Balance.objects.values_list("reserved", flat=True)) == {D(0)}
    event = OrderEvent.objects.get(event_type="DECLARED_LOST")
    assert (event.actor, event.previous_status, event.new_status) == (
        "anna",
        "PENDING_NEW",
        "NOT_PLACED",
    )
    assert event.details["reason"] == "it is gone"


@pytest.mark.usefixtures("owner")
def test_declare_lost__an_acknowledged_order_has_expired() -> None:
    steps.submit()
    order = declare()
    assert (order.status, order.reason_code) == ("EXPIRED", "DECLARED_LOST")
    assert order.closed_at is not None
    assert not Reservation.objects.exists()


def test_declare_lost__late_evidence_wins(owner: ExchangeAccount, exchange: FakeExchange) -> None:
    order = steps.submit()
    exchange.fill(steps.client_id(order), "0.004")
    declare()
    sync_open_orders(owner)
    order.refresh_from_db()
    assert (order.status, order.filled_quantity) == ("PARTIALLY_FILLED", D("0.004"))
    assert kinds() == ["LATE_EVIDENCE"]
    exchange.fill(steps.client_id(order))
    sync_open_orders(owner)
    order.refresh_from_db()
    assert order.status == "FILLED"


@pytest.mark.usefixtures("owner")
def test_declare_lost__only_what_may_be_at_the_exchange() -> None:
    with pytest.raises(InvalidIntent, match=r"^intent_id: account 'demo' has no order"):
        declare("i-9")
    steps.record("i-2")
    with pytest.raises(InvalidIntent, match=r"^intent_id: the order was never sent"):
        declare("i-2")
    steps.submit()
    services.cancel_order(account="demo", intent_id="i-1")
    with pytest.raises(InvalidIntent, match=r"^intent_id: the order has no open attempt"):
        declare()
    with pytest.raises(InvalidIntent, match=r"^reason: "):
        services.declare_lost(account="demo", intent_id="i-1", declared_by="anna", reason=" ")
    with pytest.raises(InvalidIntent, match=r"^account: "):
        services.begin_epoch(account="nobody", begun_by="anna", reason="reset")


def wipe(exchange: FakeExchange, owner: ExchangeAccount) -> None:
    exchange.wipe()
    exchange.gateway(owner)


def sweep() -> None:
    Order.objects.filter(next_check_at__isnull=False).update(next_check_at=clock.now())
    resolve_unconfirmed()


def test_begin_epoch__the_account_trades_again_with_the_same_row(
    owner: ExchangeAccount, exchange: FakeExchange, time: Time
) -> None:
    first, second = steps.submit("i-1"), steps.submit("i-2")
    time.pass_by(30)
    wipe(exchange, owner)
    sync_open_orders(owner)
    owner.refresh_from_db()
    assert owner.trading_state == "HALTED"
    assert kinds() == ["EXCHANGE_RESET"]

    epoch = services.begin_epoch(account="demo", begun_by="anna", reason="testnet reset").epoch
    assert epoch == 1
    first.refresh_from_db()
    second.refresh_from_db()
    assert {first.status, second.status} == {"EXPIRED"}
    assert OrderEvent.objects.filter(event_type="DECLARED_LOST", actor="anna").count() == 2
    assert kinds() == []
    record = ReconciliationBreak.objects.latest("id")
    assert record.details == {"epoch": 1, "by": "anna", "reason": "testnet reset", "lost": 2}
    marks = SymbolCatchUp.objects.values_list("caught_up_at", "read_until", "own_read_until")
    assert set(marks) == {(None, None, None)}
    assert not Reservation.objects.exists()

    owner.refresh_from_db()
    assert owner.trading_state == "HALTED", "another permission is needed to trade again"
    resume_trading(account=owner, reason="reset is over", actor="boss")
    third = steps.submit("i-3")
    assert (third.status, third.exchange_order_id) == ("NEW", first.exchange_order_id)
    assert ExchangeOrder.objects.get(order=third).epoch == 1
    stranger = exchange.place_by_hand(owner, "web_1", price="40000")
    assert stranger == second.exchange_order_id
    sync_open_orders(owner)
    reconcile_account(owner)
    owner.refresh_from_db()
    assert (owner.trading_state, kinds()) == ("ACTIVE", [])
    exchange.fill(steps.client_id(third))
    sync_open_orders(owner)
    sweep()
    third.refresh_from_db()
    assert (third.status, third.filled_quantity) == ("FILLED", D("0.01"))
    assert sum(fill.quantity for fill in third.fills.all()) == D("0.01")


def test_begin_epoch__history_of_the_new_epoch_is_read_from_its_beginning(
    owner: ExchangeAccount, exchange: FakeExchange, time: Time
) -> None:
    """Marks of the old epoch would hide the new numbers."""
    for number in range(4):
        steps.submit(f"i-{number}")
    reconcile_account(owner)
    time.pass_by(30)
    wipe(exchange, owner)
    services.begin_epoch(account="demo", begun_by="anna", reason="reset")
    reconcile_account(owner)
    time.pass_by(30)
    exchange.place_by_hand(owner, "web_1")
    exchange.fill("web_1")
    reconcile_account(owner)
    assert Order.objects.filter(is_external=True, status="FILLED").count() == 1


def test_begin_epoch__by_mistake_loses_nothing(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    order = steps.submit()
    services.begin_epoch(account="demo", begun_by="anna", reason="a mistake")
    order.refresh_from_db()
    assert order.status == "EXPIRED"
    sync_open_orders(owner)
    order.refresh_from_db()
    assert (order.status, Order.objects.count()) == ("NEW", 1)
    assert kinds() == ["LATE_EVIDENCE"]


@pytest.mark.usefixtures("owner")
def test_commands__declare_lost_and_begin_epoch() -> None:
    steps.submit()
    out = io.StringIO()
    call_command("declare_lost", "i-1", account="demo", reason="gone", stdout=out)
    call_command("begin_epoch", account="demo", reason="reset", stdout=out)
    assert out.getvalue().splitlines() == ["demo i-1: EXPIRED", "demo: epoch 1 has begun."]
    assert OrderEvent.objects.get(event_type="DECLARED_LOST").actor.startswith("shell:")
    with pytest.raises(CommandError, match="the order has no open attempt"):
        call_command("declare_lost", "i-1", account="demo", reason="gone")
    with pytest.raises(CommandError, match="a reason is required"):
        call_command("begin_epoch", account="demo", reason="  ")


def test_permissions__exist() -> None:
    names = Permission.objects.values_list("codename", flat=True)
    assert {"declare_lost", "begin_epoch"} <= set(names)
