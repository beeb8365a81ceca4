"""Columns that many pages share: numbers, times, labels and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from django.db import models
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.functional import keep_lazy_text
from django.utils.html import format_html, format_html_join
from django.utils.text import Truncator, capfirst
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from backoffice.desk.lists.market import Distance
from backoffice.desk.lists.numbers import UNKNOWN, Grid
from exchanges import clock
from exchanges.known_prices import PriceSource
from exchanges.models import Environment, ExchangeAccount, Instrument, StreamState, TradingState
from exchanges.types import plain
from orders.models import AttemptOutcome, Fill, Order, OrderEvent, ReconciliationBreak, Status

EMPTY = "–"
ONE_LINE = 90
ENVIRONMENT_COLORS = {
    Environment.LIVE: "danger",
    Environment.TESTNET: "warning",
    Environment.SIMULATOR: "success",
}
STATE_COLORS = {
    TradingState.ACTIVE: "success",
    TradingState.REDUCING: "warning",
    TradingState.HALTED: "danger",
}
STATUS_COLORS = {
    Status.HELD: "warning",
    Status.CREATED: "info",
    Status.PENDING_NEW: "warning",
    Status.NEW: "primary",
    Status.PARTIALLY_FILLED: "primary",
    Status.FILLED: "success",
    Status.CANCELED: "",
    Status.REJECTED: "danger",
    Status.EXPIRED: "",
    Status.DENIED: "danger",
    Status.NOT_PLACED: "warning",
}
# A state is never shown by its color alone: each has a sign of its own beside its name.
STATUS_SIGNS = {
    Status.HELD: "‖",
    Status.CREATED: "◌",
    Status.PENDING_NEW: "?",
    Status.NEW: "○",
    Status.PARTIALLY_FILLED: "◐",
    Status.FILLED: "●",
    Status.CANCELED: "–",
    Status.REJECTED: "×",
    Status.EXPIRED: "–",
    Status.DENIED: "×",
    Status.NOT_PLACED: "!",
}
OUTCOME_COLORS = {
    AttemptOutcome.IN_FLIGHT: "info",
    AttemptOutcome.UNKNOWN: "warning",
    AttemptOutcome.ACKNOWLEDGED: "success",
    AttemptOutcome.REJECTED: "danger",
    AttemptOutcome.NOT_SENT: "",
    AttemptOutcome.ABSENT: "",
    AttemptOutcome.LOST: "warning",
}
Kind = Literal["price", "limit_price", "quantity", "money"]


class Column:
    """A column of a list, or of a table in a page. The admin calls it with each row.

    Its name becomes a CSS class. The style sheet aligns names that end in "_number".
    """

    do_not_call_in_templates = True  # templates print the name

    def __init__(
        self,
        show: Callable[[Any], str],
        model: type[models.Model],
        name: str,
        *,
        css_name: str = "",
        ordering: str | None = None,
        heading: Any = None,
    ) -> None:
        self.show = show
        self.__name__ = css_name or name
        self.short_description = heading or field_name(model, name)
        if ordering:
            self.admin_order_field = ordering

    def __call__(self, row: Any) -> str:
        return self.show(row)

    def __str__(self) -> str:
        return self.__name__


def utc(moment: datetime | None, *, precise: bool = False) -> str:
    """Return a time as HTML in the person's zone: `2026-11-22 08:14:08`, or with milliseconds.

    Hovering shows ISO 8601 in UTC with every digit.
    """
    if moment is None:
        return EMPTY
    iso, shown = moment.astimezone(UTC).isoformat(), localtime(moment)
    text = f"{shown:%Y-%m-%d %H:%M:%S}"
    if precise:
        text += f".{shown.microsecond // 1000:03}"
    return format_html('<time class="desk-time" datetime="{}" title="{}">{}</time>', iso, iso, text)


def label(text: Any, color: str) -> str:
    """Return a colored label: `info`, `success`, `warning`, `danger`, `primary` or none.

    Unlike unfold's `@display(label=…)` it also works among the read-only fields of a form.
    """
    return render_to_string("unfold/helpers/label.html", {"text": text, "type": color})


def state_label(status: str) -> str:
    """Return the label of an order's status: its sign, its name, and its color."""
    known = Status(status)
    return format_html(
        '<span class="desk-state desk-state-{}"><span aria-hidden="true">{}</span> {}</span>',
        STATUS_COLORS[known] or "plain",
        STATUS_SIGNS[known],
        known.label,
    )


def filled_bar(order: Order) -> str:
    """Return the filled quantity as a number, and as a bar against the order's quantity."""
    asked, done = order.quantity, order.filled_quantity
    if asked is None:  # the order's size is in the quote asset
        asked, done = order.quote_quantity, order.filled_quote_quantity
    shown = number(order.filled_quantity, writer(order, "quantity"))
    if not asked:
        return shown
    percent = min(100, int(done * 100 / asked))
    if done and not percent:
        percent = 1  # something is there
    return format_html(
        '{}<progress class="desk-bar" max="100" value="{}" aria-label="{}"></progress>',
        shown,
        percent,
        _("filled: %(percent)d %%") % {"percent": percent},
    )


def distance_text(distance: Distance | None) -> str:
    """Return a limit's distance from the market in percent, with the age of an old price.

    `ages.js` adds the age of a price that gets old on the page.
    """
    if distance is None:
        return EMPTY
    hint = _("%(source)s %(price)s, %(time)s") % {
        "source": price_source(distance.known.source),
        "price": plain(distance.known.price),
        "time": f"{localtime(distance.known.at):%Y-%m-%d %H:%M:%S}",
    }
    return format_html(
        '<span class="desk-number" title="{}">{} %</span> <small data-age="{}">{}</small>',
        hint,
        f"{distance.percent:.2f}",
        int(distance.age.total_seconds()),
        "" if distance.is_fresh else duration(distance.age),
    )


def price_source(source: str) -> str:
    """Return a price's source for people. Attempts of earlier versions have none."""
    return _("mid") if source == PriceSource.MID else _("last trade")


def duration(span: timedelta) -> str:
    """Return the two largest units of a span: `45 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
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
    """Return JSON as escaped HTML: on one line if it fits, else folded, a row for each field."""
    if not details:
        return EMPTY
    text = json.dumps(details, ensure_ascii=False)
    if len(text) <= ONE_LINE:
        return format_html('<pre class="desk-json">{}</pre>', text)
    fields = details if isinstance(details, dict) else {"": details}
    plain = [f"{name} {value}" for name, value in fields.items() if _is_plain(value)]
    pairs = ((name, _value(value)) for name, value in fields.items())
    rows = format_html_join("", "<dt>{}</dt><dd>{}</dd>", pairs)
    return format_html(
        '<details class="desk-fold"><summary>{}</summary><dl>{}</dl></details>',
        Truncator(", ".join(plain) or text).chars(ONE_LINE),
        rows,
    )


def _is_plain(value: Any) -> bool:
    return not isinstance(value, dict | list)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return value
    text = json.dumps(value, indent=None if _is_plain(value) else 2, ensure_ascii=False)
    return text if _is_plain(value) else format_html('<pre class="desk-json">{}</pre>', text)


def stream_label(account: ExchangeAccount) -> str:
    """Return the state of the account's user stream as a label.

    The account comes with `select_related("stream")`.
    """
    stream: StreamState | None = getattr(account, "stream", None)
    if stream is None:
        return label(_("never started"), "")
    if stream.is_healthy(clock.now()):
        return label(_("in sync"), "success")
    return label(_("silent") if stream.in_sync_since else _("not in sync"), "warning")


def decimal_column(model: type[models.Model], name: str, kind: Kind | None = None) -> Column:
    """Make the column of a decimal field, written on the grid that `attach_grids` gave the row.

    Without a kind it shows every digit.
    """

    def show(row: Any) -> str:
        return number(getattr(row, name), writer(row, kind))

    return Column(show, model, name, css_name=f"{name}_number")


def writer(row: Any, kind: Kind | None) -> Callable[[Decimal], str]:
    """Return the function that writes numbers of this kind for the row."""
    grid = grid_of_row(row)
    match kind:
        case "price":
            return grid.price_text
        case "limit_price":
            return lambda value: grid.limit_price_text(value, row.side)
        case "quantity":
            return grid.quantity_text
        case "money":
            return grid.money_text
    return plain


def number(value: Decimal | None, write: Callable[[Decimal], str] = plain) -> str:
    """Return a decimal as HTML, written by `write`. Hovering shows every digit."""
    if value is None:
        return EMPTY
    return format_html('<span class="desk-number" title="{}">{}</span>', plain(value), write(value))


def amount_asked(order: Order) -> str:
    """Return the quantity that was ordered, or the quote amount with its asset, as HTML."""
    if order.quote_quantity is None or order.quantity is not None:
        return number(order.quantity, writer(order, "quantity"))
    amount = number(order.quote_quantity, writer(order, "money"))
    return format_html("{} {}", amount, grid_of_row(order).quote_asset or _("in the quote asset"))


def grid_of_row(row: Any) -> Grid:
    """Return the grid that `attach_grids` gave the row, or `UNKNOWN`."""
    grid: Grid = getattr(row, "grid", UNKNOWN)
    return grid


def moment(
    model: type[models.Model],
    name: str,
    *,
    ordered: bool = False,
    precise: bool = False,
    heading: Any = None,
) -> Column:
    """Make the column of a time. Set `ordered` only if an index serves the order."""

    def show(row: Any) -> str:
        return utc(getattr(row, name), precise=precise)

    return Column(show, model, name, ordering=name if ordered else None, heading=heading)


def document(model: type[models.Model], name: str) -> Column:
    """Make the column of a JSON field."""

    def show(row: Any) -> str:
        return pretty(getattr(row, name))

    return Column(show, model, name)


@keep_lazy_text
def _capitalized(text: str) -> str:
    return capfirst(text)


def field_name(model: type[models.Model], name: str) -> Any:
    """Return the field's verbose name, translated when it is shown."""
    field = model._meta.get_field(name)  # noqa: SLF001  Django's documented API
    return _capitalized(getattr(field, "verbose_name", name))


def side_text(row: Order | Fill) -> str:
    return format_html('<span class="desk-side-{}">{}</span>', row.side.lower(), row.side)


def status_text(status: str) -> str:
    """Return the label of a status, or the text itself if it is no status."""
    return str(Status(status).label) if status in Status else status


def change_text(event: OrderEvent) -> str:
    """Return the status before and after an event, or the one status that it left as it was."""
    before, after = status_text(event.previous_status), status_text(event.new_status)
    if before == after or not after:
        return before or EMPTY
    return f"{before or EMPTY} → {after}"


def order_link(row: Fill | OrderEvent | ReconciliationBreak) -> str:
    if row.order is None:
        return EMPTY
    address = reverse("admin:orders_order_change", args=[row.order_id])
    return format_html('<a class="desk-link" href="{}">{}</a>', address, row.order.intent_id)


def environment_text(row: ExchangeAccount | Instrument) -> str:
    return label(row.get_environment_display(), ENVIRONMENT_COLORS[Environment(row.environment)])
