"""Shared behavior of pages: read-only records, and verbs that ask for a reason first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy
from unfold.admin import TabularInline
from unfold.forms import PaginationInlineFormSet
from unfold.widgets import UnfoldAdminTextareaWidget

from backoffice.web.lookups import DeclaredLookups


class ReadOnlyRecords(DeclaredLookups):
    """Mixin for a ModelAdmin or an inline: people read the rows, and only services write them."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class RecordInline(ReadOnlyRecords, TabularInline):
    """A table of read-only records on the page of the order they belong to."""

    extra = 0
    hide_title = True
    show_change_link = False
    per_page = 50

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.readonly_fields


class GridFormSet(PaginationInlineFormSet):
    """Give the rows on an order's page the grid of their order."""

    def get_queryset(self) -> Any:
        rows = super().get_queryset()
        for row in rows:
            row.grid = self.instance.grid
        return rows


class ReasonForm(forms.Form):
    """Ask for the reason of a change. The events of the change store it."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=500,
        error_messages={"required": gettext_lazy("A reason is required.")},
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3, "autofocus": True}),
    )


@dataclass(frozen=True, slots=True)
class Line:
    """A record above the form of a verb. The form posts its key, and the state that was seen."""

    name: str
    note: Any = ""
    pk: Any = None
    seen_name: str = ""
    seen: str = ""


class ReasonVerb:
    """Mixin for a ModelAdmin whose verbs ask for a reason before they change anything."""

    admin_site: admin.AdminSite
    opts: Any

    def ask_then(
        self,
        request: HttpRequest,
        do: Callable[[dict[str, Any]], bool],
        *,
        back: str,
        template: str,
        form_class: type[ReasonForm] = ReasonForm,
        **context: Any,
    ) -> HttpResponse:
        """Show the form until a person confirms it, then call `do` and go back.

        `do` gets the cleaned data of the form. If it returns False, nothing was changed and the
        form stays on the screen. The template extends `desk/ask_reason.html` and gets `context`.
        """
        form = form_class(request.POST if "confirmed" in request.POST else None)
        if form.is_valid() and do(form.cleaned_data):
            return HttpResponseRedirect(back)
        request.current_app = self.admin_site.name
        page = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "form": form,
            "back": back,
            "selected_name": ACTION_CHECKBOX_NAME,
            **context,
        }
        return TemplateResponse(request, template, page)
