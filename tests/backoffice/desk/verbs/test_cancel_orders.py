"""Cancel from the admin, against the simulator. Each order gets its own answer."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.messages import get_messages
from django.db import connection
from django.test import Client

from backoffice.desk.admin.orders import MAX_CANCELS
from backoffice.desk.verbs import cancel_orders
from exchanges import clock
from exchanges.models import ExchangeAccount
from orders import services
from orders.models import EventType, Order, OrderEvent, Status
from tests.factories import ExchangeAccountFactory, OrderFactory
from tests.harness.simulator import Simulator
from tests.steps import submit

pytestmark = pytest.mark.django_db

LIST = "/admin/orders/order/"


@pytest.fixture
def trader(client: Client) -> Client:
    user = User.objects.create_user("tess", is_staff=True)
    user.groups.add(Group.objects.get(name="Trader"))
    user.user_permissions.add(Permission.objects.get(codename="all_accounts"))
    client.force_login(user)
    return client


def resting_order(intent_id: str) -> Order:
    """Place a limit order far below the market, which keeps working at the simulator."""
    order = submit(intent_id, quantity="0.001", price="20000")
    assert order.status == Status.NEW
    return order


def choose(*orders: Order) -> dict[str, Any]:
    return {"action": "cancel_selected", "_selected_action": [str(order.pk) for order in orders]}


def cancel(
    client: Client, *orders: Order, reason: str = "strategy stopped", query: str = ""
) -> dict[str, str]:
    """Confirm the cancel of these orders and return the answers by intent ID."""
    response = client.post(LIST + query, choose(*orders) | {"confirmed": "yes", "reason": reason})
    assert (response.status_code, response.headers["Location"]) == (302, LIST + query)
    answers = [str(message).partition(": ") for message in get_messages(response.wsgi_request)]
    return {intent_id: text for intent_id, _colon, text in answers}


def test_cancel_selected__asks_for_a_reason_first(trader: Client, account: ExchangeAccount) -> None:
    order = resting_order("one")
    response = trader.post(LIST, choose(order) | {"index": "0", "select_across": "0"})
    html = response.content.decode()
    assert "Cancel this order at the exchange?" in html
    assert "one" in html
    assert f'value="{order.pk}"' in html
    for reason in ("", "   "):
        response = trader.post(LIST, choose(order) | {"confirmed": "yes", "reason": reason})
        assert response.context["form"].errors
    order.refresh_from_db()
    assert (order.status, order.cancel_requested_at) == (Status.NEW, None)


def test_cancel_selected__cancels_at_the_exchange_and_names_who_and_why(
    trader: Client, account: ExchangeAccount, simulator: Simulator
) -> None:
    order = resting_order("one")
    assert cancel(trader, order, reason="<b>stop</b>") == {
        "one": "Canceled, confirmed by the exchange."
    }
    order.refresh_from_db()
    assert (order.status, order.cancel_requested_by) == (Status.CANCELED, "tess")
    [row] = simulator.control.truth().orders()
    assert row["status"] == "CANCELED"
    event = OrderEvent.objects.get(order=order, event_type=EventType.CANCEL_REQUESTED)
    assert (event.actor, event.details["reason"]) == ("tess", "<b>stop</b>")


def test_cancel_selected__answers_for_each_order(
    trader: Client, account: ExchangeAccount, simulator: Simulator
) -> None:
    open_order = resting_order("open")
    unsent = OrderFactory(account=account, intent_id="unsent", status=Status.CREATED)
    in_flight = OrderFactory(account=account, intent_id="in-flight", status=Status.PENDING_NEW)
    filled = OrderFactory(account=account, intent_id="filled", status=Status.FILLED)
    assert cancel(trader, open_order, unsent, in_flight, filled) == {
        "open": "Canceled, confirmed by the exchange.",
        "unsent": "Canceled before it was sent.",
        "in-flight": "Cancel requested. The order will be canceled once its state is known.",
        "filled": "Order already closed: filled.",
    }
    in_flight.refresh_from_db()
    assert in_flight.cancel_requested_by == "tess"
    filled.refresh_from_db()
    assert filled.cancel_requested_at is None


def test_cancel_selected__reports_an_unconfirmed_cancel(
    trader: Client, account: ExchangeAccount, simulator: Simulator
) -> None:
    order = resting_order("one")
    simulator.control.faults.add(
        "reset_before", match={"method": "DELETE", "path": "/api/v3/order"}, times=None
    )
    assert cancel(trader, order) == {
        "one": "Cancel sent but not confirmed."
        " The back office keeps asking the exchange until it answers."
    }
    order.refresh_from_db()
    assert (order.status, order.cancel_requested_by) == (Status.NEW, "tess")
    assert order.next_check_at is not None


def test_cancel_selected__reports_that_a_fill_came_first(
    trader: Client, account: ExchangeAccount, simulator: Simulator
) -> None:
    order = resting_order("one")
    simulator.control.fill("BTCUSDT", client_order_id=order.exchange_orders.get().client_order_id)
    assert cancel(trader, order) == {"one": "Closed before the cancel arrived: filled."}


def test_cancel_selected__continues_after_a_failure(
    trader: Client, account: ExchangeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = [resting_order(name) for name in ("first", "second", "third")]
    real = services.cancel_order

    def breaks_at_second(**arguments: Any) -> Order:
        if arguments["intent_id"] == "second":
            raise ConnectionError("the database went away, secret-of-the-driver")
        return real(**arguments)

    monkeypatch.setattr(services, "cancel_order", breaks_at_second)
    confirmed = "Canceled, confirmed by the exchange."
    assert cancel(trader, *orders) == {
        "first": confirmed,
        "second": "Could not be canceled. The log has the reason.",
        "third": confirmed,
    }


def test_cancel_selected__only_records_the_request_after_its_time_limit(
    trader: Client, account: ExchangeAccount, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = [resting_order(name) for name in ("first", "second")]
    monkeypatch.setattr(cancel_orders, "TIME_LIMIT_SECONDS", 0)
    requested = "Cancel requested. The order will be canceled once its state is known."
    assert cancel(trader, *orders) == {"first": requested, "second": requested}
    assert "DELETE /api/v3/order" not in simulator.control.truth().requests
    for order in orders:
        order.refresh_from_db()
        assert order.cancel_requested_by == "tess"
        assert order.next_check_at is not None
        assert order.next_check_at <= clock.now()


def test_cancel_selected__answers_for_an_order_that_left_the_filter_meanwhile(
    trader: Client, account: ExchangeAccount
) -> None:
    order = OrderFactory(account=account, intent_id="quick", status=Status.FILLED)
    assert cancel(trader, order, query="?phase=open") == {"quick": "Order already closed: filled."}


def test_cancel_selected__takes_a_limited_number_at_once(trader: Client) -> None:
    account = ExchangeAccountFactory()
    orders = OrderFactory.create_batch(MAX_CANCELS + 1, account=account)
    response = trader.post(LIST, choose(*orders) | {"confirmed": "yes", "reason": "all"})
    assert [str(message) for message in get_messages(response.wsgi_request)] == [
        f"Select at most {MAX_CANCELS} orders."
    ]
    assert not Order.objects.filter(cancel_requested_at__isnull=False).exists()


@pytest.mark.django_db(transaction=True)
def test_cancel_selected__holds_no_transaction_while_it_talks_to_the_exchange(
    trader: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = OrderFactory(status=Status.NEW)
    inside: list[bool] = []

    def note(**arguments: Any) -> Order:
        inside.append(connection.in_atomic_block)
        return order

    monkeypatch.setattr(services, "cancel_order", note)
    cancel(trader, order)
    trader.post(f"{LIST}{order.pk}/cancel/", {"confirmed": "yes", "reason": "stop"})
    assert inside == [False, False]


# -- One order's page ----------------------------------------------------------------------------


def test_cancel_this__cancels_through_the_confirmation_page(
    trader: Client, account: ExchangeAccount, simulator: Simulator
) -> None:
    order = resting_order("one")
    page = f"{LIST}{order.pk}/change/"
    assert f"{LIST}{order.pk}/cancel/" in trader.get(page).content.decode()
    assert (
        "Cancel this order at the exchange?"
        in trader.get(f"{LIST}{order.pk}/cancel/").content.decode()
    )
    order.refresh_from_db()
    assert order.status == Status.NEW  # looking at the page changes nothing
    response = trader.post(f"{LIST}{order.pk}/cancel/", {"confirmed": "yes", "reason": "stop"})
    assert response.headers["Location"] == page
    order.refresh_from_db()
    assert order.status == Status.CANCELED
    assert f"{LIST}{order.pk}/cancel/" not in trader.get(page).content.decode()


# -- Permissions ---------------------------------------------------------------------------------


def test_cancel__is_refused_without_its_permission(client: Client) -> None:
    viewer = User.objects.create_user("vic", is_staff=True)
    viewer.groups.add(Group.objects.get(name="Viewer"))
    viewer.user_permissions.add(Permission.objects.get(codename="all_accounts"))
    client.force_login(viewer)
    order = OrderFactory(status=Status.NEW)
    assert "cancel_selected" not in client.get(LIST).content.decode()
    assert f"{order.pk}/cancel/" not in client.get(f"{LIST}{order.pk}/change/").content.decode()
    client.post(LIST, choose(order) | {"confirmed": "yes", "reason": "mine"})
    assert (
        client.post(f"{LIST}{order.pk}/cancel/", {"confirmed": "yes", "reason": "mine"}).status_code
        == 403
    )
    assert client.get(f"{LIST}{order.pk}/cancel/").status_code == 403
    order.refresh_from_db()
    assert (order.status, order.cancel_requested_at) == (Status.NEW, None)


def test_cancel__needs_a_session_and_a_token() -> None:
    order = OrderFactory(status=Status.NEW)
    answer = {"confirmed": "yes", "reason": "mine"}
    assert "/login/" in Client().post(f"{LIST}{order.pk}/cancel/", answer).headers["Location"]
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.create_superuser("boss"))
    assert strict.post(f"{LIST}{order.pk}/cancel/", answer).status_code == 403
    order.refresh_from_db()
    assert order.cancel_requested_at is None
