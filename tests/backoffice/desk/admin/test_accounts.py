"""Accounts in the admin: orders, user stream, credentials and reconciliation."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from kombu.exceptions import OperationalError

from exchanges import clock
from exchanges.account_writes import stamp
from exchanges.models import ExchangeAccount, StreamState, TradingState
from orders import states
from orders.models import Status
from tests.factories import (
    ExchangeAccountFactory,
    OrderFactory,
)
from tests.fakes import FakeExchange

pytestmark = pytest.mark.django_db

LIST = "/admin/exchanges/exchangeaccount/"
SENTINEL = "sentinel-secret-8c1f"


def page_of(account: ExchangeAccount) -> str:
    return f"{LIST}{account.pk}/change/"


def test_status_words__are_those_of_the_state_table(boss: Client) -> None:
    account = ExchangeAccountFactory()
    for status in Status:
        OrderFactory(account=account, status=status)
    [row] = boss.get(LIST).context["cl"].result_list
    assert (row.open_count, row.unresolved_count) == (len(states.OPEN), len(states.UNRESOLVED))


def test_account_list__counts_open_and_unresolved_orders(boss: Client) -> None:
    busy, idle = ExchangeAccountFactory(name="busy"), ExchangeAccountFactory(name="idle")
    for status in (
        Status.NEW,
        Status.NEW,
        Status.PARTIALLY_FILLED,
        Status.PENDING_NEW,
        Status.FILLED,
    ):
        OrderFactory(account=busy, status=status)
    rows = {row.name: row for row in boss.get(LIST).context["cl"].result_list}
    assert (rows["busy"].open_count, rows["busy"].unresolved_count) == (3, 1)
    assert (rows["idle"].open_count, rows["idle"].unresolved_count) == (0, 0)
    assert f"?phase=open&amp;account__id__exact={idle.pk}" in boss.get(LIST).content.decode()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (None, "never started"),
        ({"in_sync_since": timedelta(0)}, "in sync"),
        ({"in_sync_since": timedelta(0), "alive_at": timedelta(minutes=1)}, "silent"),
        ({"reason": "<b>connection refused</b>"}, "not in sync"),
    ],
)
def test_account_pages__show_the_user_stream(
    boss: Client, changes: dict[str, Any] | None, says: str
) -> None:
    account = ExchangeAccountFactory()
    if changes is not None:
        now = clock.now()
        ages = {
            name: now - value for name, value in changes.items() if isinstance(value, timedelta)
        }
        StreamState.objects.create(account=account, **{"alive_at": now} | changes | ages)
    for address in (LIST, page_of(account), "/admin/"):
        assert re.search(rf">\s*{says}\s*<", boss.get(address).content.decode()), address
    html = boss.get(page_of(account)).content.decode()
    assert ("&lt;b&gt;connection refused" in html) == (changes is not None and "reason" in changes)


def test_account_list__takes_the_same_number_of_queries_for_any_number_of_rows(
    boss: Client,
) -> None:
    counts = []
    for _ in range(2):
        ExchangeAccountFactory.create_batch(5)
        with CaptureQueriesContext(connection) as queries:
            assert boss.get(LIST).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 13


def test_account_page__keeps_name_exchange_and_environment(boss: Client) -> None:
    account = ExchangeAccountFactory(name="bot-1")
    answer = {
        "name": "other",
        "environment": "live",
        "exchange": "kraken",
        "trading_state": "HALTED",
    }
    assert boss.post(page_of(account), answer).status_code == 302
    account.refresh_from_db()
    assert (account.name, account.environment, account.exchange) == (
        "bot-1",
        "simulator",
        "binance",
    )
    assert account.trading_state == TradingState.ACTIVE
    assert not account.is_enabled  # the box was not checked, and the form changes no other field


def test_account_page__makes_an_account_and_halts_a_live_one(boss: Client) -> None:
    for environment in ("live", "testnet"):
        answer = {
            "name": f"new-{environment}",
            "exchange": "binance",
            "environment": environment,
            "is_enabled": "on",
        }
        assert boss.post(f"{LIST}add/", answer).status_code == 302
    assert ExchangeAccount.objects.get(name="new-live").trading_state == TradingState.HALTED
    assert ExchangeAccount.objects.get(name="new-testnet").trading_state == TradingState.ACTIVE


@pytest.mark.parametrize("name", ["Bot", "bot_1", "bot 1", "-bot", ""])
def test_account_page__refuses_a_name_that_no_variable_can_have(boss: Client, name: str) -> None:
    answer = {"name": name, "exchange": "binance", "environment": "testnet", "is_enabled": "on"}
    assert "name" in boss.post(f"{LIST}add/", answer).context["adminform"].form.errors


def test_account_page__has_no_delete(boss: Client) -> None:
    account = ExchangeAccountFactory()
    assert boss.post(f"{LIST}{account.pk}/delete/", {"post": "yes"}).status_code == 403
    assert "delete_selected" not in boss.get(LIST).content.decode()


def test_account_page__names_variables_and_shows_no_value(
    boss: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = ExchangeAccountFactory(name="bot-1", environment="testnet")
    html = boss.get(page_of(account)).content.decode()
    assert "EXCHANGE_BOT_1_API_KEY</code></td><td>not set" in html
    assert "missing" in boss.get(LIST).content.decode()
    for suffix in ("API_KEY", "API_SECRET", "REST_URL"):
        monkeypatch.setenv(f"EXCHANGE_BOT_1_{suffix}", SENTINEL)
    html = boss.get(page_of(account)).content.decode()
    for suffix, state in (
        ("API_KEY", "set"),
        ("API_SECRET", "set"),
        ("API_SECRET_FILE", "not set and not needed"),
        ("REST_URL", "set"),
        ("WS_URL", "not set: uses Binance&#x27;s own host"),
    ):
        assert f"EXCHANGE_BOT_1_{suffix}</code></td><td>{state}</td>" in html, suffix
    for address in (LIST, page_of(account), "/admin/"):
        assert SENTINEL not in boss.get(address).content.decode()
    assert "missing" not in boss.get(LIST).content.decode()


# -- Reconcile with the exchange -----------------------------------------------------------------


def reconcile_action(account: ExchangeAccount) -> dict[str, str]:
    return {"action": "reconcile_selected", "_selected_action": str(account.pk)}


def test_reconcile_selected__has_the_account_compared(
    boss: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = ExchangeAccountFactory(name="demo", last_synced_at=None)
    current_app.loader.import_default_modules()
    task = current_app.tasks["orders.reconcile_account"]
    monkeypatch.setattr(
        task, "apply_async", lambda arguments, **_: task.apply(arguments)
    )  # as a worker would
    with FakeExchange().installed():
        page = boss.post(LIST, reconcile_action(account), follow=True).content.decode()
    account.refresh_from_db()
    assert account.last_synced_at is not None
    assert "demo: Reconciliation enqueued." in page


def test_reconcile_selected__reports_a_broker_that_is_down(
    boss: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OperationalError("no broker")

    account = ExchangeAccountFactory(name="demo")
    current_app.loader.import_default_modules()
    monkeypatch.setattr(current_app.tasks["orders.reconcile_account"], "apply_async", refuse)
    page = boss.post(LIST, reconcile_action(account), follow=True).content.decode()
    assert "demo: Reconciliation could not be enqueued" in page


def test_reconcile_selected__is_offered_with_the_permission(client: Client) -> None:
    ExchangeAccountFactory(name="demo")
    viewer = User.objects.create_user("viewer", is_staff=True)
    names = ("view_exchangeaccount", "all_accounts")
    viewer.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(viewer)
    assert "reconcile_selected" not in client.get(LIST).content.decode()
    viewer.user_permissions.add(Permission.objects.get(codename="reconcile_account"))
    assert "reconcile_selected" in client.get(LIST).content.decode()


def test_list__shows_the_age_of_each_key(boss: Client) -> None:
    now = clock.now()
    for name, days, expires in (("young", 3, 100), ("old", 400, None), ("over", 30, -1)):
        stamp(
            ExchangeAccountFactory(name=name),
            key_created_at=now - timedelta(days=days),
            key_expires_at=now + timedelta(days=expires) if expires else None,
        )
    ExchangeAccountFactory(name="unknown")
    html = boss.get(LIST).content.decode()
    ages = dict(
        re.findall(r"field-name.*?>(\w+)</a>.*?field-key_age[^>]*>(.*?)</td>", html, re.DOTALL)
    )
    words = {name: " ".join(re.sub("<[^>]*>", "", text).split()) for name, text in ages.items()}
    assert words == {"young": "3 d 0 h", "old": "400 d 0 h", "over": "expired", "unknown": "–"}


def test_check_key__asks_nothing_before_its_button_is_pressed(
    boss: Client, account: ExchangeAccount
) -> None:
    address = f"{LIST}{account.pk}/check-key/"
    with FakeExchange().installed() as exchange:
        page = boss.get(address)
        assert page.status_code == 200
        assert "csrfmiddlewaretoken" in page.content.decode()
        assert exchange.calls == []
        boss.post(address)
        assert exchange.calls_of("fetch_key_permissions")
