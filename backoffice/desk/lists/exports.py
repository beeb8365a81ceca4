"""Export the rows of a list, as its filters chose them, as CSV and XLSX.

PostgreSQL writes the CSV itself (COPY), so neither it nor we hold the rows in memory.
"""

from __future__ import annotations

import csv
import io
import re
import tempfile
from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIRequest
from django.db import connection, models, transaction
from django.db.models import Case, F, Func, QuerySet, TextField, Value, When
from django.db.models.functions import Cast, Concat
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from xlsxwriter import Workbook

from exchanges import clock
from exchanges.acts import record_act
from exchanges.types import plain

#: A worksheet holds 1,048,576 rows, and a page that takes minutes is given up.
MAX_XLSX_ROWS = 200_000
CHUNK_BYTES = 64 * 1024
_FETCHED_AT_ONCE = 2_000
# A spreadsheet takes a text that starts with one of these for a formula.
_FORMULA = r"^[=+\-@\t\r\n]"
Chunks = Generator[bytes, None, None]
_EXACT_DIGITS = 15  # a spreadsheet's numbers keep so many


class Exports:
    """Mixin for a list: two addresses that export its rows.

    `export_fields` names the fields, also of related rows, in the order of the columns.
    """

    admin_site: Any
    opts: Any
    has_view_permission: Any
    export_fields: tuple[str, ...] = ()

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}"
        wrap = self.admin_site.admin_view
        own = [
            path("export/csv/", wrap(self.export_csv), name=f"{name}_export_csv"),
            path("export/xlsx/", wrap(self.export_xlsx), name=f"{name}_export_xlsx"),
        ]
        return own + super().get_urls()  # type: ignore[misc, no-any-return]

    def export_csv(self, request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
        rows = self._chosen_rows(request)
        if isinstance(rows, HttpResponse):
            return rows
        self._record(request, "csv")
        response = StreamingHttpResponse(
            _streamed(request, csv_chunks(rows, self.export_fields)),
            content_type="text/csv; charset=utf-8",
        )
        return _as_file(response, self._file_name("csv"))

    def export_xlsx(self, request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
        rows = self._chosen_rows(request)
        if isinstance(rows, HttpResponse):
            return rows
        if rows.order_by()[MAX_XLSX_ROWS : MAX_XLSX_ROWS + 1].exists():
            text = _("A workbook holds at most %(count)d rows. Narrow the filters, or export CSV.")
            messages.error(request, text % {"count": MAX_XLSX_ROWS})
            return HttpResponseRedirect(f"{self._list()}?{request.GET.urlencode()}")
        self._record(request, "xlsx")
        response = StreamingHttpResponse(
            _streamed(request, xlsx_chunks(rows, self.export_fields)),
            content_type="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        )
        return _as_file(response, self._file_name("xlsx"))

    def _chosen_rows(self, request: HttpRequest) -> QuerySet[Any] | HttpResponse:
        """Return all rows of the list at this address, with the person's own rights."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        page: Any = self
        try:
            rows: QuerySet[Any] = page.get_changelist_instance(request).queryset
        except Exception as error:
            if type(error).__name__ != "IncorrectLookupParameters":
                raise
            return HttpResponseRedirect(f"{self._list()}?e=1")
        return rows

    def _record(self, request: HttpRequest, kind: str) -> None:
        record_act(
            f"export_{self.opts.model_name}",
            actor=request.user.get_username(),
            subject=self._file_name(kind),
            after={"filters": request.GET.urlencode()},
        )

    def _file_name(self, kind: str) -> str:
        return f"{self.opts.model_name}-{clock.now():%Y-%m-%dT%H%M%SZ}.{kind}"

    def _list(self) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")


def _as_file(response: StreamingHttpResponse, name: str) -> StreamingHttpResponse:
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _streamed(request: HttpRequest, chunks: Chunks) -> Any:
    """Return the chunks in the form that the server sends without gathering them first."""
    return _in_its_thread(chunks) if isinstance(request, ASGIRequest) else chunks


async def _in_its_thread(chunks: Chunks) -> AsyncIterator[bytes]:
    """Take each chunk in the request's thread, which owns its database connection."""

    def take() -> bytes | None:
        return next(chunks, None)

    try:
        while (chunk := await sync_to_async(take)()) is not None:
            yield chunk
    finally:  # the reader may have gone: end the query
        await sync_to_async(chunks.close)()


# -- CSV -----------------------------------------------------------------------------------------


def csv_chunks(rows: QuerySet[Any], fields: Iterable[str]) -> Chunks:
    """Yield the rows as CSV: every digit, times in UTC, and no text that starts a formula."""
    names = list(fields)
    yield _line(names)
    texts = rows.values_list(*(_as_text(rows.model, name) for name in names))
    sql, parameters = texts.query.get_compiler(connection=connection).as_sql()
    gathered, size = [], 0
    with _long_reading(), connection.cursor() as cursor:
        own = cursor.cursor  # psycopg's own: Django's has no parameters for COPY
        with own.copy(f"COPY ({sql}) TO STDOUT (FORMAT csv)", parameters) as copy:
            for block in copy:
                gathered.append(bytes(block))
                size += len(block)
                if size >= CHUNK_BYTES:
                    yield b"".join(gathered)
                    gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


@contextmanager
def _long_reading() -> Iterator[None]:
    """Read from one snapshot, without the time limit of a page."""
    with connection.without_time_limits(), transaction.atomic():  # type: ignore[attr-defined]
        yield


def _line(texts: Iterable[str]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(texts)
    return buffer.getvalue().encode()


def _as_text(model: type[models.Model], name: str) -> Any:
    """Return the expression that writes a field as CSV holds it."""
    field = _field(model, name)
    if isinstance(field, models.DateTimeField):
        return Func(
            F(name),
            template=(
                "to_char(%(expressions)s AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
            ),
            output_field=TextField(),
        )
    if isinstance(field, models.DecimalField):
        return Func(F(name), function="trim_scale")
    if isinstance(field, models.CharField | models.TextField | models.JSONField):
        text = Cast(name, TextField())
        return Case(
            When(_starts_formula(name), then=Concat(Value("'"), text)),
            default=text,
            output_field=TextField(),
        )
    return F(name)


def _starts_formula(name: str) -> Any:
    return models.Q(**{f"{name}__regex": _FORMULA})


def _field(model: type[models.Model], name: str) -> Any:
    options = model._meta  # noqa: SLF001  Django's documented API
    first, *rest = name.split("__")
    field = options.get_field(first)
    related = getattr(field, "related_model", None)
    return _field(related, "__".join(rest)) if rest and related else field


# -- XLSX ----------------------------------------------------------------------------------------


def xlsx_chunks(rows: QuerySet[Any], fields: Iterable[str]) -> Chunks:
    """Yield the rows as a workbook, written row by row to a file on disk.

    A number with more digits than a spreadsheet keeps is written as text.
    """
    names = list(fields)
    with tempfile.TemporaryFile() as file:
        with Workbook(
            file,
            {
                "constant_memory": True,
                "strings_to_formulas": False,
                "strings_to_urls": False,
                "strings_to_numbers": False,
            },
        ) as book:
            sheet = book.add_worksheet()
            sheet.freeze_panes(1, 0)
            bold = book.add_format({"bold": True})
            for column, name in enumerate(names):
                sheet.write_string(0, column, name, bold)
            with _long_reading():
                values = rows.values_list(*names).iterator(chunk_size=_FETCHED_AT_ONCE)
                for number, row in enumerate(values, 1):
                    for column, value in enumerate(row):
                        _write(sheet, number, column, value)
        file.seek(0)
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _write(sheet: Any, row: int, column: int, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool):
        sheet.write_boolean(row, column, value)
    elif isinstance(value, int) and abs(value) < 10**_EXACT_DIGITS:
        sheet.write_number(row, column, value)
    elif isinstance(value, Decimal):
        text = plain(value)
        if len(re.sub(r"\D", "", text).lstrip("0")) <= _EXACT_DIGITS:
            sheet.write_number(row, column, value.normalize())
        else:
            sheet.write_string(row, column, text)
    elif hasattr(value, "isoformat"):
        sheet.write_string(row, column, value.isoformat())
    else:
        sheet.write_string(row, column, str(value)[:32_767])
