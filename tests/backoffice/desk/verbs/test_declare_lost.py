"""Declare an order lost on its page."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.test import Client

from orders import services
from orders.models import EventType, Order, OrderEvent, Status
from tests.factories import ExchangeOrderFactory, OrderFactory

pytestmark = pytest.mark.django_db

LIST = "/admin/orders/order/"
ANSWER = {"confirmed": "yes", "seen": "NEW", "reason": "the symbol is gone"}


@pytest.fixture
def order() -> Order:
    made: Order = OrderFactory(status=Status.NEW)
    ExchangeOrderFactory(order=made, exchange_status="NEW", filled_quantity=0)
    return made


def page(order: Order) -> str:
    return f"{LIST}{order.pk}/lost/"


def answers(response: Any) -> list[str]:
    return [str(message) for message in get_messages(response.wsgi_request)]


def signed_in(client: Client, *permissions: str) -> Client:
    user = User.objects.create_user("casey", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=[*permissions, "all_accounts"])
    )
    client.force_login(user)
    return client


def lost_events() -> Any:
    return OrderEvent.objects.filter(event_type=EventType.DECLARED_LOST)


def test_declare_lost__closes_the_order_and_names_the_person(client: Client, order: Order) -> None:
    staff = signed_in(client, "view_order", "declare_lost")
    change = f"{LIST}{order.pk}/change/"
    assert page(order) in staff.get(change).content.decode()
    html = staff.get(page(order)).content.decode()
    assert 'name="seen" value="NEW"' in html
    assert "Declare this order lost?" in html

    response = staff.post(page(order), ANSWER)

    assert response.headers["Location"] == change
    assert answers(response) == ["Declared lost. The order is expired."]
    order.refresh_from_db()
    assert (order.status, order.reason) == ("EXPIRED", "the symbol is gone")
    event = lost_events().get()
    assert (event.actor, event.details["reason"]) == ("casey", "the symbol is gone")
    assert page(order) not in staff.get(change).content.decode()


def test_declare_lost__changes_nothing_the_second_time(boss: Client, order: Order) -> None:
    boss.post(page(order), ANSWER)
    response = boss.post(page(order), ANSWER)  # from a page that showed the open order
    assert "The order has changed since you saw it." in response.content.decode()
    response = boss.post(page(order), ANSWER | {"seen": "EXPIRED"})
    assert answers(response)[-1].startswith("Nothing was changed: ")
    assert lost_events().count() == 1


def test_declare_lost__says_who_was_faster(
    boss: Client, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = services.declare_lost

    def second(**arguments: Any) -> Order:
        return real(**arguments | {"declared_by": "casey"})

    monkeypatch.setattr(services, "declare_lost", second)
    response = boss.post(page(order), ANSWER)
    assert answers(response) == ["Another person was faster. Nothing was changed."]


@pytest.mark.parametrize("status", [Status.CREATED, Status.FILLED, Status.CANCELED])
def test_declare_lost__is_only_for_what_may_be_open(boss: Client, status: Status) -> None:
    order = OrderFactory(status=status)
    assert page(order) not in boss.get(f"{LIST}{order.pk}/change/").content.decode()
    response = boss.post(page(order), ANSWER | {"seen": str(status)})
    assert answers(response)[0].startswith("Nothing was changed: ")
    order.refresh_from_db()
    assert order.status == status


def test_declare_lost__needs_a_reason(boss: Client, order: Order) -> None:
    assert boss.post(page(order), ANSWER | {"reason": " "}).context["form"].errors
    assert not lost_events().exists()


def test_declare_lost__is_refused_without_its_permission(client: Client, order: Order) -> None:
    staff = signed_in(client, "view_order", "cancel_order")
    html = staff.get(f"{LIST}{order.pk}/change/").content.decode()
    assert page(order) not in html
    assert f"{LIST}{order.pk}/cancel/" in html
    assert staff.get(page(order)).status_code == 403
    assert staff.post(page(order), ANSWER).status_code == 403
    assert not lost_events().exists()
