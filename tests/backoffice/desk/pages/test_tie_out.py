"""The page that compares the fills with the balances."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import translation

from backoffice.desk.pages.tie_out import tie_outs
from backoffice.people.models import AccountGrant
from exchanges import clock
from exchanges.models import ExchangeAccount, Instrument
from exchanges.types import Side
from orders.models import Fill, Status
from tests.factories import (
    BalanceFactory,
    ExchangeAccountFactory,
    ExchangeOrderFactory,
    FillFactory,
    InstrumentFactory,
    OrderFactory,
)

pytestmark = pytest.mark.django_db

PAGE = "/admin/exchanges/balance/tie-out/"


def fill(account: ExchangeAccount, side: Side = Side.BUY, **fields: Any) -> Fill:
    """Make a fill of 0.01 BTC for 500 USDT with a fee of 0.1 %."""
    order = OrderFactory(account=account, side=side, status=Status.FILLED)
    return FillFactory(exchange_order=ExchangeOrderFactory(order=order), **fields)


def rows(html: Any) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (group["account"].name, row["asset"]): row
        for group in html.context["groups"]
        for row in group["rows"]
    }


def test_page__ties_fills_and_balances_out(boss: Client) -> None:
    account = ExchangeAccountFactory(name="demo")
    InstrumentFactory()
    fill(account)
    fill(account, side=Side.SELL)
    BalanceFactory(account=account, asset="BTC", free=Decimal("-0.00001"), locked=Decimal(0))
    BalanceFactory(
        account=account,
        asset="USDT",
        free=Decimal("900.25"),
        locked=Decimal("99.25"),
        reserved=Decimal(7),
    )
    BalanceFactory(account=account, asset="XYZ", free=Decimal(0))
    response = boss.get(PAGE)
    found = rows(response)
    assert set(found) == {("demo", "BTC"), ("demo", "USDT")}
    bitcoin, tether = found["demo", "BTC"], found["demo", "USDT"]
    assert ">0.01000<" in bitcoin["bought"]
    assert ">0.01000<" in bitcoin["sold"]
    assert ">0.00001<" in bitcoin["fees"]
    assert ">0.00000<" in bitcoin["difference"]
    assert bitcoin["verdict"] == "explained by fills"
    assert ">-0.50<" in tether["explained"]
    assert ">999.50<" in tether["total"]
    assert ">1000.00<" in tether["difference"]
    assert ">7.00<" in tether["reserved"]
    assert tether["verdict"] == "opening balance or deposits"
    html = response.content.decode()
    assert "1000.00" in html
    assert "opening balance or deposits" in html
    with translation.override("ru"):
        in_russian = boss.get(PAGE, headers={"accept-language": "ru"}).content.decode()
    assert "начальный остаток или пополнения" in in_russian
    assert "Сверка остатков" in in_russian


def test_page__names_each_kind_of_difference(boss: Client) -> None:
    InstrumentFactory()
    withdrawn, late, unread = (ExchangeAccountFactory(name=name) for name in ("w", "l", "u"))
    for account in (withdrawn, late, unread):
        fill(account)
    BalanceFactory(account=withdrawn, asset="BTC", free=Decimal(0))
    old = clock.now() - timedelta(hours=1)
    BalanceFactory(account=late, asset="BTC", free=Decimal(0), updated_at=old)
    unread.sync.delete()
    found = rows(boss.get(PAGE))
    assert found["w", "BTC"]["verdict"] == "withdrawals or missing fills"
    # The exchange doesn't list a balance of zero.
    assert found["w", "USDT"]["verdict"] == "opening balance or deposits"
    assert found["l", "BTC"]["verdict"] == "balance older than the last fill"
    assert found["u", "BTC"]["verdict"] == "balances never read"
    assert found["u", "BTC"]["difference"] == "–"


def test_page__counts_fills_of_the_epoch_only(demo: ExchangeAccount) -> None:
    InstrumentFactory()
    fill(demo)
    fill(demo, epoch=1)
    demo.epoch = 1
    demo.save()
    (found,) = tie_outs([demo])
    assert {line.asset: line.bought for line in found.lines}["BTC"] == Decimal("0.01")


def test_page__says_which_symbols_are_left_out(boss: Client, demo: ExchangeAccount) -> None:
    fill(demo)
    response = boss.get(PAGE)
    assert rows(response) == {}
    assert "Incomplete, because" in response.content.decode()
    assert response.context["groups"][0]["uncounted"] == "BTCUSDT"
    InstrumentFactory()
    assert tie_outs([demo])[0].uncounted == []
    fill(demo, commission_asset="")
    (found,) = tie_outs([demo])
    assert found.uncounted == ["BTCUSDT"]
    assert {line.asset: line.bought for line in found.lines}["BTC"] == Decimal("0.02")


def test_page__needs_both_rights_and_shows_granted_accounts_only(client: Client) -> None:
    mine, other = ExchangeAccountFactory(name="mine"), ExchangeAccountFactory(name="zq-secret")
    InstrumentFactory()
    for account in (mine, other):
        fill(account)
    tess = User.objects.create_user("tess", is_staff=True)
    client.force_login(tess)
    tess.user_permissions.add(Permission.objects.get(codename="view_balance"))
    assert client.get(PAGE).status_code == 403
    tess.user_permissions.add(Permission.objects.get(codename="view_fill"))
    empty = client.get(PAGE)
    assert empty.context["groups"] == []
    assert "Nothing to tie out yet" in empty.content.decode()
    AccountGrant.objects.create(account=mine, person=tess)
    for address in (PAGE, f"{PAGE}?account=zq-secret", f"{PAGE}?account=%27;--"):
        response = client.get(address)
        assert {name for name, _asset in rows(response)} == {"mine"}
        assert "zq-secret" not in response.content.decode()
    assert PAGE in client.get("/admin/exchanges/balance/").content.decode()


def test_page__shows_one_account(boss: Client) -> None:
    InstrumentFactory()
    for name in ("one", "two"):
        fill(ExchangeAccountFactory(name=name))
    assert {name for name, _asset in rows(boss.get(f"{PAGE}?account=two"))} == {"two"}
    assert {name for name, _asset in rows(boss.get(PAGE))} == {"one", "two"}


def test_page__shows_hostile_text_as_text(boss: Client) -> None:
    BalanceFactory(
        account=ExchangeAccountFactory(name="<i>a</i>"), asset="<script>1", free=Decimal(1)
    )
    html = boss.get(PAGE).content.decode()
    assert "<script>1" not in html
    assert "<i>a</i>" not in html
    assert "&lt;script&gt;1" in html


def test_page__takes_a_fixed_number_of_queries(boss: Client) -> None:
    def look() -> int:
        with CaptureQueriesContext(connection) as queries:
            boss.get(PAGE)
        return len(queries)

    InstrumentFactory()
    fill(ExchangeAccountFactory())
    look()
    few = look()
    for number in range(10):
        account = ExchangeAccountFactory()
        BalanceFactory(account=account, asset=f"A{number}")
        fill(account)
        fill(account, side=Side.SELL, symbol="ETHUSDT")
    Instrument.objects.create(
        exchange="binance", environment="simulator", symbol="ETHUSDT", base_asset="ETH"
    )
    assert look() == few
