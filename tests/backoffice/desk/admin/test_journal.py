"""The page of the journal: its search, the records' links to it, and the export."""

from __future__ import annotations

import csv
from hashlib import sha256
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.test import Client

from backoffice.people.models import JournalEntry
from exchanges import acts
from tests.factories import OrderFactory

pytestmark = pytest.mark.django_db

LIST = "/admin/people/journalentry/"


def shown(client: Client, query: str) -> set[str]:
    """Return the records that the list shows."""
    page = client.get(f"{LIST}?{query}")
    assert page.status_code == 200
    return {row.subject for row in page.context["cl"].result_list}


@pytest.fixture
def _acts() -> None:
    acts.record_act("halt", actor="rule:loss", subject="account:demo", account="demo")
    acts.record_act("export", actor="rule:x", subject="journal", reason="=1+1")


@pytest.mark.usefixtures("_acts")
def test_list__is_searched_by_person_verb_record_and_time(boss: Client) -> None:
    assert shown(boss, "") >= {"account:demo", "journal"}
    assert shown(boss, "person=rule:loss") == {"account:demo"}
    assert shown(boss, "verb=export") == {"journal"}
    assert shown(boss, "record=account:demo") == {"account:demo"}
    assert shown(boss, "q=account:demo") == {"account:demo"}
    assert shown(boss, "at_from_0=2999-01-01") == set()


def test_who_touched_this__leads_to_the_acts_on_an_order(boss: Client) -> None:
    order = OrderFactory()
    boss.post(f"/admin/orders/order/{order.pk}/cancel/", {"confirmed": "1", "reason": "wrong"})
    answer = boss.get(f"/admin/orders/order/{order.pk}/journal/")
    assert answer.status_code == 302
    assert shown(boss, answer["Location"].partition("?")[2]) == {f"order:{order.pk}"}
    assert shown(boss, f"q={order.intent_id}") == {f"order:{order.pk}"}


@pytest.mark.usefixtures("_acts")
def test_export__carries_its_hash_and_is_recorded(boss: Client) -> None:
    answer = boss.get(f"{LIST}export/?verb=export")
    content = b"".join(answer.streaming_content)  # type: ignore[attr-defined]
    name = sha256(content).hexdigest()
    assert answer["X-Content-SHA256"] == name
    assert name in answer["Content-Disposition"]
    (row,) = csv.DictReader(StringIO(content.decode()))
    assert (row["subject"], row["reason"]) == ("journal", "'=1+1")
    entry = JournalEntry.objects.order_by("-id")[0]
    assert (entry.verb, entry.after["sha256"], entry.after["rows"]) == ("export", name, 1)


@pytest.mark.parametrize("address", [LIST, f"{LIST}1/change/", f"{LIST}export/"])
def test_journal__is_refused_without_the_permission(client: Client, address: str) -> None:
    client.force_login(User.objects.create_user("anna", is_staff=True))
    assert client.get(address).status_code == 403


def test_journal__changes_nothing_even_for_a_superuser(boss: Client) -> None:
    acts.record_act("halt", actor="rule:loss", subject="account:demo")
    before = list(JournalEntry.objects.values())
    for address in ("add/", "1/delete/", "1/change/"):
        assert boss.post(f"{LIST}{address}", {"reason": "x"}).status_code == 403
    assert [*JournalEntry.objects.filter(pk__lte=len(before)).values()] == before[::1]
