"""Mark a symbol of an account as gone, on the account's page."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.test import Client

from exchanges.models import ExchangeAccount
from orders.models import BreakKind, ReconciliationBreak, Status
from orders.reconciliation.symbols import gone_symbols, mark_gone
from tests.factories import ExchangeAccountFactory, OrderFactory

pytestmark = pytest.mark.django_db

LIST = "/admin/exchanges/exchangeaccount/"
ANSWER = {"confirmed": "yes", "symbol": "btcusdt ", "reason": "delisted"}


@pytest.fixture
def account() -> ExchangeAccount:
    made: ExchangeAccount = ExchangeAccountFactory(name="bot-1")
    OrderFactory(account=made, symbol="BTCUSDT", status=Status.NEW)
    return made


def page(account: ExchangeAccount) -> str:
    return f"{LIST}{account.pk}/gone/"


def answers(response: Any) -> list[str]:
    return [str(message) for message in get_messages(response.wsgi_request)]


def signed_in(client: Client, *permissions: str) -> Client:
    user = User.objects.create_user("casey", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=[*permissions, "all_accounts"])
    )
    client.force_login(user)
    return client


def test_mark_gone__opens_a_break_that_names_the_person(
    client: Client, account: ExchangeAccount
) -> None:
    staff = signed_in(client, "view_exchangeaccount", "mark_symbol_gone")
    assert page(account) in staff.get(f"{LIST}{account.pk}/change/").content.decode()
    assert "Mark a symbol as gone?" in staff.get(page(account)).content.decode()

    response = staff.post(page(account), ANSWER)

    assert response.headers["Location"] == f"{LIST}{account.pk}/change/"
    assert answers(response) == ["bot-1: BTCUSDT is marked as gone. Its open orders: 1."]
    row = ReconciliationBreak.objects.get()
    assert (row.kind, row.subject) == (BreakKind.SYMBOL_GONE, "BTCUSDT")
    assert row.details == {"message": "delisted", "marked_by": "casey"}
    assert gone_symbols(account) == {"BTCUSDT"}


def test_mark_gone__keeps_the_first_word_the_second_time(
    boss: Client, account: ExchangeAccount
) -> None:
    assert mark_gone(account, "BTCUSDT", reason="first", actor="casey")
    response = boss.post(page(account), ANSWER)
    assert answers(response) == ["bot-1: BTCUSDT was marked as gone before."]
    assert ReconciliationBreak.objects.get().details["marked_by"] == "casey"


@pytest.mark.parametrize("wrong", [{"symbol": "NOSUCH"}, {"symbol": " "}, {"reason": " "}])
def test_mark_gone__needs_a_known_symbol_and_a_reason(
    boss: Client, account: ExchangeAccount, wrong: dict[str, str]
) -> None:
    assert boss.post(page(account), ANSWER | wrong).status_code == 200
    assert not ReconciliationBreak.objects.exists()


def test_mark_gone__is_refused_without_its_permission(
    client: Client, account: ExchangeAccount
) -> None:
    staff = signed_in(client, "view_exchangeaccount", "close_break", "halt_trading")
    assert page(account) not in staff.get(f"{LIST}{account.pk}/change/").content.decode()
    assert staff.get(page(account)).status_code == 403
    assert staff.post(page(account), ANSWER).status_code == 403
    assert not ReconciliationBreak.objects.exists()
