"""The preview of the gate's answer, on its page and in the shell."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import ClassVar

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.db.models import F
from django.test import Client

from exchanges.mirror.balances import sync_balances
from exchanges.models import Balance, ExchangeAccount
from exchanges.trading_state import halt_trading
from orders.models import Order, OrderEvent, RiskLimit, RiskLimitChange
from tests.harness.simulator import Simulator
from tests.steps import submit

pytestmark = pytest.mark.django_db


def person(*permissions: str) -> Client:
    user = User.objects.create_user("eva", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=[*permissions, "all_accounts"])
    )
    client = Client()
    client.force_login(user)
    return client


class TestSimulateGate:
    ASKED = (
        "--account",
        "demo",
        "--symbol",
        "BTCUSDT",
        "--side",
        "BUY",
        "--order-type",
        "LIMIT",
        "--price",
        "50000",
    )

    @pytest.fixture(autouse=True)
    def _known(self, account: ExchangeAccount, simulator: Simulator) -> None:
        simulator.control.set_price("BTCUSDT", "60000")
        assert submit().status == "NEW"
        sync_balances(account)

    def ask(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
        status = 0
        try:
            call_command("simulate_gate", *self.ASKED, *arguments)
        except SystemExit as end:
            status = int(str(end.code))
        return status, capsys.readouterr().out.strip()

    def test_simulate_gate__says_what_would_be_sent(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = (Order.objects.count(), OrderEvent.objects.count())
        said = self.ask(capsys, "--quantity", "0.0100009")
        assert said == (0, "PASSES: would be sent as BUY BTCUSDT LIMIT quantity 0.01 price 50000")
        assert (Order.objects.count(), OrderEvent.objects.count()) == before

    def test_simulate_gate__names_the_refusal(
        self, account: ExchangeAccount, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.ask(capsys, "--quantity", "9")[1].startswith(
            "INSUFFICIENT_BALANCE: needs 450000 USDT, but only "
        )
        RiskLimit.objects.create(account=account, max_order_notional=Decimal(100))
        said = self.ask(capsys, "--quantity", "0.01")
        assert said == (
            1,
            "LIMIT_ORDER_NOTIONAL: notional would be 500, at most 100 USDT are allowed",
        )
        halt_trading(account=account, reason="lunch", actor="eva")
        assert self.ask(capsys, "--quantity", "0.01") == (1, "HALTED: the account is halted: lunch")

    def test_simulate_gate__names_a_malformed_argument(self) -> None:
        with pytest.raises(CommandError, match=r"^quantity: "):
            call_command("simulate_gate", *self.ASKED, "--quantity", "none")

    # The same preview on its page.

    PAGE = "/admin/orders/risklimit/ask/"
    GIVEN: ClassVar = {
        "account": "demo",
        "symbol": "BTCUSDT",
        "side": "BUY",
        "order_type": "LIMIT",
        "price": "50000.009",
        "quantity": "0.0100009",
        "quote_quantity": "",
        "stop_price": "",
        "time_in_force": "",
        "strategy": "",
    }

    def look(self, **changes: str) -> str:
        html = person("simulate_gate").get(self.PAGE, {**self.GIVEN, **changes}).content.decode()
        return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))

    def test_ask_page__shows_what_the_exchange_would_see_and_records_nothing(self) -> None:
        before = (
            Order.objects.count(),
            OrderEvent.objects.count(),
            RiskLimitChange.objects.count(),
        )
        text = self.look()
        assert "allowed PASSES would be sent as BUY BTCUSDT LIMIT quantity 0.01 price 50000" in text
        assert "Quantity 0.0100009 0.01 Price 50000.009 50000 " in text
        assert (
            Order.objects.count(),
            OrderEvent.objects.count(),
            RiskLimitChange.objects.count(),
        ) == before

    def test_ask_page__names_the_refusal(self, account: ExchangeAccount) -> None:
        RiskLimit.objects.create(account=account, max_order_notional=Decimal(100))
        text = self.look()
        assert (
            "denied LIMIT_ORDER_NOTIONAL notional would be 500, at most 100 USDT are allowed"
            in text
        )
        assert "Quantity 0.0100009 0.01" in text

    def test_ask_page__says_what_an_order_would_wait_for(self, account: ExchangeAccount) -> None:
        Balance.objects.filter(account=account, asset="USDT").update(reserved=F("free"))
        assert (
            "would wait WAITS needs 500 USDT, but only 0 USDT is free"
            " (the rest is reserved for orders in flight)"
        ) in self.look(price="50000", quantity="0.01")

    @pytest.mark.parametrize(
        ("changes", "field", "problem"),
        [
            ({"quantity": "1e3"}, "quantity", "&#x27;1e3&#x27; is not a decimal"),
            ({"price": ""}, "price", "is missing: LIMIT needs it"),
            ({"stop_price": "5"}, "stop_price", "5 is not allowed: LIMIT has none"),
            ({"symbol": ""}, "symbol", "This field is required."),
            ({"account": "nobody"}, "account", "Select a valid choice."),
            (
                {"order_type": "MARKET", "price": "", "time_in_force": "IOC"},
                "time_in_force",
                "is not used by MARKET",
            ),
        ],
    )
    def test_ask_page__an_error_stands_at_its_field(
        self, changes: dict[str, str], field: str, problem: str
    ) -> None:
        html = person("simulate_gate").get(self.PAGE, {**self.GIVEN, **changes}).content.decode()
        _before, _sep, behind = html.partition(f'id="id_{field}"')
        assert problem in behind.partition("<label for=")[0]
        assert "PASSES" not in html

    def test_ask_page__needs_its_own_permission(self) -> None:
        assert person("view_risklimit", "change_risklimit").get(self.PAGE).status_code == 403

    def test_ask_page__is_in_the_sidebar_of_those_who_may(self) -> None:
        assert self.PAGE in person("simulate_gate").get(self.PAGE).content.decode()
