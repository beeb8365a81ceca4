"""Check when an account is stopped, and the proof that a live account needs before it trades."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.messages import get_messages
from django.core.management import CommandError, call_command
from django.test import Client

from backoffice.people.models import JournalEntry
from exchanges import clock
from exchanges.breakers import force_breaker
from exchanges.errors import AccountError
from exchanges.limits import redis as shared
from exchanges.models import Environment, ExchangeAccount, TradingState
from exchanges.trading_state import UnsafeAccount, halt_trading, resume_trading, seen_state
from orders import services, tasks
from orders.intents import parse_intent
from orders.models import Order, ReconciliationBreak
from tests.harness.simulator import Simulator
from tests.steps import submit

pytestmark = pytest.mark.django_db
PERMISSIONS = {"method": "GET", "path": "/sapi/v1/account/apiRestrictions"}
SAFE = {
    "ipRestrict": True,
    "enableReading": True,
    "enableWithdrawals": False,
    "enableInternalTransfer": False,
    "permitsUniversalTransfer": False,
}
POST_ORDER = {"method": "POST", "path": "/api/v3/order"}


@pytest.fixture
def live(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> ExchangeAccount:
    for name, value in simulator.environment("desk").items():
        monkeypatch.setenv(name, value)
    return ExchangeAccount.objects.create(name="desk", environment=Environment.LIVE)


def answer(simulator: Simulator, **changes: Any) -> None:
    simulator.control.faults.add(
        "respond", match=PERMISSIONS, times=None, status=200, body={**SAFE, **changes}
    )


def state_of(account: ExchangeAccount) -> str:
    account.refresh_from_db()
    return str(account.trading_state)


def test_resume_trading__a_live_account_with_a_safe_key(
    live: ExchangeAccount, simulator: Simulator
) -> None:
    assert state_of(live) == TradingState.HALTED
    answer(simulator)
    resume_trading(account=live, reason="go", actor="eva")
    assert state_of(live) == TradingState.ACTIVE


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ipRestrict": False}, "access is not restricted to listed IP addresses"),
        ({"enableWithdrawals": True}, "enableWithdrawals is enabled"),
        ({"enableInternalTransfer": True}, "enableInternalTransfer is enabled"),
        ({"permitsUniversalTransfer": True}, "permitsUniversalTransfer is enabled"),
        ({"ipRestrict": "maybe"}, "cannot be read"),
    ],
)
def test_resume_trading__an_unsafe_key_keeps_a_live_account_halted(
    live: ExchangeAccount, simulator: Simulator, changes: dict[str, Any], says: str
) -> None:
    answer(simulator, **changes)
    with pytest.raises(UnsafeAccount, match=says):
        resume_trading(account=live, reason="go", actor="eva")
    assert state_of(live) == TradingState.HALTED
    assert says in live.trading_state_reason


def test_resume_trading__only_a_superuser_overrides_from_the_shell(live: ExchangeAccount) -> None:
    User.objects.create_user("eva", is_staff=True)
    User.objects.create_superuser("root")
    given = ("resume_trading", "--account", "desk", "--reason", "drill")
    with pytest.raises(CommandError, match="access is not restricted to listed IP addresses"):
        call_command(*given)
    with pytest.raises(CommandError, match="'eva' is not an active superuser"):
        call_command(*given, "--despite-unsafe-key-as", "eva")
    assert state_of(live) == TradingState.HALTED
    call_command(*given, "--despite-unsafe-key-as", "root")
    assert state_of(live) == TradingState.ACTIVE


def test_account_page__says_why_a_live_account_stays_halted(
    live: ExchangeAccount, admin_client: Client
) -> None:
    """Read the message alone, because the page shows the account's stored reason, too."""
    address = f"/admin/exchanges/exchangeaccount/{live.pk}/"
    answered = admin_client.post(f"{address}resume/", {"confirmed": "1", "reason": "go"})
    (message,) = get_messages(answered.wsgi_request)
    assert "access is not restricted to listed IP addresses" in str(message)
    assert message.level_tag == "error"
    assert (
        "access is not restricted to listed IP addresses"
        in admin_client.get(f"{address}change/").content.decode()
    )
    assert state_of(live) == TradingState.HALTED


def refuse_time(simulator: Simulator, times: int) -> None:
    body = {"code": -1021, "msg": "Timestamp for this request is outside of the recvWindow."}
    simulator.control.faults.add("respond", match=POST_ORDER, times=times, status=400, body=body)


def test_place_order__our_time_refused_once_is_measured_and_sent_again(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    refuse_time(simulator, 1)
    order = submit("i-1")
    assert order.status == "CREATED"
    assert services.place_order(order.pk, is_due=True).status == "NEW"
    refuse_time(simulator, 1)
    assert submit("i-2").status == "CREATED"
    assert state_of(account) == TradingState.ACTIVE


def test_place_order__our_time_refused_twice_in_a_row_stops_the_account(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    refuse_time(simulator, 2)
    order = submit("i-1")
    order = services.place_order(order.pk, is_due=True)
    assert order.status == "CREATED"
    assert state_of(account) == TradingState.HALTED
    assert ReconciliationBreak.objects.get().kind == "ACCOUNT_REFUSED"
    assert services.place_order(order.pk, is_due=True).status == "DENIED"
    assert simulator.control.truth().requests["POST /api/v3/order"] == 2


REFUSED_KEYS = [
    (401, -2015, "Invalid API-key, IP, or permissions for action."),
    (400, -2014, "API-key format invalid."),
    (400, -1022, "Signature for this request is not valid."),
]


def refuse(simulator: Simulator, match: dict[str, str], refused: tuple[int, int, str]) -> None:
    status, code, message = refused
    simulator.control.faults.add(
        "respond", match=match, times=None, status=status, body={"code": code, "msg": message}
    )


def assert_is_stopped(account: ExchangeAccount, refused: tuple[int, int, str]) -> None:
    _, code, message = refused
    assert state_of(account) == TradingState.HALTED
    assert message in account.trading_state_reason
    found = ReconciliationBreak.objects.get()
    assert (found.kind, found.details) == ("ACCOUNT_REFUSED", {"code": code, "message": message})


@pytest.mark.parametrize("refused", REFUSED_KEYS, ids=lambda refused: str(refused[1]))
def test_place_order__a_refused_key_stops_the_account_and_opens_a_break(
    account: ExchangeAccount, simulator: Simulator, refused: tuple[int, int, str]
) -> None:
    refuse(simulator, POST_ORDER, refused)
    order = submit("i-1")
    assert order.status == "CREATED"
    assert_is_stopped(account, refused)
    assert submit("i-2").reason_code == "HALTED"
    assert services.place_order(order.pk, is_due=True).reason_code == "HALTED"
    assert simulator.control.truth().requests["POST /api/v3/order"] == 1


@pytest.mark.parametrize("refused", REFUSED_KEYS, ids=lambda refused: str(refused[1]))
def test_cancel_order__a_refused_key_stops_the_account_and_keeps_the_wish(
    account: ExchangeAccount, simulator: Simulator, refused: tuple[int, int, str]
) -> None:
    submit("i-1")
    refuse(simulator, {"method": "DELETE", "path": "/api/v3/order"}, refused)
    order = services.cancel_order(account="demo", intent_id="i-1")
    assert (order.status, order.cancel_requested_at is not None) == ("NEW", True)
    assert_is_stopped(account, refused)


@pytest.mark.parametrize("task", ["sync_open_orders", "reconcile_account"])
@pytest.mark.parametrize("refused", REFUSED_KEYS, ids=lambda refused: str(refused[1]))
def test_sync__a_refused_key_stops_the_account_though_nothing_is_placed(
    account: ExchangeAccount, simulator: Simulator, refused: tuple[int, int, str], task: str
) -> None:
    from orders import tasks

    refuse(simulator, {"method": "GET", "path": "/api/v3/openOrders"}, refused)
    with pytest.raises(AccountError):
        getattr(tasks, task)("demo")
    assert_is_stopped(account, refused)
    assert simulator.control.truth().requests["GET /api/v3/openOrders"] == 1


@pytest.mark.usefixtures("redis_server")
def test_force_breaker__holds_placements_until_it_may_judge_again(
    account: ExchangeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "_away_until", 0.0)  # an earlier test had no Redis
    submit("i-0")
    force_breaker(account=account, kind="place", state="open", reason="drill", actor="eva")
    held = submit("i-1")
    assert held.status == "CREATED"
    assert services.cancel_order(account="demo", intent_id="i-0").status == "CANCELED"
    force_breaker(account=account, kind="place", state=None, reason="over", actor="eva")
    assert services.place_order(held.pk, is_due=True).status == "NEW"


def test_force_breaker__wants_a_reason_and_a_known_state(account: ExchangeAccount) -> None:
    with pytest.raises(ValueError, match="reason"):
        force_breaker(account=account, kind="place", state="open", reason=" ", actor="eva")
    with pytest.raises(ValueError, match="state"):
        force_breaker(account=account, kind="place", state="ajar", reason="x", actor="eva")


def test_halt_trading__closes_the_gate_to_every_entry(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    """Try the task, the service, a stored order and the Python API: none of them passes."""
    from orders import tasks
    from orders.execution import OrderExecutionService

    intent = {
        "account": "demo",
        "symbol": "BTCUSDT",
        "order_type": "LIMIT",
        "quantity": "0.01",
        "price": "50000",
    }
    stored, _ = services.record_order(
        parse_intent({**intent, "intent_id": "i-1", "side": "BUY"}, now=clock.now())
    )
    halt_trading(account=None, reason="drill", actor="eva")
    assert services.place_order(stored.pk).reason_code == "HALTED"
    assert submit("i-2").reason_code == "HALTED"
    assert tasks.submit_order(**intent, intent_id="i-3", side="BUY")["reason_code"] == "HALTED"
    assert tasks.place_order(str(stored.pk))["status"] == "DENIED"
    OrderExecutionService("demo").execute_sell_order(
        intent_id="i-4", symbol="BTCUSDT", quantity="0.01", order_type="LIMIT", price="70000"
    )
    waiting = Order.objects.get(intent_id="i-4")
    assert services.place_order(waiting.pk, is_due=True).reason_code == "HALTED"
    assert "POST /api/v3/order" not in simulator.control.truth().requests


def test_sync__a_refused_key_halts_once_and_keeps_the_reason_of_a_person(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    """The sync of a halted account goes on, every few seconds, with a key that is refused."""
    assert submit().status == "NEW"
    halt_trading(account=account, reason="call Bob before you resume", actor="eva")
    seen = seen_state(ExchangeAccount.objects.get(pk=account.pk))
    simulator.control.faults.add(
        "respond",
        match={"method": "GET", "path": "/api/v3/openOrders"},
        times=None,
        status=401,
        body={"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."},
    )
    for _ in range(3):
        with pytest.raises(AccountError):
            tasks.sync_open_orders("demo")

    row = ExchangeAccount.objects.get(pk=account.pk)
    assert row.trading_state_reason == "call Bob before you resume"
    assert seen_state(row) == seen
    assert JournalEntry.objects.filter(verb="halt").count() == 1
    assert ReconciliationBreak.objects.filter(kind="ACCOUNT_REFUSED").count() == 1
