"""Circuit breakers: the table on an account's page, and the verb that forces one."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from exchanges.breakers import breaker_states
from exchanges.errors import NotSent
from exchanges.limits import budget, counters
from exchanges.limits import redis as shared
from exchanges.limits.budget import Budget, Priority, Request, Response
from exchanges.models import BreakerChange, ExchangeAccount
from exchanges.types import CallKind
from tests.factories import ExchangeAccountFactory
from tests.harness.redis import TestRedis

pytestmark = pytest.mark.django_db

LIST = "/admin/exchanges/exchangeaccount/"
COUNTER = counters.counter("exchange_calls", account="bot-1", call="place", outcome="lost")
HELD_OPEN = {"confirmed": "yes", "kind": "place", "state": "open", "reason": "odd answers"}


@pytest.fixture(autouse=True)
def _redis(redis_server: TestRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "_away_until", 0.0)  # an earlier test may have stopped Redis


@pytest.fixture
def account() -> ExchangeAccount:
    made: ExchangeAccount = ExchangeAccountFactory(name="bot-1")
    return made


def force_page(account: ExchangeAccount) -> str:
    return f"{LIST}{account.pk}/breaker/"


def acquire(kind: CallKind = CallKind.PLACE) -> None:
    budget.acquire(
        Request(host="h", account="bot-1", kind=kind, priority=Priority.CANCEL, weight=1), Budget()
    )


def fail(times: int) -> None:
    request = Request(
        host="h", account="bot-1", kind=CallKind.PLACE, priority=Priority.CANCEL, weight=1
    )
    for _ in range(times):
        budget.record_response(
            request, Budget(), Response(failed=True, succeeded=False), counter=COUNTER
        )


def test_force_breaker__asks_why_then_holds_one_kind_open(
    boss: Client, account: ExchangeAccount
) -> None:
    assert "Kind of call" in boss.get(force_page(account)).content.decode()
    without_reason = boss.post(force_page(account), HELD_OPEN | {"reason": " "})
    assert without_reason.status_code == 200
    acquire()
    assert not BreakerChange.objects.exists()

    answer = boss.post(force_page(account), HELD_OPEN, follow=True)

    html = answer.content.decode()
    assert "bot-1, placing: held open" in html
    assert "odd answers" in html
    with pytest.raises(NotSent, match="held open"):
        acquire()
    acquire(CallKind.CANCEL)
    change = BreakerChange.objects.get()
    assert (change.account, change.kind, change.state) == (account, "place", "open")
    assert (change.actor, change.reason) == ("boss", "odd answers")
    log = boss.get("/admin/exchanges/breakerchange/").content.decode()
    assert "odd answers" in log


def test_force_breaker__held_closed_lets_requests_pass_whatever_fails(
    boss: Client, account: ExchangeAccount, settings: Any
) -> None:
    settings.BREAKER_FAILURES, settings.BREAKER_OPEN_SECONDS = 3, 60
    fail(3)
    with pytest.raises(NotSent, match="breaker open"):
        acquire()
    boss.post(force_page(account), HELD_OPEN | {"state": "closed"})
    fail(10)
    acquire()
    assert breaker_states(account) == {
        "place": "forced closed",
        "cancel": "closed",
        "read": "closed",
    }

    boss.post(force_page(account), HELD_OPEN | {"state": "auto", "reason": "over"})

    with pytest.raises(
        NotSent, match="breaker open"
    ):  # it has seen the failures and decides by itself again
        acquire()
    assert [row.state for row in BreakerChange.objects.order_by("id")] == ["closed", "auto"]


@pytest.mark.parametrize(
    "wrong", [{"kind": "everything"}, {"state": "ajar"}, {"kind": ""}, {"state": ""}]
)
def test_force_breaker__takes_only_what_there_is(
    boss: Client, account: ExchangeAccount, wrong: dict[str, str]
) -> None:
    assert boss.post(force_page(account), HELD_OPEN | wrong).status_code == 200
    assert not BreakerChange.objects.exists()
    assert set(breaker_states(account).values()) == {"closed"}


def test_force_breaker__needs_a_permission_of_its_own(
    client: Client, account: ExchangeAccount
) -> None:
    user = User.objects.create_user("half", is_staff=True)
    names = ("view_exchangeaccount", "halt_trading", "resume_trading")
    user.user_permissions.set(Permission.objects.filter(codename__in=[*names, "all_accounts"]))
    client.force_login(user)
    assert client.get(force_page(account)).status_code == 403
    assert client.post(force_page(account), HELD_OPEN).status_code == 403
    assert force_page(account) not in client.get(f"{LIST}{account.pk}/change/").content.decode()
    user.user_permissions.add(Permission.objects.get(codename="force_breaker"))
    assert force_page(account) in client.get(f"{LIST}{account.pk}/change/").content.decode()
    assert client.post(force_page(account), HELD_OPEN).status_code == 302
    assert BreakerChange.objects.get().actor == "half"


def test_force_breaker__says_so_when_redis_is_away(
    boss: Client, account: ExchangeAccount, redis_server: TestRedis
) -> None:
    redis_server.stop()
    answer = boss.post(force_page(account), HELD_OPEN)
    html = answer.content.decode()
    assert "Nothing was changed: Redis does not answer" in html
    assert "unknown: Redis does not answer" in html
    assert not BreakerChange.objects.exists()


def test_account_page__shows_each_breaker(
    boss: Client, account: ExchangeAccount, settings: Any
) -> None:
    settings.BREAKER_FAILURES = 2
    fail(2)
    html = boss.get(f"{LIST}{account.pk}/change/").content.decode()
    for kind, state in (("placing", "open"), ("canceling", "closed"), ("reading", "closed")):
        cell = re.search(rf"<td>{kind}</td><td>(.*?)</td>", html, re.DOTALL)
        assert cell is not None, kind
        assert re.search(rf">\s*{state}\s*<", cell[1]), kind
