"""Halt, reduce and resume trading, for one account and for all."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from backoffice.desk.admin.accounts import ExchangeAccountAdmin
from exchanges.models import ExchangeAccount, TradingHalt, TradingState
from exchanges.trading_state import halt_trading
from tests.factories import (
    ExchangeAccountFactory,
)

pytestmark = pytest.mark.django_db


LIST = "/admin/exchanges/exchangeaccount/"
HALT = f"/admin/exchanges/tradinghalt/{TradingHalt.ROW}/"


def page_of(account: ExchangeAccount) -> str:
    return f"{LIST}{account.pk}/change/"


def test_halt_this__asks_why_then_halts(boss: Client) -> None:
    account = ExchangeAccountFactory(name="bot-1")
    assert "Halt trading?" in boss.get(f"{LIST}{account.pk}/halt/").content.decode()
    assert (
        boss.post(f"{LIST}{account.pk}/halt/", {"confirmed": "yes", "reason": " "}).status_code
        == 200
    )
    account.refresh_from_db()
    assert account.trading_state == TradingState.ACTIVE
    response = boss.post(
        f"{LIST}{account.pk}/halt/", {"confirmed": "yes", "reason": "odd fills"}, follow=True
    )
    assert "bot-1: Trading halted." in response.content.decode()
    account.refresh_from_db()
    assert (account.trading_state, account.trading_state_reason) == (
        TradingState.HALTED,
        "odd fills",
    )
    boss.post(f"{LIST}{account.pk}/resume/", {"confirmed": "yes", "reason": "explained"})
    account.refresh_from_db()
    assert (account.trading_state, account.trading_state_reason) == (
        TradingState.ACTIVE,
        "explained",
    )


def test_resume_this__lifts_no_halt_that_the_person_has_not_seen(boss: Client) -> None:
    account = ExchangeAccountFactory(name="bot-1")
    boss.post(f"{LIST}{account.pk}/halt/", {"confirmed": "yes", "reason": "odd fills"})
    html = boss.get(f"{LIST}{account.pk}/resume/").content.decode()
    assert "odd fills" in html
    (seen,) = re.findall(rf'name="seen_{account.pk}" value="(\w+)"', html)
    boss.post(f"{LIST}{account.pk}/halt/", {"confirmed": "yes", "reason": "key was stolen"})
    answer = {"confirmed": "yes", "reason": "explained", f"seen_{account.pk}": seen}
    html = boss.post(f"{LIST}{account.pk}/resume/", answer, follow=True).content.decode()
    assert "key was stolen. Nothing was resumed." in html
    account.refresh_from_db()
    assert account.trading_state == TradingState.HALTED


def test_change_page__saving_it_undoes_no_halt(boss: Client) -> None:
    """The halt comes after the page's row was read, and before it is written."""
    account = ExchangeAccountFactory(name="bot-1")
    read = ExchangeAccountAdmin.get_object

    def read_then_halt(admin: ExchangeAccountAdmin, *args: Any, **kwargs: Any) -> Any:
        row = read(admin, *args, **kwargs)
        halt_trading(
            account=ExchangeAccount.objects.get(pk=account.pk), reason="drill", actor="max"
        )
        return row

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ExchangeAccountAdmin, "get_object", read_then_halt)
        boss.post(page_of(account), {})  # is_enabled is taken off
    account.refresh_from_db()
    assert (account.is_enabled, account.trading_state) == (False, TradingState.HALTED)
    assert account.trading_state_reason == "drill"


def test_halt_selected__halts_each_of_them(boss: Client) -> None:
    one, two, rest = ExchangeAccountFactory.create_batch(3)
    answer = {"action": "halt_selected", "_selected_action": [one.pk, two.pk]}
    assert "Halt trading?" in boss.post(LIST, answer).content.decode()
    boss.post(LIST, answer | {"confirmed": "yes", "reason": "drill"})
    halted = ExchangeAccount.objects.filter(trading_state=TradingState.HALTED)
    assert set(halted) == {one, two}
    answer["action"] = "resume_selected"
    boss.post(LIST, answer | {"confirmed": "yes", "reason": "over"})
    assert not ExchangeAccount.objects.filter(trading_state=TradingState.HALTED).exists()
    assert rest.trading_state == TradingState.ACTIVE


def test_reduce_this__asks_why_and_leaves_a_halted_account_halted(boss: Client) -> None:
    account = ExchangeAccountFactory(name="bot-1")
    assert "Reduce only?" in boss.get(f"{LIST}{account.pk}/reduce/").content.decode()
    answer = {"confirmed": "yes", "reason": "too much of it"}
    assert (
        "bot-1: Trading is now reduce-only."
        in boss.post(f"{LIST}{account.pk}/reduce/", answer, follow=True).content.decode()
    )
    account.refresh_from_db()
    assert (account.trading_state, account.trading_state_reason) == (
        TradingState.REDUCING,
        "too much of it",
    )
    boss.post(f"{LIST}{account.pk}/halt/", {"confirmed": "yes", "reason": "drill"})
    html = boss.post(f"{LIST}{account.pk}/reduce/", answer, follow=True).content.decode()
    assert "bot-1: Trading is still halted. Resume it first." in html
    account.refresh_from_db()
    assert (account.trading_state, account.trading_state_reason) == (TradingState.HALTED, "drill")


def test_halt_all__is_one_row_with_the_same_verbs(boss: Client) -> None:
    response = boss.get("/admin/exchanges/tradinghalt/", follow=True)
    assert response.redirect_chain == [(f"{HALT}change/", 302)]
    assert "All accounts, including future ones" in boss.get(f"{HALT}halt/").content.decode()
    boss.post(f"{HALT}halt/", {"confirmed": "yes", "reason": "exchange is odd"})
    halt = TradingHalt.objects.get()
    assert (halt.is_halted, halt.reason, halt.changed_by) == (True, "exchange is odd", "boss")
    assert "All trading is halted by boss: exchange is odd" in boss.get("/admin/").content.decode()
    boss.post(f"{HALT}resume/", {"confirmed": "yes", "reason": "fine again"})
    assert not TradingHalt.objects.get().is_halted


@pytest.mark.parametrize(("verb", "other"), [("halt", "resume"), ("resume", "halt")])
def test_switching__needs_the_permission_of_its_verb(client: Client, verb: str, other: str) -> None:
    account = ExchangeAccountFactory()
    user = User.objects.create_user("half", is_staff=True)
    names = (f"{verb}_trading", "view_exchangeaccount", "view_tradinghalt")
    user.user_permissions.set(Permission.objects.filter(codename__in=[*names, "all_accounts"]))
    client.force_login(user)
    answer = {"confirmed": "yes", "reason": "because"}
    assert client.post(f"{LIST}{account.pk}/{other}/", answer).status_code == 403
    assert client.post(f"{LIST}{account.pk}/reduce/", answer).status_code == (
        302 if verb == "halt" else 403
    )
    assert client.post(f"{HALT}{other}/", answer).status_code == 403
    assert client.post(f"{LIST}{account.pk}/{verb}/", answer).status_code == 302
    assert client.post(f"{HALT}{verb}/", answer).status_code == 302
    html = client.get(page_of(account)).content.decode()
    assert f"{account.pk}/{verb}/" in html
    assert f"{account.pk}/{other}/" not in html
