"""Refuse to save a page of the admin whose record has changed since the person opened it."""

from __future__ import annotations

import json
from collections.abc import Collection
from hashlib import sha256
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Model
from django.http import HttpRequest
from django.utils.translation import gettext as _

from backoffice.people.row_values import values_of

SEEN = "seen_state"


class FreshForms:
    """Mixin for a ModelAdmin, left of it: a page that is out of date can't be saved.

    Such a page would write the values that the person saw over those of another person. A form
    carries the state that it shows, and is compared with the row under its lock.
    """

    change_form_before_template = "people/seen_state.html"

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)  # type: ignore[misc]
        if obj is None:
            return form

        class Fresh(_FreshForm, form):  # type: ignore[misc, valid-type]
            pass

        return Fresh


class _FreshForm:
    data: Any
    instance: Model
    base_fields: dict[str, Any]

    @property
    def seen_state(self) -> str:
        """Return the state that the person sees, or saw when the page was opened."""
        return self.data.get(SEEN) or state_of(self.instance, self.base_fields)

    def clean(self) -> Any:
        cleaned = super().clean()  # type: ignore[misc]
        seen = self.data.get(SEEN)
        rows = type(self.instance)._default_manager.select_for_update()  # noqa: SLF001
        if seen is not None and seen != state_of(rows.get(pk=self.instance.pk), self.base_fields):
            raise ValidationError(
                _(
                    "The record has changed since you opened this page. Nothing was saved."
                    " Open the page again and make your change there."
                )
            )
        return cleaned


def state_of(row: Model, names: Collection[str] | None = None) -> str:
    """Return a name for the state of these fields of a row, by default of all."""
    values = values_of(row)
    if names is not None:
        values = {name: values[name] for name in names if name in values}
    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
