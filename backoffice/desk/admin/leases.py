"""Leases of shared work, the verbs that take one from its holder, and their record."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from backoffice.desk.lists.columns import EMPTY, moment, utc
from backoffice.desk.mixins import Line, ReadOnlyRecords, ReasonForm, ReasonVerb
from backoffice.people.grants import account_names
from exchanges.db import leases
from exchanges.models import Lease, LeaseChange

LONGEST_HOLD_SECONDS = 3600

Row = TypeVar("Row", Lease, LeaseChange)


class HoldForm(ReasonForm):
    """Ask for the time without the work, and for a reason."""

    seconds = forms.IntegerField(
        label=gettext_lazy("Seconds"),
        min_value=1,
        max_value=LONGEST_HOLD_SECONDS,
        initial=60,
        widget=UnfoldAdminIntegerFieldWidget,
    )
    field_order = ("seconds", "reason")


@admin.register(Lease)
class LeaseAdmin(ReadOnlyRecords, ReasonVerb, ModelAdmin):
    empty_text = gettext_lazy("No leases yet")
    empty_hint = gettext_lazy(
        "Workers take a lease for each piece of shared work. If none appears, check that"
        " a worker runs."
    )
    list_display = ("name", "holder_now", "held_until")
    list_display_links = None
    sortable_by = ()
    ordering = ("-expires_at", "name")
    search_fields = ("name",)
    actions = ("release_selected", "hold_selected")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Lease]:
        is_held = ExpressionWrapper(Q(expires_at__gt=Now()), output_field=BooleanField())
        queryset: QuerySet[Lease] = super().get_queryset(request).annotate(is_held=is_held)
        return _of_granted(queryset, request)

    def has_release_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("exchanges.release_lease")

    @admin.display(description=gettext_lazy("Holder"))
    def holder_now(self, lease: Any) -> str:
        return lease.holder if lease.is_held else EMPTY

    @admin.display(description=gettext_lazy("Held until"))
    def held_until(self, lease: Any) -> str:
        return utc(lease.expires_at) if lease.is_held else _("free")

    @admin.action(description=gettext_lazy("Release the lease"), permissions=["release"])
    def release_selected(self, request: HttpRequest, queryset: QuerySet[Lease]) -> HttpResponse:
        return self._take_away(
            request,
            action_name="release_selected",
            form_class=ReasonForm,
            title=_("Release the lease"),
            question=_(
                "Release it? The next worker may then do the work. A holder that is still working"
                " notices and stops."
            ),
        )

    @admin.action(description=gettext_lazy("Hold the lease"), permissions=["release"])
    def hold_selected(self, request: HttpRequest, queryset: QuerySet[Lease]) -> HttpResponse:
        return self._take_away(
            request,
            action_name="hold_selected",
            form_class=HoldForm,
            title=_("Hold the lease"),
            question=_(
                "Hold it yourself? For that many seconds, no worker does the work. A holder that is"
                " still working notices and stops."
            ),
        )

    def _take_away(
        self, request: HttpRequest, *, form_class: type[ReasonForm], **context: Any
    ) -> HttpResponse:
        names = request.POST.getlist(ACTION_CHECKBOX_NAME)
        rows = [*self.get_queryset(request).filter(pk__in=names)]

        def do(answer: dict[str, Any]) -> bool:
            for row in rows:
                _take_one(request, row.name, answer)
            return True

        return self.ask_then(
            request,
            do,
            back=request.get_full_path(),
            template="desk/ask_more.html",
            form_class=form_class,
            lines=[self._line(row) for row in rows],
            button_variant="danger",
            **context,
        )

    def _line(self, row: Any) -> Line:
        note = f"{row.holder}, {utc(row.expires_at)}" if row.is_held else _("free")
        return Line(
            row.name,
            note,
            pk=row.name,
            seen_name=_seen_name(row.name),
            seen=row.holder if row.is_held else "",
        )


def _seen_name(name: str) -> str:
    """Return the name of the form field that carries the holder the person saw."""
    return f"seen_{name}"


def _take_one(request: HttpRequest, name: str, answer: dict[str, Any]) -> None:
    """Take one lease away and show the result, also if it has another holder by now."""
    seen, reason = request.POST.get(_seen_name(name)), answer["reason"]
    actor = request.user.get_username()
    seconds = answer.get("seconds")
    if seconds is None:
        is_done = leases.release(name, reason=reason, actor=actor, seen=seen)
    else:
        is_done = leases.steal(name, seconds=seconds, reason=reason, actor=actor, seen=seen)
    if is_done:
        text = _("Lease released.") if seconds is None else _("Lease held by you.")
        messages.success(request, f"{name}: {text}")
    else:
        messages.warning(request, f"{name}: {_('Nothing was changed: its holder has gone.')}")


@admin.register(LeaseChange)
class LeaseChangeAdmin(ReadOnlyRecords, ModelAdmin):
    empty_text = gettext_lazy("No lease changes")
    empty_hint = gettext_lazy(
        "Each time a person releases a lease, the change appears here with its reason."
    )
    list_display = (moment(LeaseChange, "at"), "actor", "name", "holder", "seconds", "reason")
    list_display_links = None
    sortable_by = ()
    search_fields = ("actor", "name")

    def get_queryset(self, request: HttpRequest) -> QuerySet[LeaseChange]:
        return _of_granted(super().get_queryset(request), request)


def _of_granted(rows: QuerySet[Row], request: HttpRequest) -> QuerySet[Row]:
    """Exclude the leases of other accounts, named `work:account` or `work:account:more`."""
    names = account_names(request.user)
    if names is None:
        return rows
    found = ~Q(name__contains=":")
    if names:
        pattern = "|".join(re.escape(name) for name in names)
        found |= Q(name__regex=f":({pattern})(:|$)")
    return rows.filter(found)
