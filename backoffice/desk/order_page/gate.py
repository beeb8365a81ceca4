"""Show the gate's decision about an order, with the figures that were stored with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

from backoffice.desk.lists.columns import duration, price_source
from backoffice.desk.reasons import shown_reason
from exchanges.types import plain
from orders.models import EventType, ExchangeOrder, Order, OrderEvent

_DECISIONS = (EventType.CLAIMED, EventType.DENIED, EventType.WAITING, EventType.NOT_PLACED)


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision of the gate. `figures` are names and values for people."""

    passed: bool
    text: str
    at: datetime
    figures: list[tuple[str, str]]


def gate_of(order: Order, attempts: Iterable[ExchangeOrder]) -> list[Decision]:
    """Return the decisions about the order, the oldest first. An external order has none."""
    events = OrderEvent.objects.filter(order=order, event_type__in=_DECISIONS).order_by("id")
    rows = {row.attempt: row for row in attempts}
    found, number = [], 0
    for event in events:
        passed = event.event_type == EventType.CLAIMED
        number += passed
        figures = _figures(event, rows.get(number) if passed else None)
        found.append(Decision(passed, _text(event), event.at, figures))
    return found


def _text(event: OrderEvent) -> str:
    if event.event_type == EventType.CLAIMED:
        return _("passed, and claimed for sending")
    details: dict[str, Any] = event.details if isinstance(event.details, dict) else {}
    words = (details.get("code"), shown_reason(str(details.get("reason") or "")))
    reason = " ".join(str(word) for word in words if word)
    name = EventType(event.event_type).label
    return f"{name}: {reason}" if reason else str(name)


def _figures(event: OrderEvent, attempt: ExchangeOrder | None) -> list[tuple[str, str]]:
    details: dict[str, Any] = event.details if isinstance(event.details, dict) else {}
    shown = [
        (name, str(value)) for name, value in details.items() if name not in ("code", "reason")
    ]
    if attempt is not None and attempt.arrival_price is not None:
        source = {"source": price_source(attempt.arrival_price_source)}
        shown.append((_("arrival price (%(source)s)") % source, plain(attempt.arrival_price)))
        if attempt.arrival_price_at and attempt.sent_at:
            age = max(attempt.sent_at - attempt.arrival_price_at, attempt.sent_at - attempt.sent_at)
            shown.append((_("its age"), duration(age)))
    return shown
