"""The fresh proof of a person before an act that loosens a limit or gives a right."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import Group, User
from django.test import Client

from backoffice.people.models import AccountGrant
from exchanges.models import BreakerChange, ExchangeAccount, TradingState
from orders.models import Order, RiskLimit, Status
from tests.factories import OrderFactory

pytestmark = pytest.mark.django_db

PASSWORD = "correct-horse-battery"
MORNING = datetime(2026, 11, 30, 8, 0, tzinfo=UTC)
ASKS = "needs fresh proof"


@pytest.fixture
def clock() -> Iterator[Any]:
    with time_machine.travel(MORNING, tick=True) as clock:
        yield clock


@pytest.fixture
def boss(client: Client, clock: Any) -> Client:
    """Return a client whose person proved six minutes ago who they are."""
    client.force_login(User.objects.create_superuser("boss", password=PASSWORD))
    clock.shift(timedelta(minutes=6))
    return client


@pytest.fixture
def halted(demo: ExchangeAccount) -> str:
    demo.trading_state = TradingState.HALTED
    demo.save()
    return f"/admin/exchanges/exchangeaccount/{demo.pk}/"


def text(answer: Any) -> str:
    return str(answer.content.decode())


def test_resume__asks_and_then_goes_on_with_the_same_form(
    boss: Client, halted: str, demo: ExchangeAccount
) -> None:
    form = {"confirmed": "1", "reason": "checked by hand"}
    asked = boss.post(f"{halted}resume/", form)
    assert ASKS in text(asked)
    assert 'name="reason" value="checked by hand"' in text(asked)
    demo.refresh_from_db()
    assert demo.trading_state == TradingState.HALTED

    proof = {**form, "step_up_asked_by": "POST"}
    wrong = boss.post(f"{halted}resume/", {**proof, "step_up_answer": "guess"})
    assert "not correct" in text(wrong)
    assert 'value="checked by hand"' in text(wrong)
    demo.refresh_from_db()
    assert demo.trading_state == TradingState.HALTED

    done = boss.post(f"{halted}resume/", {**proof, "step_up_answer": PASSWORD})
    assert done.status_code == 302
    demo.refresh_from_db()
    assert demo.trading_state == TradingState.ACTIVE


def test_resume__of_selected_accounts_asks_and_goes_on(
    boss: Client, halted: str, demo: ExchangeAccount
) -> None:
    chosen = {"action": "resume_selected", "_selected_action": [str(demo.pk)]}
    asked = boss.post("/admin/exchanges/exchangeaccount/", chosen)
    assert ASKS in text(asked)
    page = boss.post(
        "/admin/exchanges/exchangeaccount/",
        {**chosen, "step_up_asked_by": "POST", "step_up_answer": PASSWORD},
    )
    assert "Resume trading?" in text(page)


def test_proof__holds_for_five_minutes(boss: Client, halted: str, clock: Any) -> None:
    asked = boss.get(f"{halted}resume/")
    assert ASKS in text(asked)
    back = boss.post(f"{halted}resume/", {"step_up_asked_by": "GET", "step_up_answer": PASSWORD})
    assert (back.status_code, back["Location"]) == (302, f"{halted}resume/")
    clock.shift(timedelta(minutes=4, seconds=50))
    assert ASKS not in text(boss.get(f"{halted}resume/"))
    clock.shift(timedelta(seconds=20))
    assert ASKS in text(boss.get(f"{halted}resume/"))


def test_proof__isnt_taken_from_the_future(boss: Client, halted: str, clock: Any) -> None:
    clock.shift(timedelta(hours=-1))  # the clock was set back since the last proof
    assert ASKS in text(boss.get(f"{halted}resume/"))


@pytest.mark.parametrize("verb", ["halt", "reduce"])
def test_tightening__never_waits(boss: Client, demo: ExchangeAccount, verb: str) -> None:
    address = f"/admin/exchanges/exchangeaccount/{demo.pk}/{verb}/"
    assert boss.post(address, {"confirmed": "1", "reason": "stop"}).status_code == 302
    demo.refresh_from_db()
    assert demo.trading_state != TradingState.ACTIVE


def guarded(
    demo: ExchangeAccount, limit: RiskLimit, group: Group, other: User, held: Order
) -> dict[str, Any]:
    """Return the acts that need a proof: address -> form."""
    account = f"/admin/exchanges/exchangeaccount/{demo.pk}/"
    return {
        "/admin/exchanges/exchangeaccount/add/": {"name": "new", "environment": "simulator"},
        f"{account}change/": {},  # an unticked box disables the account
        f"{account}breaker/": {
            "confirmed": "1",
            "reason": "r",
            "kind": "place",
            "state": "OPEN",
        },
        f"{account}epoch/": {"confirmed": "1", "reason": "r", "seen": str(demo.epoch)},
        "/admin/exchanges/tradinghalt/1/resume/": {"confirmed": "1", "reason": "r"},
        "/admin/orders/risklimit/add/": {"max_open_orders": "7"},
        f"/admin/orders/risklimit/{limit.pk}/change/": {"max_open_orders": "8"},
        f"/admin/orders/risklimit/{limit.pk}/delete/": {"post": "yes"},
        "/admin/orders/risklimit/": {
            "action": "delete_selected",
            "_selected_action": str(limit.pk),
            "post": "yes",
        },
        "/admin/auth/user/add/": {"username": "mallory"},
        f"/admin/auth/user/{other.pk}/change/": {"username": "other", "is_superuser": "on"},
        f"/admin/auth/user/{other.pk}/password/": {"password1": "x" * 14, "password2": "x" * 14},
        "/admin/auth/group/add/": {"name": "everything"},
        f"/admin/auth/group/{group.pk}/change/": {"name": "renamed"},
        f"/admin/auth/group/{group.pk}/delete/": {"post": "yes"},
        "/admin/people/accountgrant/add/": {"account": str(demo.pk), "person": str(other.pk)},
        f"/admin/orders/order/{held.pk}/release/": {
            "confirmed": "yes",
            "reason": "r",
            "seen": str(held.version),
        },
    }


def test_every_loosening_act__asks_first_and_changes_nothing(
    boss: Client, demo: ExchangeAccount
) -> None:
    limit = RiskLimit.objects.create(account=demo, max_open_orders=5)
    group = Group.objects.create(name="desk")
    other = User.objects.create_user("other")
    held = OrderFactory(account=demo, status=Status.HELD)
    roles = {*Group.objects.values_list("pk", "name")}
    for address, form in guarded(demo, limit, group, other, held).items():
        for answer in (
            boss.post(address, form),
            boss.post(address, {**form, "step_up_asked_by": "POST", "step_up_answer": "guess"}),
        ):
            assert ASKS in text(answer), address
    assert list(RiskLimit.objects.values_list("max_open_orders", flat=True)) == [5]
    assert sorted(User.objects.values_list("username", flat=True)) == ["boss", "other"]
    assert {*Group.objects.values_list("pk", "name")} == roles
    account = ExchangeAccount.objects.get()
    assert account.is_enabled
    assert account.epoch == demo.epoch
    assert not BreakerChange.objects.exists()
    assert not AccountGrant.objects.exists()
    held.refresh_from_db()
    assert held.status == Status.HELD
    other.refresh_from_db()
    assert not other.is_superuser
    assert not other.has_usable_password()


def test_form_with_a_password__isnt_repeated_into_the_page(boss: Client) -> None:
    other = User.objects.create_user("other")
    secret = "a-secret-that-must-not-show"
    asked = boss.post(
        f"/admin/auth/user/{other.pk}/password/", {"password1": secret, "password2": secret}
    )
    assert ASKS in text(asked)
    assert secret not in text(asked)
    assert "fill in the form again" in text(asked)


def test_page_of_a_record__opens_without_a_proof(boss: Client, demo: ExchangeAccount) -> None:
    for address in (
        f"/admin/exchanges/exchangeaccount/{demo.pk}/change/",
        "/admin/orders/risklimit/",
        "/admin/auth/user/",
    ):
        assert ASKS not in text(boss.get(address)), address


def test_person_without_the_right__is_refused_instead_of_asked(
    client: Client, clock: Any, halted: str
) -> None:
    client.force_login(User.objects.create_user("new", password=PASSWORD, is_staff=True))
    clock.shift(timedelta(minutes=6))
    for address in (f"{halted}resume/", "/admin/orders/risklimit/add/", "/admin/auth/group/add/"):
        answer = client.post(address, {"step_up_answer": PASSWORD, "step_up_asked_by": "POST"})
        assert answer.status_code == 403, address
