"""What the admin pages of both apps share: read-only records, exact figures, plain times, and asking for a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.functional import keep_lazy_text
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminTextareaWidget

from exchanges import clock
from exchanges.models import Environment, ExchangeAccount, StreamState, TradingState
from exchanges.types import plain

EMPTY = "–"
ONE_LINE = 90
ENVIRONMENT_COLOURS = {Environment.LIVE: "danger", Environment.TESTNET: "warning", Environment.SIMULATOR: "success"}
STATE_COLOURS = {TradingState.ACTIVE: "success", TradingState.REDUCING: "warning", TradingState.HALTED: "danger"}
Column = Callable[[Any], str]


class ReadOnlyRecords:
    """Mixed into a ModelAdmin or an inline: people look, and only services write."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReasonForm(forms.Form):
    """Why a person does it; kept on the events of what it changes."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=500,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3, "autofocus": True}),
    )


def utc(moment: datetime | None, *, precise: bool = False) -> str:
    """`2026-11-22 08:14:08`, UTC, with milliseconds if `precise`; ISO 8601 with every digit under the pointer."""
    if moment is None:
        return EMPTY
    moment = moment.astimezone(UTC)
    iso, text = moment.isoformat(), f"{moment:%Y-%m-%d %H:%M:%S}"
    if precise:
        text += f".{moment.microsecond // 1000:03}"
    return format_html('<time class="desk-time" datetime="{}" title="{}">{}</time>', iso, iso, text)


def label(text: Any, colour: str) -> str:
    """A coloured label: `info`, `success`, `warning`, `danger`, `primary` or none. Unlike unfold's `@display(label=…)`
    it also works among the read-only fields of a form.
    """
    return render_to_string("unfold/helpers/label.html", {"text": text, "type": colour})


def duration(span: timedelta) -> str:
    """The two largest units of a span of time: `45 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    seconds = max(0, int(span.total_seconds()))
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return _("%(days)d d %(hours)d h") % {"days": days, "hours": hours}
    if hours:
        return _("%(hours)d h %(minutes)d min") % {"hours": hours, "minutes": minutes}
    if minutes:
        return _("%(minutes)d min %(seconds)d s") % {"minutes": minutes, "seconds": seconds}
    return _("%(seconds)d s") % {"seconds": seconds}


def pretty(details: Any) -> str:
    """JSON for people: on one line where it fits, else indented; escaped."""
    if not details:
        return EMPTY
    text = json.dumps(details, ensure_ascii=False)
    if len(text) > ONE_LINE:
        text = json.dumps(details, indent=2, ensure_ascii=False)
    return format_html('<pre class="desk-json">{}</pre>', text)


def stream_label(account: ExchangeAccount) -> str:
    """How the account's user data stream is doing; the account comes with `select_related("stream")`."""
    stream: StreamState | None = getattr(account, "stream", None)
    if stream is None:
        return label(_("never started"), "")
    if stream.is_healthy(clock.now()):
        return label(_("in sync"), "success")
    return label(_("silent") if stream.in_sync_since else _("not in sync"), "warning")


def figure(model: type[models.Model], name: str) -> Column:
    """Column of a decimal field: every digit, no trailing zeros, never an exponent or a thousands separator."""

    def show(row: Any) -> str:
        return exact(getattr(row, name))

    return _column(show, model, name, ordering=None)


def exact(value: Decimal | None) -> str:
    """A decimal as `figure` shows it."""
    return EMPTY if value is None else format_html('<span class="desk-figure">{}</span>', plain(value))


def moment(
    model: type[models.Model], name: str, *, ordered: bool = False, precise: bool = False, heading: Any = None
) -> Column:
    """Column of a time; `ordered` only where an index serves the order."""

    def show(row: Any) -> str:
        return utc(getattr(row, name), precise=precise)

    return _column(show, model, name, ordering=name if ordered else None, heading=heading)


def document(model: type[models.Model], name: str) -> Column:
    """Column of a JSON field."""

    def show(row: Any) -> str:
        return pretty(getattr(row, name))

    return _column(show, model, name, ordering=None)


def _column(show: Column, model: type[models.Model], name: str, *, ordering: str | None, heading: Any = None) -> Column:
    show.__name__ = name  # the admin derives the column's CSS class from it
    return admin.display(description=heading or field_name(model, name), ordering=ordering)(show)


@keep_lazy_text
def _capitalised(text: str) -> str:
    return capfirst(text)


def field_name(model: type[models.Model], name: str) -> Any:
    """The field's own name, translated when it is shown."""
    field = model._meta.get_field(name)  # noqa: SLF001  Django's documented API
    return _capitalised(getattr(field, "verbose_name", name))
