"""Columns and views that each person chooses for a list."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import label_for_field
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from backoffice.desk.models import SavedView

FILE_KINDS = ("csv", "xlsx")
MAX_VIEWS = 30
MAX_QUERY = 2000
# Parameters of an address that belong to the moment and not to the view.
_PASSING = frozenset({"p", "e", "all", "_popup", "_to_field"})


class ViewForm(forms.Form):
    """Read the name and the filters of a view."""

    name = forms.CharField(max_length=60)
    query = forms.CharField(max_length=MAX_QUERY, required=False)

    def clean_query(self) -> str:
        return clean_query(self.cleaned_data["query"])


class ChosenColumns:
    """Mixin for a list whose columns and views each person chooses.

    `more_columns` are offered besides those of `list_display`. The first column always shows.
    """

    admin_site: admin.AdminSite
    opts: Any
    list_display: Any
    has_view_permission: Any
    more_columns: tuple[Any, ...] = ()

    # Columns

    def offered_columns(self, request: HttpRequest) -> tuple[Any, ...]:
        """Return every column that a person may choose, in the order of the list."""
        return (*self.list_display, *self.more_columns)

    def usual_columns(self, request: HttpRequest) -> tuple[Any, ...]:
        """Return the columns of a person who chose none."""
        return tuple(self.list_display)

    def get_list_display(self, request: HttpRequest) -> Any:
        chosen = self.chosen_columns(request)
        if not chosen:
            return self.usual_columns(request)
        first, *others = self.offered_columns(request)
        return (first, *(column for column in others if str(column) in chosen))

    def chosen_columns(self, request: HttpRequest) -> frozenset[str]:
        """Return the names that the address chooses, otherwise those that the person saved."""
        if "columns" in request.GET:
            names = request.GET["columns"].split(",")
        else:
            own = [view for view in self.own_views(request) if not view.name]
            names = own[0].columns if own else []
        return frozenset(names) & {str(column) for column in self.offered_columns(request)}

    def own_views(self, request: HttpRequest) -> list[SavedView]:
        """Return the person's rows for this list, read once for a request."""
        kept: list[SavedView] | None = getattr(request, "desk_views", None)
        if kept is None:
            kept = list(self._rows(request).order_by("name"))
            request.desk_views = kept  # type: ignore[attr-defined]
        return kept

    def _rows(self, request: HttpRequest) -> Any:
        return SavedView.objects.filter(person_id=request.user.pk, page=self.opts.label_lower)

    # The tools above the list

    def tools(self, request: HttpRequest) -> dict[str, Any]:
        """Return the context of the tools above the list."""
        shown = {str(column) for column in self.get_list_display(request)}
        query = clean_query(request.GET.urlencode())
        named = [view for view in self.own_views(request) if view.name]
        return {
            "columns": [
                {
                    "name": str(column),
                    "title": self._title(column),
                    "is_shown": str(column) in shown,
                }
                for column in self.offered_columns(request)[1:]
            ],
            "views": [
                {"view": view, "is_open": _address_query(view) == query, "url": self._url(view)}
                for view in named
            ],
            "open_view": next((view for view in named if _address_query(view) == query), None),
            "query": query,
            "exports": self._exports(query),
            "whole_list": self._whole_list(request, query),
            "url": reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_views"),
        }

    def _exports(self, query: str) -> list[tuple[str, str]]:
        """Return the kinds of files that the list exports, each with its address."""
        if not getattr(self, "export_fields", ()):
            return []
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_export"
        filters = _without_columns(query)
        return [(kind.upper(), f"{reverse(f'{name}_{kind}')}?{filters}") for kind in FILE_KINDS]

    def _whole_list(self, request: HttpRequest, query: str) -> list[tuple[Any, str]]:
        """Return the verbs for all rows that match, if the list has such verbs."""
        read = getattr(self, "whole_list_tools", None)
        return read(request, _without_columns(query)) if read else []

    def _title(self, column: Any) -> str:
        page: Any = self
        return str(label_for_field(column, self.opts.model, model_admin=page))

    def _url(self, view: SavedView) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_view", args=[view.pk])

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = (extra_context or {}) | {"tools": self.tools(request)}
        response: HttpResponse = super().changelist_view(request, context)  # type: ignore[misc]
        return response

    # Their addresses

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}"
        wrap = self.admin_site.admin_view
        own = [
            path("views/", wrap(require_POST(self.change_views)), name=f"{name}_views"),
            path("views/<int:pk>/", wrap(self.open_view), name=f"{name}_view"),
        ]
        return own + super().get_urls()  # type: ignore[misc, no-any-return]

    def open_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Lead to the list with the filters and columns of a view."""
        view = get_object_or_404(self._rows(request).exclude(name=""), pk=pk)
        return HttpResponseRedirect(f"{self._list()}?{_address_query(view)}")

    def change_views(self, request: HttpRequest) -> HttpResponse:
        """Save or delete a view, or keep the columns that the list opens with."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        query = clean_query(request.POST.get("query", ""))
        match request.POST.get("do"):
            case "columns":
                return self._keep_columns(request, query)
            case "usual_columns":
                self._rows(request).filter(name="").delete()
                return self._back(query, without_columns=True)
            case "delete":
                pk = request.POST.get("view", "")
                self._rows(request).exclude(name="").filter(pk=pk if pk.isdecimal() else 0).delete()
                return self._back("")
        return self._save_view(request, query)

    def _keep_columns(self, request: HttpRequest, query: str) -> HttpResponse:
        offered = [str(column) for column in self.offered_columns(request)]
        wanted = set(request.POST.getlist("column"))
        columns = [name for name in offered if name in wanted]
        SavedView.objects.update_or_create(
            person_id=request.user.pk,
            page=self.opts.label_lower,
            name="",
            defaults={"columns": [offered[0], *(name for name in columns if name != offered[0])]},
        )
        return self._back(query, without_columns=True)

    def _save_view(self, request: HttpRequest, query: str) -> HttpResponse:
        form = ViewForm(request.POST)
        if not form.is_valid():
            messages.error(request, _("A view needs a name of at most 60 characters."))
            return self._back(query)
        name = form.cleaned_data["name"]
        others = self._rows(request).exclude(name="").exclude(name=name)
        if others.count() >= MAX_VIEWS:
            text = _("You have %(count)d views here. Delete one first.")
            messages.error(request, text % {"count": MAX_VIEWS})
            return self._back(query)
        shown = [str(column) for column in self.get_list_display(request)]
        in_query = dict(parse_qsl(query)).get("columns", "")
        view, _is_new = SavedView.objects.update_or_create(
            person_id=request.user.pk,
            page=self.opts.label_lower,
            name=name,
            defaults={
                "query": _without_columns(query),
                "columns": in_query.split(",") if in_query else shown,
            },
        )
        messages.success(request, _("View saved: %(name)s") % {"name": name})
        return HttpResponseRedirect(self._url(view))

    def _list(self) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")

    def _back(self, query: str, *, without_columns: bool = False) -> HttpResponse:
        query = _without_columns(query) if without_columns else query
        return HttpResponseRedirect(f"{self._list()}?{query}")


def clean_query(text: str) -> str:
    """Return the filters of an address in a fixed order, without what belongs to the moment."""
    pairs = [pair for pair in parse_qsl(text[:MAX_QUERY]) if pair[0] not in _PASSING]
    return urlencode(sorted(pairs))


def _without_columns(query: str) -> str:
    return urlencode([pair for pair in parse_qsl(query) if pair[0] != "columns"])


def _address_query(view: SavedView) -> str:
    columns = [("columns", ",".join(view.columns))] if view.columns else []
    return urlencode(sorted([*parse_qsl(view.query), *columns]))
