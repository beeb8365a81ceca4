"""Rights per account: a person sees and acts on the accounts granted, on every page and verb."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.models import AnonymousUser, Group, Permission, User
from django.core.exceptions import ValidationError
from django.http import StreamingHttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from backoffice.people.grants import account_ids, accounts_of, has_every_account
from backoffice.people.models import AccountGrant, ChangeDraft, JournalEntry, LinkedLogin
from backoffice.people.roles import ROLES
from exchanges import acts
from exchanges.models import BreakerChange, ExchangeAccount, Lease, LeaseChange
from exchanges.trading_state import seen_state
from orders.models import (
    Order,
    Position,
    ReconciliationBreak,
    ReviewRule,
    RiskLimit,
    RiskLimitChange,
)
from tests.factories import (
    BalanceFactory,
    ExchangeAccountFactory,
    ExchangeOrderFactory,
    FillFactory,
    OrderEventFactory,
    OrderFactory,
    ReconciliationBreakFactory,
)

pytestmark = pytest.mark.django_db

SECRET = "zq-secret"


class World:
    """One account with a row of every kind. Each text that a page could show has the mark."""

    def __init__(self, mark: str) -> None:
        self.account = ExchangeAccountFactory(name=mark)
        self.order = OrderFactory(
            account=self.account, intent_id=f"{mark}-intent", status="PARTIALLY_FILLED"
        )
        sent = ExchangeOrderFactory(order=self.order, account=self.account)
        self.fill = FillFactory(
            order=self.order, exchange_order=sent, account=self.account, trade_id=f"{mark}-trade"
        )
        self.event = OrderEventFactory(order=self.order, actor=f"{mark}-actor")
        self.a_break = ReconciliationBreakFactory(account=self.account, subject=f"{mark}-subject")
        self.balance = BalanceFactory(account=self.account, asset="BTC")
        self.limit = RiskLimit.objects.create(account=self.account, strategy=f"{mark}-strategy")
        RiskLimitChange.objects.create(
            account=self.account, actor=f"{mark}-a", subject=f"{mark}-s", before={}, after={}
        )
        BreakerChange.objects.create(
            account=self.account, kind="place", state="open", reason=f"{mark}-why", actor="x"
        )
        self.lease = Lease.objects.create(
            name=f"sync:{mark}", holder=f"{mark}-holder", expires_at="2999-01-01T00:00:00Z"
        )
        LeaseChange.objects.create(name=f"sync:{mark}", reason=f"{mark}-why", actor="x")
        acts.record_act("halt", actor="rule:x", subject=f"account:{mark}", account=mark)
        self.entry = JournalEntry.objects.order_by("-id")[0]
        self.grant = AccountGrant.objects.create(
            account=self.account, role=Group.objects.create(name=f"desk-{self.order.pk}")
        )
        self.person = User.objects.create_user(f"person-{self.order.pk}")
        self.link = LinkedLogin.objects.create(login=self.person, human="one")
        self.draft = ChangeDraft.objects.create(
            kind="resume",
            account=self.account,
            subject=f"account:{mark}",
            act="resume",
            target="exchanges.ExchangeAccount",
            target_key=str(self.account.pk),
            seen=seen_state(self.account),
            before={"trading_state_reason": f"{mark}-why"},
            maker="x",
            reason=f"{mark}-why",
            expires_at="2999-01-01T00:00:00Z",
        )

    def key_of(self, model: str) -> Any:
        """Return the key of this world's row of a model, for the addresses of its pages."""
        rows: dict[str, Any] = {
            "exchangeaccount": self.account,
            "order": self.order,
            "fill": self.fill,
            "orderevent": self.event,
            "reconciliationbreak": self.a_break,
            "balance": self.balance,
            "risklimit": self.limit,
            "journalentry": self.entry,
            "accountgrant": self.grant,
            "changedraft": self.draft,
            "user": self.person,
            "linkedlogin": self.link,
            "group": self.grant.role,
            "position": Position.objects.filter(account=self.account).first(),
            "lease": self.lease,
            "instrument": self.fill,
            "tradinghalt": self.account,
        }
        row = rows.get(model)
        return 1 if row is None else row.pk

    def state(self) -> list[Any]:
        """Return everything that a verb could change."""
        return [
            list(rows)
            for rows in (
                ExchangeAccount.objects.filter(pk=self.account.pk).values(),
                Order.objects.filter(pk=self.order.pk).values(),
                ReconciliationBreak.objects.filter(account=self.account).values(),
                RiskLimit.objects.filter(account=self.account).values(),
                AccountGrant.objects.filter(account=self.account).values(),
                ChangeDraft.objects.filter(account=self.account).values(),
                Lease.objects.filter(pk=self.lease.pk).values(),
                JournalEntry.objects.filter(account=self.account.name).values("id"),
            )
        ]


def addresses(world: World) -> Iterator[str]:
    """Yield every address of the URLconf, with the keys of this world's rows."""
    for pattern in _patterns(get_resolver().url_patterns, "/"):
        # Machines' pages name every account, to whoever has their token.
        if not pattern.startswith("/admin/") or "logout" in pattern:
            continue
        found = re.match(r"/admin/\w+/(\w+)/", pattern)
        key = world.key_of(found[1]) if found else 1
        pattern = pattern.replace("<slug:verb>", "cancel" if "/order/" in pattern else "close")
        yield re.sub(r"<[^>]+>", str(key), pattern)


def _patterns(patterns: list[Any], prefix: str) -> Iterator[str]:
    for item in patterns:
        part = str(item.pattern)
        if isinstance(item, URLResolver):
            yield from _patterns(item.url_patterns, prefix + part)
        elif isinstance(item, URLPattern):
            yield from _concrete(prefix + part)


def _concrete(pattern: str) -> Iterator[str]:
    """Turn Django's two regular expressions into paths: an application's page, and the rest."""
    if choices := re.search(r"\^\(\?P<app_label>([^)]*)\)/\$", pattern):
        yield from (pattern.replace(choices[0], f"{name}/") for name in choices[1].split("|"))
        return
    path = pattern.replace("(?P<url>.*)$", "nothing-here")
    assert not re.search(r"[\^$*(]", path), f"{pattern}: make a path of it"
    yield path


ANSWER = {
    "confirmed": "yes",
    "reason": "mine",
    "resolution": "accepted difference",
    "kind": "place",
    "state": "open",
    "symbol": "BTCUSDT",
    "post": "yes",
    "seen": "0",
    "seconds": "60",
    "order_type": "LIMIT",
    "side": "BUY",
    "quantity": "1",
    "price": "1",
    "account": SECRET,
}
ACTIONS = {
    "/admin/exchanges/exchangeaccount/": (
        *("halt_selected", "reduce_selected", "resume_selected", "reconcile_selected"),
    ),
    "/admin/orders/order/": ("cancel_selected",),
    "/admin/orders/reconciliationbreak/": ("close_selected",),
    "/admin/orders/risklimit/": ("delete_selected",),
    "/admin/exchanges/lease/": ("release_selected", "hold_selected"),
    "/admin/people/accountgrant/": ("delete_selected",),
}


def member(role: str, account: ExchangeAccount | None) -> User:
    user = User.objects.create_user(f"a-{role}", is_staff=True)
    group = Group.objects.get(name=role)
    user.groups.add(group)
    if account is not None:
        AccountGrant.objects.create(account=account, role=group)
    return User.objects.get(pk=user.pk)


def content_of(answer: Any) -> str:
    if isinstance(answer, StreamingHttpResponse):
        if answer.is_async:
            return ""
        return b"".join(answer.streaming_content).decode()  # type: ignore[arg-type]
    return str(answer.content.decode())


@pytest.mark.long
@pytest.mark.parametrize("role", [role for role in ROLES if role != "Administrator"])
def test_no_page__shows_or_changes_an_account_that_was_not_granted(
    role: str, client: Client
) -> None:
    mine, others = World("mine"), World(SECRET)
    client.force_login(member(role, mine.account))
    client.raise_request_exception = False
    before = others.state()
    for address in addresses(others):
        answer = client.get(address)
        assert SECRET not in content_of(answer).replace(address, ""), address
        client.cookies.pop("messages", None)  # It may name the key that was asked for.
        answer = client.get(address, {"q": str(others.order.pk), "account": others.account.pk})
        assert SECRET not in content_of(answer).replace(address, ""), address
        client.cookies.pop("messages", None)
        if "password" not in address and "/login/" not in address:
            client.post(address, ANSWER)
            assert others.state() == before, address
    for address, names in ACTIONS.items():
        for name in names:
            key = others.key_of(address.split("/")[-2])
            client.post(address, {**ANSWER, "action": name, ACTION_CHECKBOX_NAME: str(key)})
            assert others.state() == before, (address, name)


def test_granted__sees_and_acts(client: Client) -> None:
    mine, _others = World("mine"), World(SECRET)
    client.force_login(member("Trader", mine.account))
    for name, model in (("orders", "order"), ("orders", "fill"), ("exchanges", "exchangeaccount")):
        page = client.get(f"/admin/{name}/{model}/").content.decode()
        assert "mine" in page
        assert SECRET not in page
    unsent = OrderFactory(account=mine.account)  # its cancel asks no worker
    client.post(f"/admin/orders/order/{unsent.pk}/cancel/", ANSWER)
    unsent.refresh_from_db()
    assert unsent.cancel_requested_by == "a-Trader"
    client.post(f"/admin/exchanges/exchangeaccount/{mine.account.pk}/halt/", ANSWER)
    mine.account.refresh_from_db()
    assert mine.account.trading_state == "HALTED"


def test_palette__forgets_an_order_with_its_grant(client: Client) -> None:
    mine = World("mine")
    client.force_login(member("Trader", mine.account))
    asked = {"s": mine.order.intent_id, "extended": "1"}
    assert str(mine.order.pk) in client.get("/admin/search/", asked).content.decode()
    AccountGrant.objects.all().delete()
    assert str(mine.order.pk) not in client.get("/admin/search/", asked).content.decode()


def test_granted__may_halt_everything_only_with_every_account(client: Client) -> None:
    mine = World("mine")
    user = member("Trader", mine.account)
    client.force_login(user)
    address = "/admin/exchanges/tradinghalt/1/halt/"
    assert client.get(address).status_code == 200
    ExchangeAccountFactory(name=SECRET)
    assert client.get(address).status_code == 403
    assert client.post(address, ANSWER).status_code == 403


def test_a_new_account__is_granted_to_administrators_only() -> None:
    World(SECRET)
    for role in ROLES:
        seen = set(accounts_of(member(role, None)).values_list("name", flat=True))
        assert seen == ({SECRET} if role == "Administrator" else set()), role
    assert account_ids(User.objects.create_superuser("boss")) is None


def test_a_grant__is_for_a_person_or_for_a_role() -> None:
    account = ExchangeAccountFactory()
    anna = User.objects.create_user("anna")
    assert not accounts_of(anna).exists()
    AccountGrant.objects.create(account=account, person=anna)
    assert list(accounts_of(User.objects.get(pk=anna.pk))) == [account]
    anna.is_active = False
    anna.save()
    assert not accounts_of(User.objects.get(pk=anna.pk)).exists()
    assert not accounts_of(AnonymousUser()).exists()
    assert not has_every_account(AnonymousUser())
    for wrong in (
        AccountGrant(account=account),
        AccountGrant(account=account, person=anna, role=Group.objects.get(name="Viewer")),
    ):
        with pytest.raises(ValidationError):
            wrong.full_clean()


def test_a_limit__is_set_on_granted_accounts_only(client: Client) -> None:
    mine, others = World("mine"), World(SECRET)
    client.force_login(member("Risk officer", mine.account))
    answer = {"symbol": "ETHUSDT", "currency": "USDT", "max_price_age": 60}
    answer |= {"identical_window": 10}
    for account in (mine.account, others.account):
        client.post("/admin/orders/risklimit/add/", {**answer, "account": account.pk})
    added = RiskLimit.objects.filter(symbol="ETHUSDT")
    assert [row.account for row in added] == [mine.account]
    page = f"/admin/orders/risklimit/{added[0].pk}/change/"
    client.post(page, {**answer, "account": others.account.pk})
    assert added.get().account == mine.account


def test_an_administrator__makes_nobody_a_superuser(client: Client) -> None:
    boss = User.objects.create_superuser("boss")
    admin = member("Administrator", None)
    client.force_login(admin)
    page = f"/admin/auth/user/{admin.pk}/change/"
    fields = {"username": admin.username, "is_active": "on", "is_staff": "on"}
    client.post(
        page,
        {**fields, "is_superuser": "on", "groups": [*admin.groups.values_list("pk", flat=True)]},
    )
    admin.refresh_from_db()
    assert not admin.is_superuser
    assert client.post(f"/admin/auth/user/{boss.pk}/change/", fields).status_code == 403
    assert client.get(f"/admin/auth/user/{boss.pk}/password/").status_code == 403
    assert client.post(f"/admin/auth/user/{admin.pk}/delete/", {"post": "yes"}).status_code == 403
    viewer = Group.objects.get(name="Viewer")
    viewer.permissions.add(Permission.objects.get(codename="cancel_order"))
    client.force_login(boss)
    assert client.post(f"/admin/auth/group/{viewer.pk}/change/", {"name": "x"}).status_code == 403


def test_a_grant__is_recorded(client: Client) -> None:
    account = ExchangeAccountFactory(name="mine")
    client.force_login(member("Administrator", None))
    role = Group.objects.get(name="Trader")
    client.post("/admin/people/accountgrant/add/", {"account": account.pk, "role": role.pk})
    grant = AccountGrant.objects.get()
    entry = JournalEntry.objects.order_by("-id")[0]
    assert (entry.verb, entry.account) == ("add_accountgrant", "mine")
    assert entry.after["role"] == "Trader"
    client.post(f"/admin/people/accountgrant/{grant.pk}/delete/", {"post": "yes"})
    assert JournalEntry.objects.order_by("-id")[0].verb == "delete_accountgrant"


def test_a_rule_for_every_account__opens_for_people_with_every_account(client: Client) -> None:
    mine = World("mine")
    rule = ReviewRule.objects.create(kind="resume")
    client.force_login(member("Administrator", None))
    page = f"/admin/orders/reviewrule/{rule.pk}/"
    assert client.get(f"{page}change/").status_code == 200
    other = Client()
    other.force_login(member("Viewer", mine.account))
    World(SECRET)
    assert other.get(f"{page}change/").status_code == 302
    client.post(f"{page}delete/", {"post": "yes"})
    assert not ReviewRule.objects.exists()
