"""The roles that `migrate` makes, and the table of rights in the documents."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, Permission, User

from backoffice.people.roles import (
    ROLES,
    VIEW,
    last_application,
    setup_roles,
    setup_roles_after_migrate,
)

pytestmark = pytest.mark.django_db

TABLE = Path(settings.BASE_DIR) / "docs" / "roles.md"


def member(role: str) -> User:
    user = User.objects.create_user(f"a-{role}", is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    return user


def test_migrate__has_made_every_role() -> None:
    for role, permissions in ROLES.items():
        assert member(role).get_all_permissions() == set(permissions), role


def test_migrate__brings_a_role_back_and_keeps_its_members() -> None:
    viewer = member("Viewer")
    Group.objects.get(name="Viewer").permissions.set(
        [Permission.objects.get(codename="cancel_order")]
    )
    setup_roles_after_migrate(sender=last_application())
    assert viewer.get_all_permissions() == set(VIEW)


def test_setup_roles__says_which_permission_is_missing() -> None:
    Permission.objects.get(codename="begin_epoch").delete()
    with pytest.raises(LookupError, match=r"exchanges\.begin_epoch"):
        setup_roles()


def test_roles__separate_giving_rights_from_loosening() -> None:
    loosening = {"exchanges.resume_trading", "orders.change_risklimit", "exchanges.force_breaker"}
    assert not loosening & set(ROLES["Administrator"])
    giving = {"people.add_accountgrant", "auth.change_user", "people.all_accounts"}
    assert not any(giving & set(ROLES[role]) for role in ROLES if role != "Administrator")
    verbs = {name for name in ROLES["Auditor"] if not name.partition(".")[2].startswith("view_")}
    assert verbs == set()


def test_documents__show_the_same_table() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in TABLE.read_text().splitlines()
        if line.startswith("|")
    ]
    heading, _rule, *rows = rows
    assert heading[2:] == list(ROLES)
    shown: dict[str, set[str]] = {role: set() for role in ROLES}
    for _words, code, *cells in rows:
        names = re.findall(r"`([a-z_.]+)`", code)
        for role, cell in zip(ROLES, cells, strict=True):
            assert cell in ("yes", ""), (code, role)
            shown[role] |= set(names) if cell else set()
    for role, permissions in ROLES.items():
        assert shown[role] == set(permissions), role
