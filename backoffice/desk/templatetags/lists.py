"""Template tags that draw the rows of a list in a tenth of the theme's bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django import template
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.contrib.admin.utils import display_for_field, display_for_value, lookup_field
from django.core.exceptions import ObjectDoesNotExist
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.templatetags.unfold_list import result_headers

from backoffice.desk.lists.columns import EMPTY

register = template.Library()


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: its content as HTML, and its CSS classes."""

    content: Any
    css: str


@register.inclusion_tag("desk/list_rows.html")
def list_rows(cl: Any) -> dict[str, Any]:
    """Draw the headers and the rows of the list."""
    lines = _card_lines(cl)
    return {
        "cl": cl,
        "result_headers": list(result_headers(cl)),
        "rows": [list(_cells(cl, row, lines)) for row in cl.result_list],
        "is_filtered": bool(cl.has_active_filters or cl.query),
    }


def _card_lines(cl: Any) -> dict[str, int]:
    """Map the columns of a phone's card to their lines."""
    texts = getattr(cl.model_admin, "card_lines", ())
    return {name: line for line, text in enumerate(texts, 1) for name in text.split()}


def _cells(cl: Any, row: Any, lines: dict[str, int]) -> Iterator[Cell]:
    links = cl.list_display_links or ()
    nothing = (EMPTY, cl.model_admin.get_empty_value_display())
    for column in cl.list_display:
        name = column.__name__ if callable(column) else str(column)
        content = _content(cl, column, row)
        if column in links:
            content = _link(cl, row, content)
        css = "action-checkbox" if name == "action_checkbox" else f"field-{name}"
        if (line := lines.get(name)) and content not in nothing:
            css += f" desk-line-{line}"
        yield Cell(content, css)


def _content(cl: Any, column: Any, row: Any) -> Any:
    empty = cl.model_admin.get_empty_value_display()
    try:
        field, attribute, value = lookup_field(column, row, cl.model_admin)
    except ObjectDoesNotExist:
        return empty
    if field is None or field.auto_created:
        return display_for_value(value, empty, getattr(attribute, "boolean", False))
    if field.remote_field:
        related = getattr(row, field.name)
        return empty if related is None else related
    return display_for_field(value, field, empty)


def _link(cl: Any, row: Any, content: Any) -> SafeString:
    address = add_preserved_filters(
        {"preserved_filters": cl.preserved_filters, "opts": cl.opts}, cl.url_for_result(row)
    )
    return format_html('<a class="desk-row-link" href="{}">{}</a>', address, content)
