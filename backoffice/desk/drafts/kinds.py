"""Define each kind of draft: the right it needs, how it is applied, and its difference."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.http import HttpRequest
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from backoffice.desk.drafts import forms as drafted_forms
from backoffice.desk.lists.columns import EMPTY, utc
from backoffice.people import resuming
from backoffice.people.grants import has_every_account
from backoffice.people.models import ChangeDraft
from orders.models import ReviewKind

_RESUMING = (ReviewKind.RESUME, ReviewKind.KEY)


def may_do(request: HttpRequest, draft: ChangeDraft) -> bool:
    """Return whether the person could do the drafted change without a draft."""
    if draft.account_id is None and not has_every_account(request.user):
        return False
    match draft.kind:
        case ReviewKind.KEY:
            return bool(getattr(request.user, "is_superuser", False))
        case ReviewKind.RESUME:
            return request.user.has_perm("exchanges.resume_trading")
    return drafted_forms.may_save(request, admin.site, draft)


def ask_outside(draft: ChangeDraft) -> None:
    """Read the facts that the change depends on from the exchange, before the transaction."""
    if draft.kind in _RESUMING:
        resuming.require_safe_key(draft)


def apply(request: HttpRequest, draft: ChangeDraft) -> None:
    """Apply the draft, in the caller's transaction."""
    if draft.kind in _RESUMING:
        resuming.apply(draft, actor=request.user.get_username())
    else:
        drafted_forms.save(request, admin.site, draft)


@dataclass(frozen=True, slots=True)
class Difference:
    """One field on both sides."""

    field: str
    before: str
    after: str


def differences_of(draft: ChangeDraft) -> list[Difference]:
    """Return the draft's changes, field by field, in words."""
    model = apps.get_model(draft.target)
    names = {**draft.before, **draft.after}
    return [
        Difference(
            _name(model, name),
            _value(model, name, draft.before.get(name)),
            _value(model, name, draft.after.get(name)),
        )
        for name in names
        if draft.before.get(name) != draft.after.get(name)
    ]


def _name(model: type[models.Model], name: str) -> str:
    if name == "despite_unsafe_key":
        return _("Although the key is not safe")
    try:
        field: Any = model._meta.get_field(name)  # noqa: SLF001
    except FieldDoesNotExist:
        return name
    return str(capfirst(field.verbose_name))


def _value(model: type[models.Model], name: str, value: Any) -> str:
    if value is None or value == "":
        return EMPTY
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    try:
        field: Any = model._meta.get_field(name)  # noqa: SLF001
    except FieldDoesNotExist:
        return str(value)
    if isinstance(field, models.DateTimeField):
        return utc(datetime.fromisoformat(value))
    labels = dict(field.flatchoices) if hasattr(field, "flatchoices") else {}
    return str(labels.get(value, value))
