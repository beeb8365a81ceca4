"""The demo's strategies, each with its habit, on the simulator."""

from __future__ import annotations

import pytest

from backoffice.local.habits import Habits
from exchanges.mirror import instruments
from exchanges.models import ExchangeAccount
from orders import services
from orders.execution import OrderExecutionService
from orders.models import Order, Status
from tests.harness.simulator import Simulator

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
]


@pytest.fixture
def habits(account: ExchangeAccount, simulator: Simulator) -> Habits:
    instruments.sync_instruments(account)
    simulator.control.set_price("ETHUSDT", "2400")
    simulator.control.set_price("XRPUSDT", "0.55")
    simulator.control.unfreeze()
    return Habits(OrderExecutionService(account.name), simulator.control, name="test")


def placed(intent_id: str) -> Order:
    """Return the order after its first try. In the demo a worker makes it, after some readings."""
    order = Order.objects.get(intent_id=intent_id)
    if order.status == Status.CREATED:
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
        ("lose_an_answer", Status.PENDING_NEW),
    ],
)
def test_habit__leads_to_its_status(habits: Habits, habit: str, status: Status) -> None:
    assert placed(getattr(habits, habit)()).status == status


def test_grid__keeps_few_orders_on_the_book(habits: Habits) -> None:
    for _ in range(8):
        placed(habits.grid())
    assert Order.objects.filter(strategy="grid", status=Status.NEW).count() == 6
