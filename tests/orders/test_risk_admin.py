"""Limits on the pages and in the shell: who may edit them, what is kept of it, and what the gate would say."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.test import Client

from exchanges import clock
from exchanges.models import ExchangeAccount
from exchanges.services import halt_trading, sync_balances
from orders import services
from orders.intents import parse_intent
from orders.models import Order, OrderEvent, RiskLimit, RiskLimitChange
from tests.factories import ExchangeAccountFactory
from tests.harness.simulator import Simulator

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]
LIST = "/admin/orders/risklimit/"


def person(*permissions: str) -> Client:
    user = User.objects.create_user("eva", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def answers(account: ExchangeAccount, **changes: Any) -> dict[str, Any]:
    return {
        "account": account.pk,
        "symbol": "",
        "strategy": "",
        "currency": "USDT",
        "max_price_age": 60,
        "identical_window": 10,
        **changes,
    }


def test_risk_limit_page__each_change_is_kept_with_its_maker() -> None:
    account = ExchangeAccountFactory(name="bot-1")
    eva = person("view_risklimit", "add_risklimit", "change_risklimit", "delete_risklimit", "view_risklimitchange")
    assert eva.post(f"{LIST}add/", answers(account, max_order_notional="1000.5")).status_code == 302
    row = RiskLimit.objects.get()
    assert eva.post(f"{LIST}{row.pk}/change/", answers(account, max_open_orders="3")).status_code == 302
    assert eva.post(f"{LIST}{row.pk}/delete/", {"post": "yes"}).status_code == 302
    scope: dict[str, Any] = {"account": "bot-1", "symbol": "", "strategy": "", "currency": "USDT"}
    scope |= {"max_price_age": 60, "identical_window": 10}
    first, second = scope | {"max_order_notional": "1000.5"}, scope | {"max_open_orders": 3}
    kept = RiskLimitChange.objects.order_by("id")
    assert [(c.actor, c.before, c.after) for c in kept] == [
        ("eva", {}, first),
        ("eva", first, second),
        ("eva", second, {}),
    ]
    assert eva.get("/admin/orders/risklimitchange/").status_code == 200
    assert eva.get("/admin/orders/risklimitchange/add/").status_code == 403


def test_risk_limit_page__is_read_only_without_the_permission() -> None:
    account = ExchangeAccountFactory()
    row = RiskLimit.objects.create(account=account, max_open_orders=3)
    viewer = person("view_risklimit")
    assert viewer.get(LIST).status_code == 200
    assert viewer.post(f"{LIST}{row.pk}/change/", answers(account, max_open_orders="300")).status_code == 403
    assert RiskLimit.objects.get().max_open_orders == 3
    assert not RiskLimitChange.objects.exists()


class TestSimulateGate:
    ASKED = ("--account", "demo", "--symbol", "BTCUSDT", "--side", "BUY", "--order-type", "LIMIT", "--price", "50000")

    @pytest.fixture(autouse=True)
    def _known(self, account: ExchangeAccount, simulator: Simulator) -> None:
        simulator.control.set_price("BTCUSDT", "60000")
        given = {"intent_id": "i-1", "account": "demo", "symbol": "BTCUSDT", "side": "BUY", "order_type": "LIMIT"}
        intent = parse_intent({**given, "quantity": "0.01", "price": "50000"}, now=clock.now())
        assert services.submit_order(intent).status == "NEW"
        sync_balances(account)

    def ask(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
        status = 0
        try:
            call_command("simulate_gate", *self.ASKED, *arguments)
        except SystemExit as end:
            status = int(str(end.code))
        return status, capsys.readouterr().out.strip()

    def test_simulate_gate__says_what_would_be_sent(self, capsys: pytest.CaptureFixture[str]) -> None:
        before = (Order.objects.count(), OrderEvent.objects.count())
        said = self.ask(capsys, "--quantity", "0.0100009")
        assert said == (0, "PASSES: would be sent as BUY BTCUSDT LIMIT quantity 0.01 price 50000")
        assert (Order.objects.count(), OrderEvent.objects.count()) == before

    def test_simulate_gate__names_the_refusal(
        self, account: ExchangeAccount, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.ask(capsys, "--quantity", "9")[1].startswith("INSUFFICIENT_BALANCE: needs 450000 USDT, free are ")
        RiskLimit.objects.create(account=account, max_order_notional=Decimal(100))
        said = self.ask(capsys, "--quantity", "0.01")
        assert said == (1, "LIMIT_ORDER_NOTIONAL: notional would be 500, at most 100 USDT are allowed")
        halt_trading(account=account, reason="lunch", actor="eva")
        assert self.ask(capsys, "--quantity", "0.01") == (1, "HALTED: the account is halted: lunch")

    def test_simulate_gate__names_a_malformed_argument(self) -> None:
        with pytest.raises(CommandError, match=r"^quantity: "):
            call_command("simulate_gate", *self.ASKED, "--quantity", "none")
