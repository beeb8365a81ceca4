"""Decide which accounts a person sees and acts on.

A superuser, and a person with the permission `people.all_accounts`, has every account. Everybody
else has the accounts that were granted to the person or to one of the person's roles. So a new
account belongs to administrators only.
"""

from __future__ import annotations

from typing import Any, TypeVar

from django.db.models import Model, Q, QuerySet

from backoffice.people.models import AccountGrant
from exchanges.models import ExchangeAccount

ALL_ACCOUNTS = "people.all_accounts"

Row = TypeVar("Row", bound=Model)


def account_ids(user: Any) -> frozenset[int] | None:
    """Return the accounts granted to the user, or None for every account.

    The answer is kept with the user, so one request asks once.
    """
    if not hasattr(user, "granted_accounts"):
        user.granted_accounts = _account_ids(user)
    found: frozenset[int] | None = user.granted_accounts
    return found


def _account_ids(user: Any) -> frozenset[int] | None:
    if user.has_perm(ALL_ACCOUNTS):
        return None
    if not (user.is_authenticated and user.is_active):
        return frozenset()
    rows = AccountGrant.objects.filter(Q(person=user.pk) | Q(role__user=user.pk))
    return frozenset(rows.values_list("account_id", flat=True))


def accounts_of(user: Any) -> QuerySet[ExchangeAccount]:
    """Return the accounts that the user may see and act on, by name."""
    return narrow(ExchangeAccount.objects.order_by("name"), user, path="")


def narrow(rows: QuerySet[Row], user: Any, *, path: str = "account") -> QuerySet[Row]:
    """Keep the rows of the user's accounts. `path` leads from a row to its account."""
    granted = account_ids(user)
    if granted is None:
        return rows
    return rows.filter(**{f"{path}__in" if path else "pk__in": granted})


def may_act_on(user: Any, account_id: int) -> bool:
    """Return whether the user has this account."""
    granted = account_ids(user)
    return granted is None or account_id in granted


def has_every_account(user: Any) -> bool:
    """Return whether the user has all accounts that exist, so that a halt of all is the user's."""
    granted = account_ids(user)
    if granted is None:
        return True
    return bool(granted) and not ExchangeAccount.objects.exclude(pk__in=granted).exists()


def account_names(user: Any) -> list[str] | None:
    """Return the names of the user's accounts, or None for every account."""
    if account_ids(user) is None:
        return None
    return list(accounts_of(user).values_list("name", flat=True))
