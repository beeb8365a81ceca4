"""Lay out an order's life: each moment that is stored, and the time since the one before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import log10
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backoffice.desk.order_page.fill_sums import FillSums
from orders.models import Order
from orders.stages import Stage, stages_of

STAGE_NAMES: dict[Stage, Any] = {
    Stage.RECEIVED: gettext_lazy("taken by a worker"),
    Stage.GATED: gettext_lazy("passed the gate"),
    Stage.CLAIMED: gettext_lazy("claimed, on disk"),
    Stage.SENT: gettext_lazy("sent"),
    Stage.ANSWERED: gettext_lazy("answered by the exchange"),
    Stage.RECORDED: gettext_lazy("answer recorded"),
    Stage.FIRST_FILL: gettext_lazy("first fill"),
}
# A bar is full for a minute and more. Each tenth of a bar is a step on a logarithmic scale.
_FULL_MS = 60_000


@dataclass(frozen=True, slots=True)
class Moment:
    """One point of the drawn timeline. `gap` is the time since the one before it."""

    name: str
    at: datetime
    gap: timedelta | None = None
    kind: str = "ours"

    @property
    def gap_text(self) -> str:
        """Write the gap in milliseconds, or in seconds from ten on."""
        if self.gap is None:
            return ""
        ms = self.gap.total_seconds() * 1000
        if abs(ms) < 10:
            return _("%(ms).1f ms") % {"ms": ms}
        if abs(ms) < 10_000:
            return _("%(ms)d ms") % {"ms": round(ms)}
        return _("%(seconds).1f s") % {"seconds": ms / 1000}

    @property
    def width(self) -> int:
        """Return the length of the gap's bar in percent, on a logarithmic scale."""
        if self.gap is None:
            return 0
        ms = max(self.gap.total_seconds() * 1000, 0)
        return min(100, round(100 * log10(1 + ms) / log10(1 + _FULL_MS)))


def timeline_of(order: Order, fills: FillSums) -> list[Moment]:
    """Return the stored moments in their order, from the caller's decision to the end.

    Fills and the decision have other clocks than ours, so a gap to them can be negative.
    """
    found = sorted(_moments(order, fills), key=lambda moment: moment.at)
    return [
        replace(moment, gap=moment.at - found[number - 1].at) if number else moment
        for number, moment in enumerate(found)
    ]


def _moments(order: Order, fills: FillSums) -> Iterator[Moment]:
    if order.submitted_at:
        yield Moment(_("decided by the caller"), order.submitted_at, kind="theirs")
    yield Moment(_("recorded"), order.created_at)
    for reached in stages_of(order):
        name = str(STAGE_NAMES[reached.stage])
        if order.attempt > 1:
            name = _("attempt %(number)d: %(stage)s") % {"number": reached.attempt, "stage": name}
        is_theirs = reached.stage in (Stage.ANSWERED, Stage.FIRST_FILL)
        yield Moment(name, reached.at, kind="theirs" if is_theirs else "ours")
    if fills.count > 1 and fills.last_at:
        text = _("last of %(count)d fills") % {"count": fills.count}
        yield Moment(text, fills.last_at, kind="theirs")
    if order.cancel_requested_at:
        who = order.cancel_requested_by
        yield Moment(
            _("cancel requested by %(who)s") % {"who": who} if who else _("cancel requested"),
            order.cancel_requested_at,
        )
    if order.closed_at:
        text = _("closed: %(status)s") % {"status": order.get_status_display()}
        yield Moment(text, order.closed_at, kind="end")
