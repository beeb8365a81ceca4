"""Filters of the blotter. Texts are matched exactly, and no filter reads the distinct values of a large table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import RadioFilter, RangeDateTimeFilter, TextFilter

from orders import states
from orders.models import Order, ReconciliationBreak

UNRESOLVED = "unresolved"
CANCEL_WISHED = "cancel_wished"
PHASE_STATUSES = {
    UNRESOLVED: states.UNSETTLED,
    "open": states.OPEN,
    "closed": states.CLOSED,
}


class PhaseFilter(RadioFilter):
    """The named sets of `orders.states`."""

    title = _("state")
    parameter_name = "phase"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, Any]]:
        return [
            ("open", _("Open: working at the exchange")),
            (UNRESOLVED, _("Unresolved: not sent yet, or unconfirmed")),
            (CANCEL_WISHED, _("Cancel wished, not closed yet")),
            ("closed", _("Closed")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Order]) -> QuerySet[Order]:
        phase = self.value()
        if phase == CANCEL_WISHED:
            unclosed = [*states.UNSETTLED, *states.OPEN]
            return queryset.filter(status__in=unclosed, cancel_requested_at__isnull=False)
        if phase in PHASE_STATUSES:
            return queryset.filter(status__in=[*PHASE_STATUSES[phase]])
        return queryset


class SymbolFilter(TextFilter):
    title = _("symbol")
    parameter_name = "symbol"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        symbol = (self.value() or "").strip().replace("/", "").upper()
        return queryset.filter(symbol=symbol) if symbol else queryset


class StrategyFilter(TextFilter):
    title = _("strategy")
    parameter_name = "strategy"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Order]) -> QuerySet[Order]:
        strategy = (self.value() or "").strip()
        return queryset.filter(strategy=strategy) if strategy else queryset


class TimeRangeFilter(RangeDateTimeFilter):
    """From and to in UTC. A date without a time means all of that day; what is no date is refused."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = _("time, UTC")

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if start := self._moment("from", "00:00:00"):
            queryset = queryset.filter(**{f"{self.parameter_name}__gte": start})
        if end := self._moment("to", "23:59:59"):
            # All of that second: times have microseconds.
            queryset = queryset.filter(**{f"{self.parameter_name}__lt": end + timedelta(seconds=1)})
        return queryset

    def _moment(self, end: str, whole_day: str) -> datetime | None:
        date = self.used_parameters.get(f"{self.parameter_name}_{end}_0")
        time = self.used_parameters.get(f"{self.parameter_name}_{end}_1") or whole_day
        if not date:
            return None
        try:
            return datetime.fromisoformat(f"{date} {time}").replace(tzinfo=UTC)
        except ValueError as error:
            raise IncorrectLookupParameters from error


class BreakStateFilter(RadioFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, Any]]:
        return [("open", _("Open")), ("resolved", _("Resolved"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ReconciliationBreak]) -> QuerySet[ReconciliationBreak]:
        if self.value() in ("open", "resolved"):
            return queryset.filter(resolved_at__isnull=self.value() == "open")
        return queryset
