"""Nobody gets more rights than their own from the pages of people and roles."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

pytestmark = pytest.mark.django_db
PEOPLE = ("add_user", "change_user", "view_user", "add_group", "change_group", "view_group")
OWN = (*PEOPLE, "cancel_order")


def role(name: str, *codenames: str) -> Group:
    group = Group.objects.create(name=name)
    group.permissions.set(Permission.objects.filter(codename__in=codenames))
    return group


@pytest.fixture
def clerk(client: Client) -> User:
    """Return a person who looks after people, and is signed in."""
    user = User.objects.create_user("clerk", is_staff=True)
    user.groups.add(role("Clerks", *OWN))
    client.force_login(user)
    return user


def page(row: User | Group) -> str:
    return f"/admin/auth/{row._meta.model_name}/{row.pk}/change/"


def form_of(user: User, **changes: object) -> dict[str, object]:
    base = {"username": user.username, "is_active": "on", "is_staff": "on", "groups": []}
    return base | {"date_joined_0": "2026-01-01", "date_joined_1": "00:00:00"} | changes


def test_user__gets_only_roles_within_the_rights_of_who_gives_them(
    client: Client, clerk: User
) -> None:
    ann = User.objects.create_user("ann", is_staff=True)
    within, above = role("Cancelers", "cancel_order"), role("Risk", "resume_trading")
    client.post(page(ann), form_of(ann, groups=[within.pk]))
    assert [*ann.groups.all()] == [within]
    client.post(page(ann), form_of(ann, groups=[within.pk, above.pk]))
    client.post(page(ann), form_of(ann, is_superuser="on", groups=[within.pk]))
    ann.refresh_from_db()
    assert [*ann.groups.all()] == [within]
    assert not ann.is_superuser
    client.post(page(clerk), form_of(clerk, is_superuser="on", groups=[above.pk]))
    clerk.refresh_from_db()
    assert not clerk.is_superuser
    assert above not in clerk.groups.all()


def test_user__keeps_the_login_that_records_name(client: Client) -> None:
    """A maker with another name would be another person."""
    boss = User.objects.create_superuser("boss")
    client.force_login(boss)
    client.post(page(boss), form_of(boss, username="chef", is_superuser="on", first_name="Ann"))
    boss.refresh_from_db()
    assert (boss.username, boss.first_name) == ("boss", "Ann")


@pytest.mark.parametrize("how", ["role", "own right", "superuser"])
def test_user__with_more_rights_cannot_be_changed(client: Client, clerk: User, how: str) -> None:
    """Not even the password, with which the other could sign in as that person."""
    boss = User.objects.create_user("boss", is_staff=True, is_superuser=how == "superuser")
    if how == "role":
        boss.groups.add(role("Risk", "resume_trading"))
    elif how == "own right":
        boss.user_permissions.add(Permission.objects.get(codename="resume_trading"))
    before = boss.password
    new = {"password1": "a-long-new-password-7", "password2": "a-long-new-password-7"}
    address = f"/admin/auth/user/{boss.pk}/password/"
    assert client.post(address, new | {"usable_password": "true"}).status_code == 403
    assert client.post(page(boss), form_of(boss, is_active="")).status_code == 403
    boss.refresh_from_db()
    assert (boss.password, boss.is_active) == (before, True)


def test_user__cannot_be_deleted(client: Client) -> None:
    client.force_login(User.objects.create_superuser("root"))
    ann = User.objects.create_user("ann")
    address = f"/admin/auth/user/{ann.pk}/delete/"
    assert client.post(address, {"post": "yes"}).status_code == 403
    action = {"action": "delete_selected", "_selected_action": [ann.pk], "post": "yes"}
    client.post("/admin/auth/user/", action)
    assert User.objects.filter(username="ann").exists()


def test_role__gets_only_rights_of_who_gives_them(client: Client, clerk: User) -> None:
    resume = Permission.objects.get(codename="resume_trading")
    cancel = Permission.objects.get(codename="cancel_order")
    own = Group.objects.get(name="Clerks")
    rights = [permission.pk for permission in own.permissions.all()]
    client.post(page(own), {"name": "Clerks", "permissions": [*rights, resume.pk]})
    assert resume not in own.permissions.all()
    client.post("/admin/auth/group/add/", {"name": "New", "permissions": [cancel.pk]})
    assert [*Group.objects.get(name="New").permissions.all()] == [cancel]
    above = role("Risk", "resume_trading")
    assert client.post(page(above), {"name": "Mine", "permissions": []}).status_code == 403
    assert [*above.permissions.all()] == [resume]


@pytest.mark.parametrize("password", ["short", "123456789012345", "password1234", "clerkclerk123"])
def test_password__that_is_weak_is_refused(client: Client, password: str) -> None:
    client.force_login(User.objects.create_superuser("root"))
    form = {"username": "clerkclerk", "password1": password, "password2": password}
    client.post("/admin/auth/user/add/", form | {"usable_password": "true"})
    assert not User.objects.filter(username="clerkclerk").exists()
