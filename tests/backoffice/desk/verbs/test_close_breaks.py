"""Close reconciliation breaks by hand, on their list and on a break's page."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.test import Client

from orders.models import ReconciliationBreak, Resolution
from orders.recording.breaks import close_by_hand
from tests.factories import ReconciliationBreakFactory

pytestmark = pytest.mark.django_db

LIST = "/admin/orders/reconciliationbreak/"
ANSWER = {"confirmed": "yes", "resolution": Resolution.ACCEPTED.value, "reason": "dust"}


def page(row: ReconciliationBreak) -> str:
    return f"{LIST}{row.pk}/close/"


def choose(*rows: ReconciliationBreak) -> dict[str, Any]:
    return {"action": "close_selected", "_selected_action": [str(row.pk) for row in rows]}


def answers(response: Any) -> list[str]:
    return [str(message) for message in get_messages(response.wsgi_request)]


def signed_in(client: Client, *permissions: str) -> Client:
    user = User.objects.create_user("casey", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=[*permissions, "all_accounts"])
    )
    client.force_login(user)
    return client


def test_close_this__stores_the_resolution_the_reason_and_the_name(client: Client) -> None:
    row = ReconciliationBreakFactory()
    staff = signed_in(client, "view_reconciliationbreak", "close_break")
    assert page(row) in staff.get(f"{LIST}{row.pk}/change/").content.decode()
    assert "accepted difference" in staff.get(page(row)).content.decode()

    response = staff.post(page(row), ANSWER)

    assert response.headers["Location"] == f"{LIST}{row.pk}/change/"
    row.refresh_from_db()
    assert row.resolved_at is not None
    assert row.resolution == "accepted difference, closed by casey: dust"
    assert page(row) not in staff.get(f"{LIST}{row.pk}/change/").content.decode()


@pytest.mark.parametrize("wrong", [{"reason": " "}, {"resolution": ""}, {"resolution": "gone"}])
def test_close_this__needs_a_known_resolution_and_a_reason(
    boss: Client, wrong: dict[str, str]
) -> None:
    row = ReconciliationBreakFactory()
    response = boss.post(page(row), ANSWER | wrong)
    assert response.context["form"].errors
    row.refresh_from_db()
    assert row.resolved_at is None


def test_close_this__changes_nothing_the_second_time(boss: Client) -> None:
    row = ReconciliationBreakFactory()
    boss.post(page(row), ANSWER)
    row.refresh_from_db()
    first = (row.resolved_at, row.resolution)
    response = boss.post(page(row), ANSWER | {"reason": "another"})
    assert answers(response)[-1].endswith("Already closed.")
    row.refresh_from_db()
    assert (row.resolved_at, row.resolution) == first


def test_close_selected__closes_each_and_answers_for_each(boss: Client) -> None:
    rows = [ReconciliationBreakFactory(), ReconciliationBreakFactory()]
    close_by_hand(rows[1], resolution=Resolution.MATCHES, reason="seen", actor="casey")
    html = boss.post(LIST, choose(*rows)).content.decode()
    assert "Already closed." in html
    address = f"{LIST}?state=open"
    response = boss.post(address, choose(*rows) | ANSWER)
    assert response.headers["Location"] == address
    assert sorted(text.rpartition(": ")[2] for text in answers(response)) == [
        "Already closed.",
        "Break closed.",
    ]
    assert set(ReconciliationBreak.objects.values_list("resolution", flat=True)) == {
        "accepted difference, closed by boss: dust",
        "matches the exchange now, closed by casey: seen",
    }


def test_close__is_refused_without_its_permission(client: Client) -> None:
    row = ReconciliationBreakFactory()
    staff = signed_in(client, "view_reconciliationbreak")
    assert "close_selected" not in staff.get(LIST).content.decode()
    assert page(row) not in staff.get(f"{LIST}{row.pk}/change/").content.decode()
    assert staff.get(page(row)).status_code == 403
    assert staff.post(page(row), ANSWER).status_code == 403
    staff.post(LIST, choose(row) | ANSWER)
    row.refresh_from_db()
    assert row.resolved_at is None


def test_close_by_hand__needs_a_reason() -> None:
    row = ReconciliationBreakFactory()
    with pytest.raises(ValueError, match="reason"):
        close_by_hand(row, resolution=Resolution.MATCHES, reason=" ", actor="casey")
