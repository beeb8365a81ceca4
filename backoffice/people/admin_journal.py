"""Record in the journal what people change through the forms of the admin."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest

from backoffice.people.fresh_forms import FreshForms
from backoffice.people.row_values import differences, values_of
from backoffice.web.lookups import DeclaredLookups
from exchanges.acts import record_act


class JournaledAdmin(FreshForms, DeclaredLookups):
    """Mixin for a ModelAdmin, left of it: each addition, change and deletion is one act.

    The entry is written in the transaction of the change.
    """

    model: Any
    opts: Any

    def subject_of(self, obj: Any) -> str:
        """Name the record in the journal."""
        return f"{self.opts.model_name}:{obj.pk}"

    def account_of(self, obj: Any) -> str:
        """Return the name of the account that the record belongs to, or an empty text."""
        account = getattr(obj, "account", None)
        return str(account.name) if account is not None else ""

    def save_model(self, request: Any, obj: Any, form: Any, change: bool) -> None:
        self.remember_before(request, obj, change=change)
        super().save_model(request, obj, form, change)  # type: ignore[misc]

    def remember_before(self, request: Any, obj: Any, *, change: bool) -> None:
        """Keep the stored values for the entry that follows the change."""
        before = self.model.objects.filter(pk=obj.pk).first() if change else None
        request.journal_before = values_of(before) if before else {}

    def save_related(self, request: Any, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)  # type: ignore[misc]
        obj = self.model.objects.get(pk=form.instance.pk)
        before, after = differences(request.journal_before, values_of(obj))
        if after or not change:
            self._record("change" if change else "add", request, obj, before, after)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        with transaction.atomic():
            before, subject, account = values_of(obj), self.subject_of(obj), self.account_of(obj)
            super().delete_model(request, obj)  # type: ignore[misc]
            record_act(
                f"delete_{self.opts.model_name}",
                actor=request.user.get_username(),
                subject=subject,
                account=account,
                before=before,
            )

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with transaction.atomic():
            for row in queryset:
                self.delete_model(request, row)

    def _record(self, verb: str, request: HttpRequest, obj: Any, before: Any, after: Any) -> None:
        record_act(
            f"{verb}_{self.opts.model_name}",
            actor=request.user.get_username(),
            subject=self.subject_of(obj),
            account=self.account_of(obj),
            before=before,
            after=after,
        )
