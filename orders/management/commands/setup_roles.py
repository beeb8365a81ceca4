"""Makes the groups Viewer and Trader, or brings them up to date."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, Permission
from django.core.management.base import BaseCommand
from django.db.models import Q

RECORDS = {
    "orders": (
        *("order", "exchangeorder", "fill", "orderevent", "position", "reconciliationbreak"),
        *("risklimit", "risklimitchange"),
    ),
    "exchanges": ("exchangeaccount", "breakerchange", "tradinghalt", "instrument", "balance"),
}
VIEW = tuple(f"{app}.view_{model}" for app, models in RECORDS.items() for model in models)
# Who sees trouble may stop trading; to resume takes someone with the permission of their own.
ROLES: dict[str, tuple[str, ...]] = {
    "Viewer": VIEW,
    "Trader": (
        *VIEW,
        "orders.cancel_order",
        "orders.simulate_gate",
        "exchanges.halt_trading",
        "exchanges.reconcile_account",
    ),
}


def setup_roles() -> None:
    """Give each group exactly its permissions. What a person holds beside their groups stays."""
    for name, permissions in ROLES.items():
        group, _created = Group.objects.get_or_create(name=name)
        group.permissions.set(_named(permissions))


def _named(permissions: tuple[str, ...]) -> list[Permission]:
    wanted = Q()
    for permission in permissions:
        app, _dot, codename = permission.partition(".")
        wanted |= Q(content_type__app_label=app, codename=codename)
    found = list(Permission.objects.filter(wanted))
    if len(found) != len(permissions):
        raise LookupError("permissions are missing: run migrate first")
    return found


class Command(BaseCommand):
    help = (
        "Make the groups Viewer (looks) and Trader (looks, asks the gate, cancels orders, halts trading, has accounts"
        " compared), or bring them up to date."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        setup_roles()
        self.stdout.write(f"Groups: {', '.join(ROLES)}")
