"""The demo's strategies, each with its habit, on the simulator."""

from __future__ import annotations

from decimal import Decimal

import pytest

from backoffice.local import demo
from backoffice.local.habits import Accidents, MarketMaker, Savings
from exchanges.mirror import instruments
from exchanges.models import ExchangeAccount
from orders import services
from orders.execution import OrderExecutionService
from orders.models import BreakKind, Order, ReconciliationBreak, Status
from orders.reconciliation.account import reconcile_account
from tests.harness.simulator import Simulator

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
]


PRICES = {"ETHUSDT": "2400", "BTCUSDT": "60000", "BNBUSDT": "520", "XRPUSDT": "0.55"}


@pytest.fixture
def market(account: ExchangeAccount, simulator: Simulator) -> Simulator:
    instruments.sync_instruments(account)
    for symbol, price in PRICES.items():
        simulator.control.set_price(symbol, price)
    simulator.control.unfreeze()
    return simulator


@pytest.fixture
def habits(account: ExchangeAccount, market: Simulator) -> Accidents:
    return Accidents(OrderExecutionService(account.name), market.url, name="test")


def placed(intent_id: str) -> Order:
    """Return the order after its first try. In the demo a worker makes it."""
    order = Order.objects.get(intent_id=intent_id)
    assert order.status == Status.CREATED, "recorded, and left to a worker"
    services.place_order(order.pk)
    order.refresh_from_db()
    return order


@pytest.mark.parametrize(
    ("habit", "status"),
    [
        ("grid", Status.NEW),
        ("snipe", Status.EXPIRED),
        ("post_only", Status.REJECTED),
        ("careless", Status.DENIED),
        ("late", Status.NOT_PLACED),
        ("lose_an_answer", Status.PENDING_NEW),
    ],
)
def test_habit__leads_to_its_status(habits: Accidents, habit: str, status: Status) -> None:
    assert placed(getattr(habits, habit)()).status == status


def test_grid__keeps_few_orders_on_the_book(habits: Accidents) -> None:
    for _ in range(8):
        placed(habits.grid())
    assert Order.objects.filter(strategy="grid", status=Status.NEW).count() == 6


def test_nibble__fills_a_resting_order_piece_by_piece(
    habits: Accidents, account: ExchangeAccount
) -> None:
    order = placed(habits.nibble())
    for left, status in (("0.4", Status.PARTIALLY_FILLED), ("0.2", Status.PARTIALLY_FILLED)):
        habits.nibble()
        reconcile_account(account)
        order.refresh_from_db()
        assert (order.status, order.quantity - order.filled_quantity) == (status, Decimal(left))
    habits.nibble()
    reconcile_account(account)
    order.refresh_from_db()
    assert order.status == Status.FILLED


def test_take_our_id__opens_a_break(habits: Accidents, account: ExchangeAccount) -> None:
    placed(habits.snipe())
    habits.take_our_id()
    reconcile_account(account)
    assert ReconciliationBreak.objects.get().kind == BreakKind.CLIENT_ID_REUSED


def test_market_maker__moves_both_its_quotes(account: ExchangeAccount, market: Simulator) -> None:
    maker = MarketMaker(OrderExecutionService(account.name), market.url, name="test")
    market.control.freeze()
    market.control.deposit("ETH", "1")
    first = [placed(intent_id) for intent_id in maker.quote_ether()]
    assert [(order.side, order.status) for order in first] == [("BUY", "NEW"), ("SELL", "NEW")]
    second = [placed(intent_id) for intent_id in maker.quote_ether()]
    for order in first:
        order.refresh_from_db()
    assert {order.status for order in first} == {Status.CANCELED}
    assert {order.status for order in second} == {Status.NEW}


@pytest.fixture
def savings(account: ExchangeAccount, market: Simulator) -> Savings:
    demo._restrict_savings(account)
    return Savings(OrderExecutionService(account.name), market.url, name="test")


def test_reverse__is_denied_because_its_strategy_is_halted(savings: Savings) -> None:
    order = placed(savings.reverse())
    assert (order.status, order.reason_code) == (Status.DENIED, "HALTED")
    assert "admin" in order.reason


def test_invest__waits_for_a_second_person_once(savings: Savings) -> None:
    order = placed(savings.invest())
    assert order.status == Status.HELD
    assert savings.invest() == order.intent_id
    assert placed(savings.save()).status == Status.FILLED
