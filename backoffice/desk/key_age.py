"""Show the age of an account's API key, and whether it should be replaced."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from backoffice.desk.lists.columns import EMPTY, duration, label
from exchanges import clock
from exchanges.models import AccountSync

#: A key that expires is named so long before.
AHEAD = timedelta(days=14)


def is_due(path: str = "") -> Q:
    """Return the condition for a key that expires soon, has expired, or is too old."""
    found = Q(**{f"{path}key_expires_at__lte": clock.now() + AHEAD})
    if settings.KEY_MAX_AGE_DAYS:
        found |= Q(**{f"{path}key_created_at__lte": clock.now() - _longest()})
    return found


def due_keys() -> QuerySet[AccountSync]:
    return AccountSync.objects.filter(is_due(), account__is_enabled=True)


def due_since(row: AccountSync) -> datetime | None:
    """Return the moment from which on the key should be replaced, None if there is none."""
    moments = []
    if row.key_expires_at:
        moments.append(row.key_expires_at - AHEAD)
    if row.key_created_at and settings.KEY_MAX_AGE_DAYS:
        moments.append(row.key_created_at + _longest())
    return min(moments, default=None)


def has_expired(row: AccountSync) -> bool:
    return row.key_expires_at is not None and row.key_expires_at <= clock.now()


def key_text(row: AccountSync) -> str:
    """Return the age of the key and its end in words."""
    parts = []
    if row.key_created_at:
        age = duration(clock.now() - row.key_created_at)
        parts.append(_("API key is %(age)s old") % {"age": age})
    if row.key_expires_at:
        left = row.key_expires_at - clock.now()
        span = {"span": duration(abs(left))}
        is_over = left <= timedelta()
        parts.append((_("expired %(span)s ago") if is_over else _("expires in %(span)s")) % span)
    return ", ".join(parts)


def key_label(row: AccountSync | None) -> str:
    """Return the age for a list, marked if the key should be replaced."""
    if row is None or (row.key_created_at is None and row.key_expires_at is None):
        return EMPTY
    age = duration(clock.now() - row.key_created_at) if row.key_created_at else EMPTY
    if has_expired(row):
        return label(_("expired"), "danger")
    due_from = due_since(row)
    return label(age, "warning") if due_from and due_from <= clock.now() else age


def _longest() -> timedelta:
    return timedelta(days=settings.KEY_MAX_AGE_DAYS)
