"""The web process holds no key. Workers do what needs one, and the pages show their answers."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.core.management import call_command
from django.test import Client

from exchanges import key_holders
from exchanges.credentials import read_credentials
from exchanges.errors import AccountError
from exchanges.models import TradingState
from exchanges.trading_state import UnsafeAccount, resume_trading
from orders.models import Order
from tests.harness.scenario import Scenario
from tests.harness.waiting import wait_for
from tests.scenarios.steps import place, sweep_once

SAFE = {
    "ipRestrict": True,
    "enableReading": True,
    "enableSpotAndMarginTrading": True,
    "enableWithdrawals": False,
    "enableInternalTransfer": False,
    "permitsUniversalTransfer": False,
}
PERMISSIONS = {"path": "/sapi/v1/account/apiRestrictions"}


@pytest.fixture
def desk(scenario: Scenario, admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Return the desk of a process without keys. The worker has started with them."""
    for suffix in ("API_KEY", "API_SECRET"):
        monkeypatch.delenv(f"EXCHANGE_DEMO_{suffix}")
    with pytest.raises(AccountError, match="API_KEY is not set"):
        read_credentials(scenario.account)
    return admin_client


def say(response: Any) -> str:
    return " ".join(str(message) for message in get_messages(response.wsgi_request))


def cancel(desk: Client, *intent_ids: str) -> str:
    chosen = [str(Order.objects.get(intent_id=name).pk) for name in intent_ids]
    form = {"action": "cancel_selected", "_selected_action": chosen}
    address = "/admin/orders/order/"
    return say(desk.post(address, form | {"confirmed": "yes", "reason": "a drill"}))


@pytest.mark.core
def test_web__cancels_through_a_worker_and_shows_its_answer(
    desk: Client, scenario: Scenario
) -> None:
    for name in ("i-1", "i-2"):
        assert place(name)["status"] == "NEW"
    assert "Canceled, confirmed by the exchange." in cancel(desk, "i-1", "i-2")
    orders = Order.objects.filter(intent_id__in=["i-1", "i-2"])
    assert {(order.status, order.cancel_requested_by) for order in orders} == {
        ("CANCELED", "admin")
    }
    truth = scenario.simulator.control.truth().orders()
    assert {order["status"] for order in truth} == {"CANCELED"}


def test_kill_switch__of_a_process_without_keys_cancels_through_a_worker(
    desk: Client, scenario: Scenario
) -> None:
    for number in range(7):
        assert place(f"i-{number}")["status"] == "NEW"
    call_command("halt_trading", "--account", "demo", "--reason", "drill", "--cancel-open")
    scenario.account.refresh_from_db()
    assert scenario.account.trading_state == TradingState.HALTED
    assert set(Order.objects.values_list("status", flat=True)) == {"CANCELED"}


def test_web__checks_a_key_through_a_worker(desk: Client, scenario: Scenario) -> None:
    page = f"/admin/exchanges/exchangeaccount/{scenario.account.pk}/check-key/"
    faults = scenario.simulator.control.faults
    faults.add("respond", match=PERMISSIONS, times=None, status=200, body=SAFE)
    assert "the key is safe" in say(desk.post(page))
    faults.clear()
    unsafe = SAFE | {"ipRestrict": False}
    faults.add("respond", match=PERMISSIONS, times=None, status=200, body=unsafe)
    assert "not restricted to listed IP addresses" in say(desk.post(page))


def test_web__without_a_worker_records_the_request_and_says_so(
    desk: Client, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_holders.ask_a_worker, "__kwdefaults__", {"patience": 0.5})
    assert place("i-1")["status"] == "NEW"
    scenario.worker.stop()
    assert "Cancel requested" in cancel(desk, "i-1")
    page = f"/admin/exchanges/exchangeaccount/{scenario.account.pk}/check-key/"
    assert "no worker answered in time" in say(desk.post(page))
    scenario.account.environment = "live"
    with pytest.raises(UnsafeAccount, match="no worker answered in time"):
        resume_trading(account=scenario.account, reason="go", actor="eva")
    # The next worker finishes it.
    scenario.worker.start()
    sweep_once()
    wait_for(
        lambda: Order.objects.get(intent_id="i-1").status == "CANCELED",
        timeout=20,
        what="the cancel is done",
    )


def test_web__stops_a_strategy_and_proves_it_through_a_worker(
    desk: Client, scenario: Scenario
) -> None:
    for number in range(2):
        assert place(f"i-{number}", strategy="grid")["status"] == "NEW"
    desk.post("/admin/stop/", {"strategy": "grid", "reason": "a drill"})
    asked = {"strategy": "grid", "total": "2"}

    def is_proven() -> bool:
        return bool(desk.post("/admin/stop/ask/", asked).context["is_proven"])

    wait_for(is_proven, timeout=30, what="a worker proves that nothing is open")
    assert set(Order.objects.values_list("status", flat=True)) == {"CANCELED"}


def test_web__asks_about_an_order_and_its_market_through_a_worker(
    desk: Client, scenario: Scenario
) -> None:
    assert place("i-1")["status"] == "NEW"
    order = Order.objects.get()
    response = desk.post(f"/admin/orders/order/{order.pk}/ask/")
    assert say(response) == "The exchange agrees: working."
    data = desk.get(f"/admin/desk/order/{order.pk}/prices/").json()
    assert data["candles"], data
