"""The journal: its list with search, one entry, and the export with its hash."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from hashlib import sha256
from tempfile import SpooledTemporaryFile
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import ChoicesDropdownFilter, TextFilter
from unfold.decorators import action

from backoffice.desk.lists.columns import document, moment
from backoffice.desk.lists.filters import TimeRangeFilter
from backoffice.desk.lists.paging import BigTable
from backoffice.desk.lists.search import find_orders
from backoffice.people.grants import account_ids, account_names
from backoffice.people.journal.chain import FIELDS, time_text
from backoffice.people.models import JournalEntry
from exchanges.acts import record_act

MOST_ROWS = 100_000
_IN_MEMORY = 5_000_000
# A spreadsheet runs a cell that begins with one of these.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class _FieldFilter(TextFilter):
    """Filter by the exact text of a field, which an index serves."""

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[JournalEntry]
    ) -> QuerySet[JournalEntry]:
        text = (self.value() or "").strip()
        return queryset.filter(**{str(self.parameter_name): text}) if text else queryset


class PersonFilter(_FieldFilter):
    title = gettext_lazy("person")
    parameter_name = "person"


class VerbFilter(_FieldFilter):
    title = gettext_lazy("verb")
    parameter_name = "verb"


class RecordFilter(TextFilter):
    """Filter by a record that the act touched, such as `account:demo`."""

    title = gettext_lazy("record")
    parameter_name = "record"

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[JournalEntry]
    ) -> QuerySet[JournalEntry]:
        text = (self.value() or "").strip()
        return queryset.filter(touched__contains=[text]) if text else queryset


@admin.register(JournalEntry)
class JournalEntryAdmin(BigTable):
    list_display = (
        "id",
        moment(JournalEntry, "at", precise=True),
        "person",
        "source",
        "verb",
        "subject",
        "reason",
        document(JournalEntry, "before"),
        document(JournalEntry, "after"),
    )
    card_lines = ("verb subject", "reason", "at person source id")
    empty_text = gettext_lazy("No acts yet")
    empty_hint = gettext_lazy(
        "Each act of a person or a rule appears here: a halt, a cancel, a changed limit, a login."
    )
    list_display_links = ("id",)
    list_filter = (
        PersonFilter,
        VerbFilter,
        RecordFilter,
        ("source", ChoicesDropdownFilter),
        ("at", TimeRangeFilter),
    )
    ordering = ("-id",)
    sortable_by = ()
    search_fields = ("person",)
    search_help_text = gettext_lazy("Person, verb, record or any ID of an order")
    actions_list = ("export",)
    fields = readonly_fields = (
        *list_display,
        "account",
        "address",
        "session",
        document(JournalEntry, "touched"),
        "previous_hash",
        "hash",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[JournalEntry]:
        rows: QuerySet[JournalEntry] = super().get_queryset(request)
        names = account_names(request.user)
        return rows if names is None else rows.filter(account__in=["", *names])

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[JournalEntry], search_term: str
    ) -> tuple[QuerySet[JournalEntry], bool]:
        word = search_term.strip()
        if word:
            found = Q(person=word) | Q(verb=word) | Q(touched__contains=[word])
            for key in find_orders(word, accounts=account_ids(request.user)):
                found |= Q(touched__contains=[f"order:{key}"])
            queryset = queryset.filter(found)
        return queryset, False

    def has_export_permission(self, request: HttpRequest) -> bool:
        return bool(self.has_view_permission(request))

    @action(
        description=gettext_lazy("Export as CSV"),
        permissions=["export"],
        url_path="export",
        icon="download",
    )
    def export(self, request: HttpRequest) -> FileResponse:
        """Return the filtered rows as a CSV file, and record the file's hash.

        It is a GET, because it is a reading. The record of who read what changes nothing else.
        """
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = self.get_changelist_instance(request).get_queryset(request).order_by("id")
        file = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115  the answer closes it
        hashed, count = sha256(), -1
        for line in _lines(rows[:MOST_ROWS]):
            file.write(line)
            hashed.update(line)
            count += 1
        file.seek(0)
        name = hashed.hexdigest()
        record_act(
            "export",
            actor=request.user.get_username(),
            subject="journal",
            after={"rows": count, "sha256": name, "filters": request.GET.urlencode()},
        )
        response = FileResponse(
            file, as_attachment=True, filename=f"journal-{name}.csv", content_type="text/csv"
        )
        response["X-Content-SHA256"] = name
        return response


def _lines(rows: QuerySet[JournalEntry]) -> Iterator[bytes]:
    names = (*FIELDS, "hash")
    yield _line(names)
    for row in rows.iterator(chunk_size=1000):
        yield _line([_cell(getattr(row, name)) for name in names])


def _line(cells: Any) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)
    return buffer.getvalue().encode()


def _cell(value: Any) -> str:
    text = time_text(value) if hasattr(value, "astimezone") else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


class TouchedVerb:
    """Mixin for a ModelAdmin: a button that lists everything that people did to the record."""

    get_object: Any

    def touched_name(self, obj: Any) -> str:
        """Return the name of the record in the journal."""
        raise NotImplementedError

    def has_journal_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("people.view_journalentry")

    @action(
        description=gettext_lazy("Who touched this"),
        permissions=["journal"],
        url_path="journal",
        icon="history_edu",
    )
    def who_touched(self, request: HttpRequest, object_id: str) -> HttpResponse:
        obj = self.get_object(request, object_id)
        if obj is None:
            raise Http404
        address = reverse("admin:people_journalentry_changelist")
        return HttpResponseRedirect(f"{address}?{urlencode({'record': self.touched_name(obj)})}")
