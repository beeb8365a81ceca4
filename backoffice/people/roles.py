"""The roles that a person can have, and their permissions. `docs/roles.md` shows the same table.

`manage.py migrate` makes the roles and gives each exactly these permissions. A role says which
verbs a person has. On which accounts is the business of the grants (`backoffice.people.grants`).
"""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig, apps
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Group, Permission

RECORDS = {
    "orders": (
        *("order", "exchangeorder", "fill", "orderevent", "position", "reconciliationbreak"),
        *("risklimit", "risklimitchange", "reviewrule"),
    ),
    "exchanges": (
        *("exchangeaccount", "breakerchange", "tradinghalt", "instrument", "balance"),
        *("lease", "leasechange", "dutyrun"),
    ),
    "desk": ("workitem",),
    "people": ("changedraft",),
}
VIEW = tuple(f"{app}.view_{model}" for app, models in RECORDS.items() for model in models)
PEOPLE = (
    *("auth.view_user", "auth.view_group"),
    *("people.view_accountgrant", "people.view_linkedlogin"),
)

# Anyone who sees trouble may stop trading. Resuming needs a permission of its own. Nobody who
# gives rights has the verbs that loosen: an administrator neither resumes nor sets limits.
ROLES: dict[str, tuple[str, ...]] = {
    "Viewer": VIEW,
    "Trader": (
        *VIEW,
        "desk.work",
        "orders.cancel_order",
        "orders.simulate_gate",
        "orders.place_by_hand",
        "exchanges.halt_trading",
        "exchanges.reconcile_account",
    ),
    "Risk officer": (
        *VIEW,
        "desk.work",
        "people.view_journalentry",
        "people.publish_changedraft",
        "orders.cancel_order",
        "orders.simulate_gate",
        "orders.release_order",
        "orders.declare_lost",
        "orders.close_break",
        "orders.mark_symbol_gone",
        "orders.add_risklimit",
        "orders.change_risklimit",
        "orders.delete_risklimit",
        "exchanges.halt_trading",
        "exchanges.resume_trading",
        "exchanges.force_breaker",
        "exchanges.reconcile_account",
    ),
    "Administrator": (
        *VIEW,
        *PEOPLE,
        "people.all_accounts",
        "people.view_journalentry",
        "people.publish_changedraft",
        "people.add_accountgrant",
        "people.delete_accountgrant",
        "people.add_linkedlogin",
        "people.change_linkedlogin",
        "people.delete_linkedlogin",
        "orders.add_reviewrule",
        "orders.change_reviewrule",
        "orders.delete_reviewrule",
        "auth.add_user",
        "auth.change_user",
        "exchanges.add_exchangeaccount",
        "exchanges.change_exchangeaccount",
        "exchanges.halt_trading",
        "exchanges.reconcile_account",
        "exchanges.begin_epoch",
        "exchanges.release_lease",
    ),
    "Auditor": (*VIEW, *PEOPLE, "people.view_journalentry"),
}


def setup_roles_after_migrate(sender: AppConfig, **_: Any) -> None:
    """Bring the roles up to date once the last application has its tables."""
    if sender is not last_application():
        return
    for label in {name.partition(".")[0] for names in ROLES.values() for name in names}:
        create_permissions(apps.get_app_config(label), verbosity=0)
    setup_roles()


def last_application() -> AppConfig:
    """Return the last application with tables: `migrate` reports no other."""
    return [config for config in apps.get_app_configs() if config.models_module][-1]


def setup_roles() -> None:
    """Give each role exactly its permissions. Other permissions of its members stay.

    Raises `LookupError` when the database lacks one of the permissions.
    """
    known = {
        f"{app}.{codename}": pk
        for pk, app, codename in Permission.objects.values_list(
            "pk", "content_type__app_label", "codename"
        )
    }
    groups = {group.name: group for group in Group.objects.prefetch_related("permissions")}
    for name, wanted in ROLES.items():
        missing = [permission for permission in wanted if permission not in known]
        if missing:
            raise LookupError(f"permissions are missing, run migrate first: {', '.join(missing)}")
        group = groups.get(name) or Group.objects.get_or_create(name=name)[0]
        keys = {known[permission] for permission in wanted}
        if keys != {permission.pk for permission in group.permissions.all()}:
            group.permissions.set(keys)
