"""Describe rows as JSON, for the journal and for the state that a person saw."""

from __future__ import annotations

from typing import Any

from django.db import models

from backoffice.people.journal.chain import plain_json

# A hash of a password is a secret, too.
_NEVER_SHOWN = {"password"}
_NOT_BY_PEOPLE = {"id", "last_login", "date_joined"}


def values_of(obj: models.Model) -> dict[str, Any]:
    """Return the fields of a row as JSON, with names instead of keys of other rows."""
    found: dict[str, Any] = {}
    for field in obj._meta.fields:  # noqa: SLF001
        if field.name in _NEVER_SHOWN | _NOT_BY_PEOPLE:
            continue
        value = getattr(obj, field.name)
        found[field.name] = str(value) if isinstance(value, models.Model) else value
    for many in obj._meta.many_to_many:  # noqa: SLF001
        found[many.name] = sorted(map(str, getattr(obj, many.name).all()))
    shown: dict[str, Any] = plain_json(found)
    return shown


def differences(
    before: dict[str, Any], after: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return only the fields that differ, on either side."""
    names = [name for name in after if before.get(name) != after[name]]
    return {name: before[name] for name in names if name in before}, {
        name: after[name] for name in names
    }
