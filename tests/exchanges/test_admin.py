"""Accounts, the kill switch, instruments and balances in the admin."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from celery import current_app
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from kombu.exceptions import OperationalError

from exchanges import admin as pages
from exchanges import clock
from exchanges.models import ExchangeAccount, StreamState, TradingHalt, TradingState
from orders import states
from orders.models import Status
from tests.factories import (
    BalanceFactory,
    ExchangeAccountFactory,
    InstrumentFactory,
    OrderFactory,
    exchange_filters,
)
from tests.fakes import FakeExchange

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

LIST = "/admin/exchanges/exchangeaccount/"
HALT = f"/admin/exchanges/tradinghalt/{TradingHalt.ROW}/"
SENTINEL = "sentinel-secret-8c1f"


@pytest.fixture
def boss(client: Client) -> Client:
    """A client signed in with every permission."""
    client.force_login(User.objects.create_superuser("boss"))
    return client


def page_of(account: ExchangeAccount) -> str:
    return f"{LIST}{account.pk}/change/"


def test_status_words__are_those_of_the_state_table() -> None:
    assert set(pages.OPEN_STATUSES) == states.OPEN
    assert set(pages.UNRESOLVED_STATUSES) == states.UNSETTLED


def test_account_list__counts_open_and_unresolved_orders(boss: Client) -> None:
    busy, idle = ExchangeAccountFactory(name="busy"), ExchangeAccountFactory(name="idle")
    for status in (Status.NEW, Status.NEW, Status.PARTIALLY_FILLED, Status.PENDING_NEW, Status.FILLED):
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
def test_account_pages__show_the_user_stream(boss: Client, changes: dict[str, Any] | None, says: str) -> None:
    account = ExchangeAccountFactory()
    if changes is not None:
        now = clock.now()
        ages = {name: now - value for name, value in changes.items() if isinstance(value, timedelta)}
        StreamState.objects.create(account=account, **{"alive_at": now} | changes | ages)
    for address in (LIST, page_of(account), "/admin/"):
        assert re.search(rf">\s*{says}\s*<", boss.get(address).content.decode()), address
    html = boss.get(page_of(account)).content.decode()
    assert ("&lt;b&gt;connection refused" in html) == (changes is not None and "reason" in changes)


def test_account_list__takes_the_same_number_of_queries_for_any_number_of_rows(boss: Client) -> None:
    counts = []
    for _ in range(2):
        ExchangeAccountFactory.create_batch(5)
        with CaptureQueriesContext(connection) as queries:
            assert boss.get(LIST).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 12


def test_account_page__keeps_name_exchange_and_environment(boss: Client) -> None:
    account = ExchangeAccountFactory(name="bot-1")
    answer = {"name": "other", "environment": "live", "exchange": "kraken", "trading_state": "HALTED"}
    assert boss.post(page_of(account), answer).status_code == 302
    account.refresh_from_db()
    assert (account.name, account.environment, account.exchange) == ("bot-1", "simulator", "binance")
    assert account.trading_state == TradingState.ACTIVE
    assert not account.is_enabled  # an unticked box: the one field that the form changes


def test_account_page__makes_an_account_and_halts_a_live_one(boss: Client) -> None:
    for environment in ("live", "testnet"):
        answer = {"name": f"new-{environment}", "exchange": "binance", "environment": environment, "is_enabled": "on"}
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


def test_account_page__names_variables_and_shows_no_value(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
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
        ("API_SECRET_FILE", "not set, not needed"),
        ("REST_URL", "set"),
        ("WS_URL", "not set: Binance&#x27;s own host"),
    ):
        assert f"EXCHANGE_BOT_1_{suffix}</code></td><td>{state}</td>" in html, suffix
    for address in (LIST, page_of(account), "/admin/"):
        assert SENTINEL not in boss.get(address).content.decode()
    assert "missing" not in boss.get(LIST).content.decode()


# -- Halting and resuming ------------------------------------------------------------------------------------------


def test_halt_this__asks_why_then_halts(boss: Client) -> None:
    account = ExchangeAccountFactory(name="bot-1")
    assert "Halt trading?" in boss.get(f"{LIST}{account.pk}/halt/").content.decode()
    assert boss.post(f"{LIST}{account.pk}/halt/", {"confirmed": "yes", "reason": " "}).status_code == 200
    account.refresh_from_db()
    assert account.trading_state == TradingState.ACTIVE
    response = boss.post(f"{LIST}{account.pk}/halt/", {"confirmed": "yes", "reason": "odd fills"}, follow=True)
    assert "bot-1: trading halted" in response.content.decode()
    account.refresh_from_db()
    assert (account.trading_state, account.trading_state_reason) == (TradingState.HALTED, "odd fills")
    boss.post(f"{LIST}{account.pk}/resume/", {"confirmed": "yes", "reason": "explained"})
    account.refresh_from_db()
    assert (account.trading_state, account.trading_state_reason) == (TradingState.ACTIVE, "explained")


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
    assert "Only reduce?" in boss.get(f"{LIST}{account.pk}/reduce/").content.decode()
    answer = {"confirmed": "yes", "reason": "too much of it"}
    assert "bot-1: only reduces" in boss.post(f"{LIST}{account.pk}/reduce/", answer, follow=True).content.decode()
    account.refresh_from_db()
    assert (account.trading_state, account.trading_state_reason) == (TradingState.REDUCING, "too much of it")
    boss.post(f"{LIST}{account.pk}/halt/", {"confirmed": "yes", "reason": "drill"})
    html = boss.post(f"{LIST}{account.pk}/reduce/", answer, follow=True).content.decode()
    assert "bot-1: it is halted, and stays so" in html
    account.refresh_from_db()
    assert (account.trading_state, account.trading_state_reason) == (TradingState.HALTED, "drill")


def test_halt_all__is_one_row_with_the_same_verbs(boss: Client) -> None:
    response = boss.get("/admin/exchanges/tradinghalt/", follow=True)
    assert response.redirect_chain == [(f"{HALT}change/", 302)]
    assert "All accounts, also those made later" in boss.get(f"{HALT}halt/").content.decode()
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
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(user)
    answer = {"confirmed": "yes", "reason": "because"}
    assert client.post(f"{LIST}{account.pk}/{other}/", answer).status_code == 403
    assert client.post(f"{LIST}{account.pk}/reduce/", answer).status_code == (302 if verb == "halt" else 403)
    assert client.post(f"{HALT}{other}/", answer).status_code == 403
    assert client.post(f"{LIST}{account.pk}/{verb}/", answer).status_code == 302
    assert client.post(f"{HALT}{verb}/", answer).status_code == 302
    html = client.get(page_of(account)).content.decode()
    assert f"{account.pk}/{verb}/" in html
    assert f"{account.pk}/{other}/" not in html


# -- Instruments and balances --------------------------------------------------------------------------------------


def test_instrument_pages__show_filters_readably(boss: Client) -> None:
    instrument = InstrumentFactory(filters=exchange_filters(tick="0.01000000", step="0.00001000"))
    html = boss.get("/admin/exchanges/instrument/").content.decode()
    assert ">0.01<" in html
    assert ">0.00001<" in html
    html = boss.get(f"/admin/exchanges/instrument/{instrument.pk}/change/").content.decode()
    assert "maxPrice 1000000, minPrice 0.01, tickSize 0.01" in html


def test_instrument_pages__live_with_odd_filters(boss: Client) -> None:
    odd = [{"filterType": "NEW_ONE", "text": "<b>no number</b>", "empty": "", "none": None}, {"filterType": "LOT_SIZE"}]
    instrument = InstrumentFactory(filters=odd, order_types=[])
    assert boss.get("/admin/exchanges/instrument/").status_code == 200
    html = boss.get(f"/admin/exchanges/instrument/{instrument.pk}/change/").content.decode()
    assert "text &lt;b&gt;no number&lt;/b&gt;" in html


def test_instrument_search__takes_a_symbol_or_an_asset(boss: Client) -> None:
    InstrumentFactory(base_asset="BTC")
    InstrumentFactory(base_asset="ETH", quote_asset="BTC")
    InstrumentFactory(base_asset="SOL")

    def found(text: str) -> set[str]:
        response = boss.get("/admin/exchanges/instrument/", {"q": text})
        return {row.symbol for row in response.context["cl"].result_list}

    assert found("BTCUSDT") == {"BTCUSDT"}
    assert found("BTC") == {"BTCUSDT", "ETHBTC"}


def test_balance_list__shows_every_digit(boss: Client) -> None:
    BalanceFactory(free=Decimal("0.000000010000000000"), locked=Decimal("1E+3"))
    html = boss.get("/admin/exchanges/balance/").content.decode()
    assert ">0.00000001<" in html
    assert ">1000<" in html
    assert boss.get("/admin/exchanges/balance/add/").status_code == 403


# -- comparing with the exchange -----------------------------------------------------------------------------------


def reconcile_action(account: ExchangeAccount) -> dict[str, str]:
    return {"action": "reconcile_selected", "_selected_action": str(account.pk)}


def test_reconcile_selected__has_the_account_compared(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    account = ExchangeAccountFactory(name="demo", last_synced_at=None)
    current_app.loader.import_default_modules()
    task = current_app.tasks["orders.reconcile_account"]
    monkeypatch.setattr(task, "apply_async", lambda arguments, **_: task.apply(arguments))  # as a worker would
    with FakeExchange().installed():
        page = boss.post(LIST, reconcile_action(account), follow=True).content.decode()
    account.refresh_from_db()
    assert account.last_synced_at is not None
    assert "demo: the comparison has been enqueued." in page


def test_reconcile_selected__says_that_the_broker_is_away(boss: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OperationalError("no broker")

    account = ExchangeAccountFactory(name="demo")
    current_app.loader.import_default_modules()
    monkeypatch.setattr(current_app.tasks["orders.reconcile_account"], "apply_async", refuse)
    page = boss.post(LIST, reconcile_action(account), follow=True).content.decode()
    assert "demo: the comparison could not be enqueued" in page


def test_reconcile_selected__is_offered_to_whoever_may(client: Client) -> None:
    ExchangeAccountFactory(name="demo")
    viewer = User.objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_exchangeaccount"))
    client.force_login(viewer)
    assert "reconcile_selected" not in client.get(LIST).content.decode()
    viewer.user_permissions.add(Permission.objects.get(codename="reconcile_account"))
    assert "reconcile_selected" in client.get(LIST).content.decode()
