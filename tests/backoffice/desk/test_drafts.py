"""Four eyes, by rule: a change is a draft until a second person publishes it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from io import StringIO
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.contrib.auth.models import Group, Permission, User
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from backoffice.people import drafts
from backoffice.people.models import AccountGrant, ChangeDraft, JournalEntry, LinkedLogin
from backoffice.people.roles import setup_roles
from exchanges import clock, trading_state
from exchanges.models import ExchangeAccount, ScopedHalt, TradingHalt
from exchanges.scoped_halts import halt_scope
from orders.gate.limits import in_force, limits_of_row
from orders.models import ReviewKind, ReviewRule, RiskLimit
from tests.factories import ExchangeAccountFactory

pytestmark = pytest.mark.django_db

LIST = "/admin/people/changedraft/"
ACCOUNTS = "/admin/exchanges/exchangeaccount/"
LIMITS = "/admin/orders/risklimit/"
RULES = "/admin/orders/reviewrule/"
GRANTS = "/admin/people/accountgrant/"
CONFIRMED = {"confirmed": "yes", "reason": "checked by hand", "draft_reason": "checked by hand"}


@pytest.fixture(autouse=True)
def _optional_factor(settings: Settings) -> None:
    settings.SECOND_FACTOR = "optional"  # a live account would ask for it


def limit_form(account: ExchangeAccount, **changes: Any) -> dict[str, Any]:
    form = {"account": account.pk, "symbol": "", "strategy": "", "currency": "USDT"}
    return form | {"max_price_age": 60, "identical_window": 10} | changes


@dataclass(frozen=True)
class Kind:
    """One kind of act: what stands before it, the form that asks for it, and its effect."""

    kind: str
    set_up: Callable[[ExchangeAccount], object]
    ask: Callable[[Client, ExchangeAccount], Any]
    is_done: Callable[[ExchangeAccount], bool]
    disturb: Callable[[ExchangeAccount], object]
    role: str = "Risk officer"
    superuser: bool = False


def halt(account: ExchangeAccount, reason: str = "odd fills") -> None:
    trading_state.halt_trading(account=account, reason=reason, actor="rule:x")


def state(account: ExchangeAccount) -> str:
    return ExchangeAccount.objects.get(pk=account.pk).trading_state


def ask_to_resume(client: Client, account: ExchangeAccount) -> Any:
    return client.post(f"{ACCOUNTS}{account.pk}/resume/", CONFIRMED, follow=True)


def ask_to_resume_everything(client: Client, account: ExchangeAccount) -> Any:
    return client.post("/admin/exchanges/tradinghalt/1/resume/", CONFIRMED, follow=True)


def halt_everything(account: ExchangeAccount, reason: str = "wild") -> None:
    trading_state.halt_trading(account=None, reason=reason, actor="rule:x")


def is_everything_resumed(account: ExchangeAccount) -> bool:
    return not TradingHalt.objects.get().is_halted


def halt_symbol(account: ExchangeAccount) -> None:
    halt_scope(account=account, symbol="BTCUSDT", strategy="", reason="odd", actor="rule:x")


def ask_to_resume_symbol(client: Client, account: ExchangeAccount) -> Any:
    form = {"resume": ScopedHalt.objects.get().pk, "reason": "checked by hand"}
    return client.post("/admin/stop/", form, follow=True)


def ask_for_more(client: Client, account: ExchangeAccount) -> Any:
    address = f"{LIMITS}{RiskLimit.objects.get().pk}/change/"
    form = limit_form(account, max_open_orders="20", **CONFIRMED)
    return client.post(address, form, follow=True)


def has_more(account: ExchangeAccount) -> bool:
    return RiskLimit.objects.get().max_open_orders == 20


def set_limit(account: ExchangeAccount, count: int = 10) -> None:
    RiskLimit.objects.update_or_create(account=account, defaults={"max_open_orders": count})


def ask_for_no_limit(client: Client, account: ExchangeAccount) -> Any:
    form = {"post": "yes", **CONFIRMED}
    return client.post(f"{LIMITS}{RiskLimit.objects.get().pk}/delete/", form, follow=True)


def has_no_limit(account: ExchangeAccount) -> bool:
    return not RiskLimit.objects.exists()


def ask_for_grant(client: Client, account: ExchangeAccount) -> Any:
    role = Group.objects.get(name="Auditor")
    form = {"account": account.pk, "role": role.pk, **CONFIRMED}
    return client.post(f"{GRANTS}add/", form, follow=True)


def has_grant(account: ExchangeAccount) -> bool:
    return AccountGrant.objects.filter(account=account, role__name="Auditor").exists()


def make_live(account: ExchangeAccount) -> None:
    ExchangeAccount.objects.filter(pk=account.pk).update(
        environment="live", is_enabled=False, trading_state="HALTED"
    )


def ask_to_enable(client: Client, account: ExchangeAccount) -> Any:
    form = {"is_enabled": "on", **CONFIRMED}
    return client.post(f"{ACCOUNTS}{account.pk}/change/", form, follow=True)


def is_enabled(account: ExchangeAccount) -> bool:
    return ExchangeAccount.objects.get(pk=account.pk).is_enabled


def ask_for_live(client: Client, account: ExchangeAccount) -> Any:
    form = {"name": "big", "exchange": "binance", "environment": "live", "is_enabled": "on"}
    return client.post(f"{ACCOUNTS}add/", form | CONFIRMED, follow=True)


def has_live(account: ExchangeAccount) -> bool:
    return ExchangeAccount.objects.filter(name="big", environment="live").exists()


def make_rule(account: ExchangeAccount) -> None:
    ReviewRule.objects.create(kind="key", account=account)


def ask_for_no_rule(client: Client, account: ExchangeAccount) -> Any:
    key = ReviewRule.objects.get(kind="key").pk
    return client.post(f"{RULES}{key}/delete/", {"post": "yes", **CONFIRMED}, follow=True)


def has_no_rule(account: ExchangeAccount) -> bool:
    return not ReviewRule.objects.filter(kind="key").exists()


KINDS = {
    "resume": Kind(
        *("resume", halt, ask_to_resume),
        lambda account: state(account) == "ACTIVE",
        lambda account: halt(account, "another one"),
    ),
    "resume everything": Kind(
        *("resume", halt_everything, ask_to_resume_everything, is_everything_resumed),
        lambda account: halt_everything(account, "another one"),
        superuser=True,
    ),
    "resume a symbol": Kind(
        *("resume", halt_symbol, ask_to_resume_symbol),
        lambda account: not ScopedHalt.objects.exists(),
        halt_symbol,
    ),
    "looser limit": Kind(
        *("limit", set_limit, ask_for_more, has_more), lambda account: set_limit(account, 5)
    ),
    "no limit": Kind(
        *("limit", set_limit, ask_for_no_limit, has_no_limit),
        lambda account: set_limit(account, 5),
    ),
    "grant": Kind(
        *("grant", lambda account: None, ask_for_grant, has_grant),
        lambda account: AccountGrant.objects.create(
            account=account, role=Group.objects.get(name="Auditor")
        ),
        role="Administrator",
    ),
    "rule": Kind(
        *("rule", make_rule, ask_for_no_rule, has_no_rule),
        lambda account: ReviewRule.objects.filter(kind="key").update(account=None),
        role="Administrator",
    ),
    "live account": Kind(
        *("live", make_live, ask_to_enable, is_enabled),
        lambda account: ExchangeAccount.objects.filter(pk=account.pk).update(is_enabled=True),
        role="Administrator",
    ),
    "new live account": Kind(
        *("live", lambda account: None, ask_for_live, has_live),
        lambda account: ExchangeAccountFactory(name="big"),
        role="Administrator",
    ),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def demo() -> ExchangeAccount:
    return ExchangeAccountFactory(name="demo")


def person(
    name: str, kind: Kind | None = None, *, account: ExchangeAccount | None = None
) -> Client:
    user = User.objects.create_user(name, is_staff=True)
    if kind is not None and kind.superuser:
        user.is_superuser = True
        user.save()
    user.groups.set(Group.objects.filter(name=kind.role if kind else "Viewer"))
    if account is not None:
        AccountGrant.objects.create(account=account, person=user)
    client = Client()
    client.force_login(user)
    return client


def drafted(kind: Kind, account: ExchangeAccount, *, maker: str = "anna") -> ChangeDraft:
    ReviewRule.objects.create(kind=kind.kind)
    kind.set_up(account)
    page = kind.ask(person(maker, kind, account=account), account).content.decode()
    assert not kind.is_done(account), page
    draft = ChangeDraft.objects.get(maker=maker)
    assert f"{LIST}{draft.pk}/change/" in page
    return draft


def publish(client: Client, draft: ChangeDraft) -> str:
    answer = client.post(f"{LIST}{draft.pk}/publish/", CONFIRMED, follow=True)
    return str(answer.content.decode())


def verbs() -> list[str]:
    return list(JournalEntry.objects.order_by("id").values_list("verb", flat=True))


def test_without_a_rule__it_takes_effect_at_once(kind: Kind, demo: ExchangeAccount) -> None:
    other = ExchangeAccountFactory(name="other")
    if not kind.superuser and kind.ask is not ask_for_live:
        ReviewRule.objects.create(kind=kind.kind, account=other)
    ReviewRule.objects.create(kind="order")
    kind.set_up(demo)
    kind.ask(person("anna", kind, account=demo), demo)
    assert kind.is_done(demo)
    assert not ChangeDraft.objects.exists()


def test_with_a_rule__a_second_person_publishes(kind: Kind, demo: ExchangeAccount) -> None:
    draft = drafted(kind, demo)
    assert (draft.kind, draft.maker, draft.reason) == (kind.kind, "anna", "checked by hand")
    carl = person("carl", kind, account=demo)
    for address in (f"{LIST}{draft.pk}/publish/", f"{LIST}{draft.pk}/change/", LIST):
        page = carl.get(address)
        assert page.status_code == 200
        assert "checked by hand" in page.content.decode() or address == LIST
        assert not kind.is_done(demo)
    assert "Published." in publish(carl, draft)
    assert kind.is_done(demo)
    draft.refresh_from_db()
    assert (draft.state, draft.checker) == ("published", "carl")
    assert draft.decision == "checked by hand"
    entry = JournalEntry.objects.get(verb="publish_draft")
    assert (entry.person, entry.subject) == ("carl", f"draft:{draft.pk}")
    assert entry.before["maker"] == "anna"
    assert verbs()[-1] == "publish_draft"
    assert JournalEntry.objects.order_by("-id")[1].person == "carl"
    assert "no longer waits" in publish(carl, draft)
    assert verbs().count("publish_draft") == 1


@pytest.mark.long
def test_the_maker__never_publishes_with_any_login(kind: Kind, demo: ExchangeAccount) -> None:
    draft = drafted(kind, demo)
    anna = Client()
    user = User.objects.get(username="anna")
    user.groups.set(Group.objects.filter(name__in=["Risk officer", "Administrator"]))
    anna.force_login(user)
    assert "Another person must publish it" in publish(anna, draft)
    second = person("anna-2", kind, account=demo)
    for login in ("anna", "anna-2"):
        LinkedLogin.objects.create(login=User.objects.get(username=login), human="Anna Smith")
    assert "Another person must publish it" in publish(second, draft)
    assert "Publish this draft" not in second.get(f"{LIST}{draft.pk}/change/").content.decode()
    assert not kind.is_done(demo)


def test_a_person_without_the_right__does_not_publish(kind: Kind, demo: ExchangeAccount) -> None:
    draft = drafted(kind, demo)
    viewer = person("vic", account=demo)
    address = f"{LIST}{draft.pk}/publish/"
    assert viewer.post(address, CONFIRMED).status_code in (403, 404)
    half = User.objects.get(username="vic")  # may publish, but could not do it without a draft
    half.user_permissions.set(Permission.objects.filter(codename="publish_changedraft"))
    assert viewer.post(address, CONFIRMED).status_code in (403, 404)
    assert not kind.is_done(demo)
    assert ChangeDraft.objects.get().state == "waiting"


def test_after_another_change__it_is_overtaken(kind: Kind, demo: ExchangeAccount) -> None:
    draft = drafted(kind, demo)
    kind.disturb(demo)
    before = kind.is_done(demo)
    page = publish(person("carl", kind, account=demo), draft)
    assert "Published." not in page
    assert kind.is_done(demo) == before
    draft.refresh_from_db()
    assert draft.state == "overtaken"
    assert verbs()[-1] == "overtake_draft"


def test_after_its_end__nobody_publishes(kind: Kind, demo: ExchangeAccount) -> None:
    draft = drafted(kind, demo)
    with time_machine.travel(draft.expires_at + timedelta(seconds=1)):
        page = publish(person("carl", kind, account=demo), draft)
    assert "no longer waits" in page
    assert not kind.is_done(demo)
    with time_machine.travel(draft.expires_at):
        assert draft.state_now == "expired"


@pytest.mark.long
def test_two_people_at_once__publish_once(
    kind: Kind, transactional_db: None, demo: ExchangeAccount
) -> None:
    setup_roles()
    draft = drafted(kind, demo)
    clients = [person(name, kind, account=demo) for name in ("carl", "dora", "emil")]
    barrier = threading.Barrier(len(clients))

    def press(client: Client) -> str:
        barrier.wait()
        try:
            return publish(client, draft)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(clients)) as threads:
        pages = list(threads.map(press, clients))
    assert sum("Published." in page for page in pages) == 1
    assert sum("no longer waits" in page for page in pages) == 2
    assert kind.is_done(demo)
    assert verbs().count("publish_draft") == 1


@pytest.mark.parametrize("verb", ["halt", "reduce"])
def test_what_stops__never_waits(demo: ExchangeAccount, verb: str) -> None:
    for kind in ReviewKind:
        ReviewRule.objects.create(kind=kind)
    anna = person("anna", KINDS["resume"], account=demo)
    anna.post(f"{ACCOUNTS}{demo.pk}/{verb}/", CONFIRMED)
    assert state(demo) == {"halt": "HALTED", "reduce": "REDUCING"}[verb]
    assert not ChangeDraft.objects.exists()


def test_what_tightens__never_waits(demo: ExchangeAccount) -> None:
    for kind in ReviewKind:
        ReviewRule.objects.create(kind=kind)
    officer = person("anna", KINDS["looser limit"], account=demo)
    officer.post(f"{LIMITS}add/", limit_form(demo, max_open_orders="10"))
    row = RiskLimit.objects.get()
    officer.post(f"{LIMITS}{row.pk}/change/", limit_form(demo, max_open_orders="9"))
    row.refresh_from_db()
    assert row.max_open_orders == 9
    grant = AccountGrant.objects.create(account=demo, role=Group.objects.get(name="Trader"))
    boss = person("boss", KINDS["grant"])
    boss.post(f"{GRANTS}{grant.pk}/delete/", {"post": "yes"})
    assert not AccountGrant.objects.filter(pk=grant.pk).exists()
    make_live(demo)
    ExchangeAccount.objects.update(is_enabled=True)
    boss.post(f"{ACCOUNTS}{demo.pk}/change/", {})
    assert not is_enabled(demo)
    boss.post(f"{ACCOUNTS}add/", {"name": "sim", "exchange": "binance", "environment": "simulator"})
    assert ExchangeAccount.objects.filter(name="sim").exists()
    assert not ChangeDraft.objects.exists()


def test_a_wider_rule__never_waits_and_a_narrower_one_does(demo: ExchangeAccount) -> None:
    ReviewRule.objects.create(kind="rule")
    rule = ReviewRule.objects.create(kind="order", account=demo, symbol="BTCUSDT", notional_above=9)
    boss = person("boss", KINDS["rule"])
    wide = {"kind": "order", "account": demo.pk, "symbol": "", "notional_above": "8"}
    boss.post(f"{RULES}{rule.pk}/change/", wide)
    rule.refresh_from_db()
    assert (rule.symbol, rule.notional_above) == ("", 8)
    assert not ChangeDraft.objects.exists()
    for narrow in (
        {"notional_above": "9"},
        {"symbol": "ETHUSDT"},
        {"strategy": "grid"},
        {"kind": "resume", "notional_above": ""},
        {"account": ExchangeAccountFactory().pk},
    ):
        boss.post(f"{RULES}{rule.pk}/change/", {**wide, **narrow, **CONFIRMED})
        rule.refresh_from_db()
        assert str(rule) == f"order {demo} > 8"
    assert ChangeDraft.objects.count() == 5


def test_limits_deleted_together__only_those_that_loosen_wait(demo: ExchangeAccount) -> None:
    ReviewRule.objects.create(kind="limit")
    empty = RiskLimit.objects.create(account=demo, symbol="ETHUSDT")
    real = RiskLimit.objects.create(account=demo, max_open_orders=3)
    anna = person("anna", KINDS["no limit"], account=demo)
    chosen = {"action": "delete_selected", "_selected_action": [empty.pk, real.pk], "post": "yes"}
    asked = anna.post(LIMITS, chosen).content.decode()
    assert "A rule asks for a second person" in asked
    anna.post(LIMITS, {**chosen, "draft_reason": "no longer needed"})
    assert list(RiskLimit.objects.all()) == [real]
    draft = ChangeDraft.objects.get()
    assert (draft.act, draft.reason) == ("delete", "no longer needed")
    assert "Published." in publish(person("carl", KINDS["no limit"], account=demo), draft)
    assert not RiskLimit.objects.exists()


def test_a_form__asks_for_the_reason_with_the_difference(demo: ExchangeAccount) -> None:
    ReviewRule.objects.create(kind="limit", account=demo)
    set_limit(demo)
    anna = person("anna", KINDS["looser limit"], account=demo)
    address = f"{LIMITS}{RiskLimit.objects.get().pk}/change/"
    page = anna.post(address, limit_form(demo, max_open_orders="20")).content.decode()
    assert "A rule asks for a second person" in page
    assert "Open orders" in page
    assert 'name="max_open_orders" value="20"' in page
    assert not ChangeDraft.objects.exists()
    form = limit_form(demo, max_open_orders="20", draft_reason=" ")
    assert "A reason is required" in anna.post(address, form).content.decode()
    assert not ChangeDraft.objects.exists()
    assert not has_more(demo)


def override_form(account: ExchangeAccount, count: int, until: datetime) -> dict[str, Any]:
    end = {"until_0": f"{until:%Y-%m-%d}", "until_1": f"{until:%H:%M:%S}"}
    return limit_form(account, max_open_orders=count, **end, **CONFIRMED)


def counts_in_force(account: ExchangeAccount) -> list[int | None]:
    rows = [limits_of_row(row) for row in RiskLimit.objects.filter(account=account)]
    return [row.max_open_orders for row in in_force(rows, clock.now())]


def test_a_temporary_limit__carries_its_end(demo: ExchangeAccount) -> None:
    ReviewRule.objects.create(kind="limit")
    set_limit(demo)
    lasting = RiskLimit.objects.get()
    anna = person("anna", KINDS["looser limit"], account=demo)
    until = clock.now().replace(microsecond=0) + timedelta(hours=2)
    page = f"{LIMITS}{lasting.pk}/change/"
    anna.post(page, override_form(demo, 20, until))
    assert counts_in_force(demo) == [10]
    draft = ChangeDraft.objects.get()
    assert draft.after["until"].startswith(until.isoformat()[:16])
    carl = person("carl", KINDS["looser limit"], account=demo)
    assert "Published." in publish(carl, draft)
    assert RiskLimit.objects.count() == 2
    assert counts_in_force(demo) == [20]
    shown = carl.get(LIMITS).content.decode()
    assert "temporary" in shown
    assert "replaced until" in shown
    with time_machine.travel(until):
        assert counts_in_force(demo) == [10]
        late = Client()
        late.force_login(User.objects.get(username="carl"))
        html = late.get(LIMITS).content.decode()
        assert "ended" in html
        assert "replaced until" not in html
    anna.force_login(User.objects.get(username="anna"))  # the later sign-in ended old sessions
    override = RiskLimit.objects.get(until=until)
    # Longer loosens. Shorter, and not at all, tighten.
    longer = override_form(demo, 20, until + timedelta(hours=1))
    anna.post(f"{LIMITS}{override.pk}/change/", longer)
    assert ChangeDraft.objects.count() == 2
    shorter = override_form(demo, 20, until - timedelta(hours=1))
    anna.post(f"{LIMITS}{override.pk}/change/", shorter)
    override.refresh_from_db()
    assert override.until == until - timedelta(hours=1)
    anna.post(f"{LIMITS}{override.pk}/delete/", {"post": "yes"})
    assert counts_in_force(demo) == [10]
    assert ChangeDraft.objects.count() == 2


def test_a_temporary_limit__needs_no_draft_without_a_rule(demo: ExchangeAccount) -> None:
    set_limit(demo)
    lasting = RiskLimit.objects.get()
    anna = person("anna", KINDS["looser limit"], account=demo)
    until = clock.now() + timedelta(hours=2)
    anna.post(f"{LIMITS}{lasting.pk}/change/", override_form(demo, 20, until))
    assert counts_in_force(demo) == [20]
    lasting.refresh_from_db()
    assert (lasting.max_open_orders, lasting.until) == (10, None)
    entry = JournalEntry.objects.get(verb="change_risklimit")
    assert (entry.before["max_open_orders"], entry.after["max_open_orders"]) == (10, 20)


def test_a_draft__keeps_the_time_that_its_maker_wrote(demo: ExchangeAccount) -> None:
    ReviewRule.objects.create(kind="limit")
    set_limit(demo)
    anna = person("anna", KINDS["looser limit"], account=demo)
    anna.cookies["desk_zone"], anna.cookies["django_language"] = "Asia/Tokyo", "ru"
    until = clock.now().replace(microsecond=0) + timedelta(hours=2)
    there = until.astimezone(ZoneInfo("Asia/Tokyo"))
    page = f"{LIMITS}{RiskLimit.objects.get().pk}/change/"
    form = override_form(demo, 20, there) | {"until_0": f"{there:%d.%m.%Y}"}
    anna.post(page, form)
    carl = person("carl", KINDS["looser limit"], account=demo)
    draft = ChangeDraft.objects.get()
    assert f"{until:%Y-%m-%d %H:%M:%S}" in carl.get(f"{LIST}{draft.pk}/change/").content.decode()
    assert "Published." in publish(carl, draft)
    assert RiskLimit.objects.filter(until=until).exists()


def test_a_draft_whose_end_has_passed__is_overtaken(demo: ExchangeAccount) -> None:
    ReviewRule.objects.create(kind="limit")
    set_limit(demo)
    anna = person("anna", KINDS["looser limit"], account=demo)
    until = clock.now() + timedelta(minutes=3)
    page = f"{LIMITS}{RiskLimit.objects.get().pk}/change/"
    anna.post(page, override_form(demo, 20, until))
    carl = person("carl", KINDS["looser limit"], account=demo)
    with time_machine.travel(until + timedelta(minutes=1)):
        assert "must be in the future" in publish(carl, ChangeDraft.objects.get())
    assert ChangeDraft.objects.get().state == "overtaken"
    assert RiskLimit.objects.count() == 1


def test_a_rule_for_any_account__asks_before_all_trading_resumes(demo: ExchangeAccount) -> None:
    kind = KINDS["resume everything"]
    ReviewRule.objects.create(kind="resume", account=demo)
    halt_everything(demo)
    kind.ask(person("anna", kind), demo)
    assert TradingHalt.objects.get().is_halted
    assert ChangeDraft.objects.get().account is None


def test_drafts__are_seen_by_people_with_the_account(demo: ExchangeAccount) -> None:
    draft = drafted(KINDS["resume"], demo)
    other = ExchangeAccountFactory(name="other")
    stranger = person("stan", KINDS["resume"], account=other)
    assert stranger.get(f"{LIST}{draft.pk}/change/", follow=True).redirect_chain
    for verb in ("publish", "reject"):
        assert stranger.post(f"{LIST}{draft.pk}/{verb}/", CONFIRMED).status_code == 404
    assert "demo" not in stranger.get(LIST).content.decode()
    assert "demo" not in stranger.get("/admin/desk/workitem/").content.decode()
    queue = person("carl", KINDS["resume"], account=demo).get("/admin/desk/workitem/")
    assert "resuming trading: demo" in queue.content.decode()
    grant = drafted(KINDS["grant"], demo, maker="gina")
    assert grant.title not in person("vic", account=demo).get(LIST).content.decode()


def test_a_list_of_drafts__reads_the_same_for_any_number(
    demo: ExchangeAccount,
) -> None:
    first = drafted(KINDS["resume"], demo)
    boss = person("boss", KINDS["resume everything"])
    with CaptureQueriesContext(connection) as few:
        boss.get(LIST)
    for _ in range(5):
        first.pk = None
        first.save(force_insert=True)
    with CaptureQueriesContext(connection) as many:
        boss.get(LIST)
    assert len(many) == len(few)


def test_reject__is_for_the_maker_and_for_whoever_may_publish(demo: ExchangeAccount) -> None:
    draft = drafted(KINDS["resume"], demo)
    viewer = person("vic", account=demo)
    assert viewer.post(f"{LIST}{draft.pk}/reject/", CONFIRMED).status_code == 403
    assert viewer.get(f"{LIST}{draft.pk}/reject/").status_code == 403
    anna = Client()
    user = User.objects.get(username="anna")
    user.groups.set(Group.objects.filter(name="Viewer"))
    anna.force_login(user)
    anna.get(f"{LIST}{draft.pk}/reject/")
    assert ChangeDraft.objects.get().state == "waiting"
    page = anna.post(f"{LIST}{draft.pk}/reject/", CONFIRMED, follow=True).content.decode()
    assert "Rejected. Nothing was changed." in page
    carl = person("carl", KINDS["resume"], account=demo)
    assert "no longer waits" in publish(carl, draft)
    assert (
        "no longer waits"
        in carl.post(f"{LIST}{draft.pk}/reject/", CONFIRMED, follow=True).content.decode()
    )
    assert state(demo) == "HALTED"
    assert verbs().count("reject_draft") == 1


def test_publish__needs_a_fresh_proof_and_reject_none(demo: ExchangeAccount) -> None:
    draft = drafted(KINDS["resume"], demo)
    carl = person("carl", KINDS["resume"], account=demo)
    with time_machine.travel(clock.now() + timedelta(minutes=6)):
        assert "needs fresh proof" in publish(carl, draft)
        assert state(demo) == "HALTED"
        carl.post(f"{LIST}{draft.pk}/reject/", CONFIRMED)
    draft.refresh_from_db()
    assert draft.state == "rejected"


# -- the key, and the shell ----------------------------------------------------------------------


def command(**options: Any) -> str:
    out = StringIO()
    with pytest.raises(SystemExit) as end:
        call_command("resume_trading", reason="checked by hand", stdout=out, **options)
    assert end.value.code == 1
    return out.getvalue()


def test_command__makes_a_draft_with_its_number(demo: ExchangeAccount) -> None:
    ReviewRule.objects.create(kind="resume")
    halt(demo)
    carl = person("carl", KINDS["resume"], account=demo)
    with pytest.raises(CommandError, match="is no login"):
        call_command("resume_trading", account="demo", reason="r")
    with pytest.raises(CommandError, match="'nobody' is no login"):
        call_command("resume_trading", account="demo", reason="r", login="nobody")
    assert not ChangeDraft.objects.exists()
    said = command(account="demo", login="carl")
    draft = ChangeDraft.objects.get()
    assert f"Draft {draft.pk} waits until" in said
    assert state(demo) == "HALTED"
    entry = JournalEntry.objects.get(verb="make_draft")
    assert (entry.source, entry.after) == ("shell", {"trading_state": "ACTIVE"})
    assert "Another person must publish it" in publish(carl, draft)
    assert "Published." in publish(person("dora", KINDS["resume"], account=demo), draft)
    assert state(demo) == "ACTIVE"


def test_command__of_a_symbol_and_of_everything_obeys_the_rule(demo: ExchangeAccount) -> None:
    ReviewRule.objects.create(kind="resume")
    person("carl")
    halt_symbol(demo)
    halt_everything(demo)
    assert "Draft" in command(account="demo", symbol="BTCUSDT", login="carl")
    assert "Draft" in command(login="carl")
    assert ScopedHalt.objects.exists()
    assert TradingHalt.objects.get().is_halted
    ReviewRule.objects.all().delete()
    call_command("resume_trading", reason="r", stdout=StringIO())
    assert not TradingHalt.objects.get().is_halted


@pytest.fixture
def unsafe(demo: ExchangeAccount, monkeypatch: pytest.MonkeyPatch) -> ExchangeAccount:
    """Return a live account that is halted, and whose key may withdraw."""
    make_live(demo)
    ExchangeAccount.objects.update(is_enabled=True)
    monkeypatch.setattr(
        trading_state, "ask_for_key_problems", lambda _account: ["withdrawals is enabled"]
    )
    return ExchangeAccount.objects.get()


def test_a_live_account__is_not_resumed_with_an_unsafe_key(unsafe: ExchangeAccount) -> None:
    draft = drafted(replace(KINDS["resume"], set_up=lambda account: None), unsafe)
    carl = person("carl", KINDS["resume"], account=unsafe)
    assert "the key is not safe: withdrawals is enabled" in publish(carl, draft)
    assert state(unsafe) == "HALTED"
    draft.refresh_from_db()
    assert draft.state == "waiting"


@pytest.mark.parametrize("rule", ["key", "resume"])
def test_an_unsafe_key__needs_two_superusers(unsafe: ExchangeAccount, rule: str) -> None:
    ReviewRule.objects.create(kind=rule)
    boss = person("boss", KINDS["resume everything"])
    options = {"account": "demo", "despite_unsafe_key_as": "boss"}
    assert "somebody other than boss" in command(**options)
    assert state(unsafe) == "HALTED"
    draft = ChangeDraft.objects.get()
    assert (draft.kind, draft.maker) == ("key", "boss")
    assert draft.after == {"trading_state": "ACTIVE", "despite_unsafe_key": True}
    assert "Another person must publish it" in publish(boss, draft)
    carl = person("carl", KINDS["resume"], account=unsafe)
    assert carl.post(f"{LIST}{draft.pk}/publish/", CONFIRMED).status_code == 403
    assert "Published." in publish(person("chef", KINDS["resume everything"]), draft)
    assert state(unsafe) == "ACTIVE"
    assert "resume_despite_unsafe_key" in verbs()


def test_an_unsafe_key__without_a_rule_needs_one_superuser(unsafe: ExchangeAccount) -> None:
    person("boss", KINDS["resume everything"])
    call_command(
        "resume_trading",
        account="demo",
        reason="r",
        despite_unsafe_key_as="boss",
        stdout=StringIO(),
    )
    assert state(unsafe) == "ACTIVE"


def test_publish__refuses_the_maker_even_without_a_page(demo: ExchangeAccount) -> None:
    """The page asks as well, but any other caller must meet the same rule."""
    anna = User.objects.create_superuser("anna")
    draft = drafts.make(
        ChangeDraft(kind=ReviewKind.RESUME, account=demo, act="resume", reason="calm", maker="anna")
    )
    applied: list[bool] = []

    with pytest.raises(drafts.NotPublished):
        drafts.publish(draft, checker=anna, reason="mine", apply=lambda: applied.append(True))

    assert applied == []
    assert ChangeDraft.objects.get().state == "waiting"
