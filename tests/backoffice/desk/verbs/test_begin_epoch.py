"""Begin a new epoch of an account on its page."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.test import Client

from exchanges.models import ExchangeAccount, TradingState
from orders.models import BreakKind, Order, OrderEvent, ReconciliationBreak, Status
from tests.factories import ExchangeAccountFactory, ExchangeOrderFactory, OrderFactory

pytestmark = pytest.mark.django_db

LIST = "/admin/exchanges/exchangeaccount/"
ANSWER = {"confirmed": "yes", "seen": "0", "reason": "testnet reset"}


@pytest.fixture
def account() -> ExchangeAccount:
    made: ExchangeAccount = ExchangeAccountFactory(
        name="bot-1", trading_state=TradingState.HALTED, trading_state_reason="reset"
    )
    order = OrderFactory(account=made, status=Status.NEW)
    ExchangeOrderFactory(order=order, exchange_status="NEW", filled_quantity=0)
    return made


def page(account: ExchangeAccount) -> str:
    return f"{LIST}{account.pk}/epoch/"


def answers(response: Any) -> list[str]:
    return [str(message) for message in get_messages(response.wsgi_request)]


def signed_in(client: Client, *permissions: str) -> Client:
    user = User.objects.create_user("casey", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=[*permissions, "all_accounts"])
    )
    client.force_login(user)
    return client


def test_begin_epoch__declares_open_orders_lost_and_names_the_person(
    client: Client, account: ExchangeAccount
) -> None:
    staff = signed_in(client, "view_exchangeaccount", "begin_epoch")
    change = f"{LIST}{account.pk}/change/"
    assert page(account) in staff.get(change).content.decode()
    html = staff.get(page(account)).content.decode()
    assert "Was the exchange reset?" in html
    assert 'name="seen" value="0"' in html

    response = staff.post(page(account), ANSWER)

    assert response.headers["Location"] == change
    assert answers(response) == ["bot-1: Epoch 1 has begun."]
    account.refresh_from_db()
    assert (account.epoch, account.trading_state) == (1, TradingState.HALTED)
    assert Order.objects.get().status == Status.EXPIRED
    assert OrderEvent.objects.get(event_type="DECLARED_LOST").actor == "casey"
    row = ReconciliationBreak.objects.get(kind=BreakKind.EXCHANGE_RESET)
    assert row.resolution == "epoch 1 begun by casey: testnet reset"


def test_begin_epoch__ends_only_the_epoch_that_was_seen(
    boss: Client, account: ExchangeAccount
) -> None:
    boss.post(page(account), ANSWER)
    for seen in ("0", "", "one", "2"):
        response = boss.post(page(account), ANSWER | {"seen": seen})
        assert "Nothing was changed: account: epoch 1 has begun" in response.content.decode()
    account.refresh_from_db()
    assert account.epoch == 1


def test_begin_epoch__needs_a_reason(boss: Client, account: ExchangeAccount) -> None:
    assert boss.post(page(account), ANSWER | {"reason": " "}).context["form"].errors
    account.refresh_from_db()
    assert account.epoch == 0


def test_begin_epoch__is_refused_without_its_permission(
    client: Client, account: ExchangeAccount
) -> None:
    staff = signed_in(client, "view_exchangeaccount", "halt_trading", "declare_lost")
    assert page(account) not in staff.get(f"{LIST}{account.pk}/change/").content.decode()
    assert staff.get(page(account)).status_code == 403
    assert staff.post(page(account), ANSWER).status_code == 403
    account.refresh_from_db()
    assert account.epoch == 0
