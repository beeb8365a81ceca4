"""The work queue: what waits, for how long, who works on it, and the verbs that end it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from backoffice.desk.work_queue.evidence import evidence_of
from backoffice.people.models import AccountGrant, JournalEntry
from exchanges import clock
from exchanges.account_writes import stamp
from exchanges.models import ExchangeAccount, TradingHalt, TradingState
from orders.models import ReconciliationBreak, Status
from tests.factories import ExchangeAccountFactory, OrderFactory, ReconciliationBreakFactory

pytestmark = pytest.mark.django_db

QUEUE = "/admin/desk/workitem/"


def keys(client: Client, **query: str) -> list[str]:
    response = client.get(QUEUE, query)
    assert response.status_code == 200
    return [one.key for one in response.context["waiting"]]


def do(client: Client, verb: str, *items: str, **more: Any) -> Any:
    return client.post(f"{QUEUE}do/", {"do": verb, "item": [*items], **more}, follow=True)


def someone(name: str, *codenames: str, granted: ExchangeAccount | None = None) -> Client:
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.add(*Permission.objects.filter(codename__in=codenames))
    if granted:
        AccountGrant.objects.create(account=granted, person=user)
    client = Client()
    client.force_login(user)
    return client


def test_queue__lists_what_waits_with_the_earliest_due_first(boss: Client) -> None:
    now = clock.now()
    low = ReconciliationBreakFactory(kind="UNREADABLE_EVENT", opened_at=now - timedelta(hours=2))
    worst = ReconciliationBreakFactory(kind="OVERFILL", opened_at=now)
    slow = OrderFactory(status=Status.PENDING_NEW, created_at=now - timedelta(minutes=50))
    OrderFactory(status=Status.PENDING_NEW, created_at=now - timedelta(seconds=5))  # resolves soon
    ReconciliationBreakFactory(resolved_at=now)
    halted = ExchangeAccountFactory(
        trading_state=TradingState.HALTED, trading_state_changed_at=now - timedelta(hours=3)
    )
    ExchangeAccountFactory(trading_state=TradingState.HALTED, is_enabled=False)
    assert keys(boss) == [
        f"account:{halted.pk}", f"order:{slow.pk}", f"break:{worst.pk}", f"break:{low.pk}",
    ]  # fmt: skip
    assert keys(boss, show="late") == [f"account:{halted.pk}"]
    html = boss.get(QUEUE).content.decode()
    assert "late by 2 h 0 min" in html
    TradingHalt.objects.filter(pk=TradingHalt.ROW).update(is_halted=True, reason="drill")
    assert "halt:everything" in keys(boss)


def test_queue__lists_held_orders_until_their_deadline(boss: Client) -> None:
    now = clock.now()
    held = OrderFactory(
        status=Status.HELD, reason="above 5000 USDT", place_by=now + timedelta(minutes=9)
    )
    page = boss.get(QUEUE)
    [waiting] = page.context["waiting"]
    assert (waiting.key, waiting.due_at) == (f"order:{held.pk}", held.place_by)
    html = page.content.decode()
    assert "above 5000 USDT" in html
    assert "Release or reject it" in html
    assert "<title>(1) " in html


@pytest.mark.parametrize(
    ("made", "expires", "text", "severity"),
    [
        (10, None, "", ""),
        (10, 20, "", ""),
        (10, 13, "expires in 12 d", "normal"),
        (10, -1, "expired 1 d 0 h ago", "high"),
        (366, None, "API key is 366 d", "normal"),
    ],
)
def test_queue__lists_keys_that_are_old_or_expire(
    boss: Client, made: int, expires: int | None, text: str, severity: str
) -> None:
    now, account = clock.now(), ExchangeAccountFactory()
    expires_at = None if expires is None else now + timedelta(days=expires)
    stamp(account, key_created_at=now - timedelta(days=made), key_expires_at=expires_at)
    waiting = boss.get(QUEUE).context["waiting"]
    assert [(one.key, one.severity) for one in waiting] == [
        (f"key:{account.pk}", severity) for _ in filter(None, [text])
    ]
    assert text in boss.get(QUEUE).content.decode()
    assert ("<title>(1)" in boss.get(QUEUE).content.decode()) == bool(text)


def test_queue__leaves_old_keys_alone_if_there_is_no_limit(
    boss: Client, settings: Settings
) -> None:
    settings.KEY_MAX_AGE_DAYS = 0
    stamp(ExchangeAccountFactory(), key_created_at=clock.now() - timedelta(days=4000))
    assert keys(boss) == []
    assert "4000 d" in boss.get("/admin/exchanges/exchangeaccount/").content.decode()


def test_queue__is_counted_in_the_sidebar_and_in_every_title(boss: Client) -> None:
    assert "<title>(" not in boss.get("/admin/orders/fill/").content.decode().replace("> ", ">")
    ReconciliationBreakFactory.create_batch(3)
    html = boss.get("/admin/orders/fill/").content.decode()
    assert "<title>(3) " in html
    assert boss.get(QUEUE).content.decode().count("Work queue") >= 2


def test_queue__takes_the_same_queries_for_any_number_of_things(boss: Client) -> None:
    counts = []
    for number in (1, 20):
        ReconciliationBreakFactory.create_batch(number)
        OrderFactory.create_batch(
            number, status=Status.PENDING_NEW, created_at=clock.now() - timedelta(hours=1)
        )
        with CaptureQueriesContext(connection) as queries:
            boss.get(QUEUE)
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_items__are_taken_handed_over_noted_and_given_back(boss: Client) -> None:
    key = f"break:{ReconciliationBreakFactory().pk}"
    someone("anna")
    do(boss, "take", key)
    assert keys(boss, show="mine") == [key]
    assert keys(boss, show="free") == []
    do(boss, "note", key, note="asked <b>the exchange</b>")
    html = do(boss, "hand_over", key, person="anna", **{f"owner:{key}": "boss"}).content.decode()
    assert "asked &lt;b&gt;the exchange&lt;/b&gt;" in html
    assert "owner is now anna" in html
    do(boss, "give_back", key, **{f"owner:{key}": "anna"})
    assert keys(boss, show="free") == [key]
    acts = [
        (row.before, row.after)
        for row in JournalEntry.objects.filter(verb="give_work_item").order_by("pk")
    ]
    assert acts == [
        ({"owner": ""}, {"owner": "boss"}),
        ({"owner": "boss"}, {"owner": "anna"}),
        ({"owner": "anna"}, {"owner": ""}),
    ]


def test_items__have_one_owner_if_two_take_them_at_once(boss: Client) -> None:
    row = ReconciliationBreakFactory()
    key = f"break:{row.pk}"
    rights = ("view_workitem", "work", "view_reconciliationbreak")
    anna = someone("anna", *rights, granted=row.account)
    do(boss, "take", key)
    answer = do(anna, "take", key)  # her page still shows no owner
    assert "another person was faster" in answer.content.decode()
    assert keys(boss, show="mine") == [key]


def test_items__that_no_longer_wait_are_skipped_with_an_answer(boss: Client) -> None:
    row = ReconciliationBreakFactory()
    ReconciliationBreak.objects.update(resolved_at=clock.now())
    assert "No longer waiting: 1" in do(boss, "take", f"break:{row.pk}").content.decode()


def test_breaks__are_closed_in_bulk_with_a_resolution_and_a_reason(boss: Client) -> None:
    first, second = ReconciliationBreakFactory.create_batch(2)
    order = OrderFactory(status=Status.PENDING_NEW, created_at=clock.now() - timedelta(hours=1))
    chosen = [f"break:{first.pk}", f"break:{second.pk}", f"order:{order.pk}"]
    page = do(boss, "close", *chosen).content.decode()
    assert "Close by hand?" in page
    assert "aren&#x27;t breaks: 1" in page
    answer = {"confirmed": "yes", "resolution": "corrected by hand", "reason": "checked"}
    boss.post(
        f"{QUEUE}do/",
        {"action": "close_selected", "_selected_action": [first.pk, second.pk], **answer},
    )
    assert keys(boss) == [f"order:{order.pk}"]
    first.refresh_from_db()
    assert first.resolution == "corrected by hand, closed by boss: checked"


def test_queue__shows_only_what_the_person_may_view() -> None:
    row = ReconciliationBreakFactory()
    anna = someone("anna", "view_workitem", "view_order", granted=row.account)
    assert keys(anna) == []
    assert do(anna, "take", "break:1").status_code == 403
    assert someone("bert").get(QUEUE).status_code == 403
    rights = ("view_workitem", "work", "view_reconciliationbreak")
    assert keys(someone("dora", *rights)) == []  # the account was not granted
    closer = someone("carl", *rights, granted=row.account)
    assert do(closer, "close", keys(closer)[0]).status_code == 403


def test_evidence__stands_side_by_side_with_the_difference_marked(boss: Client) -> None:
    row = ReconciliationBreakFactory(
        kind="DIFFERENT_ORDER",
        details={"quantity": "ours 1.5, theirs 2", "note": "<script>"},
    )
    pair, note = evidence_of(row)
    assert (pair.ours, pair.theirs, pair.differs) == ("1.5", "2", True)
    assert (note.theirs, note.differs) == ("<script>", False)
    balance = ReconciliationBreakFactory(
        kind="BALANCE_MISMATCH", details={"by open orders": "1", "by the exchange": "1.5"}
    )
    assert [(one.ours, one.theirs) for one in evidence_of(balance)] == [("1", "1.5")]
    ids = ReconciliationBreakFactory(
        kind="CLIENT_ID_REUSED", details={"ours": "bo-1", "number": "7", "theirs": "bo-1"}
    )
    assert [(one.field, one.ours, one.theirs) for one in evidence_of(ids)] == [
        ("client order ID", "bo-1", "bo-1"),
        ("exchange order ID", "", "7"),
    ]
    html = boss.get(QUEUE).content.decode()
    assert '<tr class="desk-differs"><th scope="row">quantity ≠</th>' in html
    assert "<script>" not in html.partition('class="desk-work"')[2].partition("</ul>")[0]
