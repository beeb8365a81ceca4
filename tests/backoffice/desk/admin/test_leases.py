"""See who holds a lease, and take it away, on the page of the leases."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.test import Client

from exchanges.db.leases import acquire, held_leases
from exchanges.models import Lease, LeaseChange

pytestmark = pytest.mark.django_db

LIST = "/admin/exchanges/lease/"
NAME = "sync:main"


@pytest.fixture(autouse=True)
def _held() -> None:
    acquire(NAME, "worker-1:abc", 20)


def choose(action: str = "release_selected") -> dict[str, Any]:
    return {"action": action, "_selected_action": [NAME]}


def answer(action: str = "release_selected", **more: Any) -> dict[str, Any]:
    confirmed = {"confirmed": "yes", "reason": "it hangs", f"seen_{NAME}": "worker-1:abc"}
    return choose(action) | confirmed | more


def answers(response: Any) -> list[str]:
    return [str(message) for message in get_messages(response.wsgi_request)]


def signed_in(client: Client, *permissions: str) -> Client:
    user = User.objects.create_user("casey", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=[*permissions, "all_accounts"])
    )
    client.force_login(user)
    return client


def test_release__frees_the_lease_and_names_the_person(client: Client) -> None:
    staff = signed_in(client, "view_lease", "view_leasechange", "release_lease")
    assert "worker-1:abc" in staff.get(LIST).content.decode()
    html = staff.post(LIST, choose()).content.decode()
    assert f'name="seen_{NAME}" value="worker-1:abc"' in html
    assert held_leases().exists()

    response = staff.post(LIST, answer())

    assert (response.status_code, answers(response)) == (302, ["sync:main: Lease released."])
    assert not held_leases().exists()
    change = LeaseChange.objects.get()
    assert (change.name, change.holder, change.seconds) == (NAME, "worker-1:abc", None)
    assert (change.actor, change.reason) == ("casey", "it hangs")
    assert "worker-1:abc" not in staff.get(LIST).content.decode()
    assert "it hangs" in staff.get("/admin/exchanges/leasechange/").content.decode()


def test_hold__keeps_workers_from_the_work(boss: Client) -> None:
    assert 'name="seconds"' in boss.post(LIST, choose("hold_selected")).content.decode()
    for wrong in ("", "0", "3601", "soon"):
        response = boss.post(LIST, answer("hold_selected", seconds=wrong))
        assert response.context["form"].errors
    response = boss.post(LIST, answer("hold_selected", seconds="60"))
    assert answers(response) == ["sync:main: Lease held by you."]
    assert Lease.objects.get().holder == "boss"
    assert not acquire(NAME, "worker-2:def", 20)
    assert LeaseChange.objects.get().seconds == 60


def test_release__takes_nothing_from_a_newer_holder(boss: Client) -> None:
    boss.post(LIST, answer())
    assert acquire(NAME, "worker-2:def", 20)
    response = boss.post(LIST, answer())  # A second press, of a page that showed the old holder.
    assert answers(response)[-1] == "sync:main: Nothing was changed: its holder has gone."
    assert Lease.objects.get().holder == "worker-2:def"
    assert LeaseChange.objects.count() == 1


def test_release__needs_a_reason(boss: Client) -> None:
    assert boss.post(LIST, answer(reason=" ")).context["form"].errors
    assert held_leases().exists()


def test_release__is_refused_without_its_permission(client: Client) -> None:
    staff = signed_in(client, "view_lease")
    assert "release_selected" not in staff.get(LIST).content.decode()
    staff.post(LIST, answer())
    staff.post(LIST, answer("hold_selected", seconds="60"))
    assert held_leases().get().holder == "worker-1:abc"
    assert not LeaseChange.objects.exists()
