"""Filters of the lists. None of them reads the distinct values of a large table."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.timezone import get_current_timezone
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import (
    DropdownFilter,
    RadioFilter,
    RangeDateTimeFilter,
    RelatedDropdownFilter,
    TextFilter,
)

from backoffice.people.grants import accounts_of
from exchanges.models import ExchangeAccount
from exchanges.types import OrderType
from orders import states
from orders.intents import BY_HAND, HAND_PREFIX
from orders.models import RECOVERED_PREFIX, Order, ReconciliationBreak

UNRESOLVED = "unresolved"
CANCEL_REQUESTED = "cancel_wished"
PHASE_STATUSES = {
    UNRESOLVED: states.UNRESOLVED,
    "open": states.OPEN,
    "held": {states.OrderStatus.HELD},
    "closed": states.CLOSED,
}


class PhaseFilter(RadioFilter):
    """Filter by the named sets of statuses in `orders.states`."""

    title = _("state")
    parameter_name = "phase"

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> list[tuple[str, Any]]:
        return [
            ("open", _("Open: working at the exchange")),
            (UNRESOLVED, _("Unresolved: not sent yet, or unconfirmed")),
            (CANCEL_REQUESTED, _("Cancel requested, not closed yet")),
            ("held", _("Waiting for a second person")),
            ("closed", _("Closed")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Order]) -> QuerySet[Order]:
        phase = self.value()
        if phase == CANCEL_REQUESTED:
            # Two sets, because a partial index serves each of them.
            unclosed = Q(status__in=[*states.UNRESOLVED]) | Q(status__in=[*states.OPEN])
            return queryset.filter(unclosed, cancel_requested_at__isnull=False)
        if phase in PHASE_STATUSES:
            return queryset.filter(status__in=[*PHASE_STATUSES[phase]])
        return queryset


class AccountFilter(RelatedDropdownFilter):
    """Offer only the accounts that the person has: the name of another one is none of theirs."""

    def field_choices(
        self, field: Any, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> list[tuple[int, str]]:
        return list(accounts_of(request.user).values_list("pk", "name"))


class OrderTypeFilter(DropdownFilter):
    title = _("type")
    parameter_name = "type"

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> list[tuple[str, Any]]:
        return [(str(kind), str(kind)) for kind in OrderType]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Order]) -> QuerySet[Order]:
        return queryset.filter(order_type=self.value()) if self.value() else queryset


class OriginFilter(RadioFilter):
    """Filter the orders whose intent didn't come through our own door."""

    title = _("origin")
    parameter_name = "origin"

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> list[tuple[str, Any]]:
        return [
            ("external", _("External: placed by someone else")),
            ("recovered", _("Recovered: ours, without its intent")),
            ("by_hand", _("By hand: placed by a person of ours")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Order]) -> QuerySet[Order]:
        if self.value() == "external":
            return queryset.filter(is_external=True)
        if self.value() == "recovered":
            return _with_intents(queryset, RECOVERED_PREFIX)
        if self.value() == "by_hand":
            # A bot may choose such an intent, but no such strategy.
            return _with_intents(queryset, HAND_PREFIX).filter(strategy__startswith=BY_HAND)
        return queryset


def _with_intents(queryset: QuerySet[Order], prefix: str) -> QuerySet[Order]:
    # By account, because the unique index of intents begins with it.
    accounts = list(ExchangeAccount.objects.values_list("pk", flat=True))
    return queryset.filter(account__in=accounts, intent_id__startswith=prefix)


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
    """Filter from and to a time in the person's zone. A date alone covers the whole day."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = _("time")

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if start := self._moment("from", "00:00:00"):
            queryset = queryset.filter(**{f"{self.parameter_name}__gte": start})
        if end := self._moment("to", "23:59:59"):
            # Include the whole second, because times have microseconds.
            until = end.replace(microsecond=999_999)
            queryset = queryset.filter(**{f"{self.parameter_name}__lte": until})
        return queryset

    def _moment(self, end: str, whole_day: str) -> datetime | None:
        date = self.used_parameters.get(f"{self.parameter_name}_{end}_0")
        time = self.used_parameters.get(f"{self.parameter_name}_{end}_1") or whole_day
        if not date:
            return None
        try:
            return datetime.fromisoformat(f"{date} {time}").replace(tzinfo=get_current_timezone())
        except ValueError as error:
            raise IncorrectLookupParameters from error


class BreakStateFilter(RadioFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> list[tuple[str, Any]]:
        return [("open", _("Open")), ("resolved", _("Resolved"))]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[ReconciliationBreak]
    ) -> QuerySet[ReconciliationBreak]:
        if self.value() in ("open", "resolved"):
            return queryset.filter(resolved_at__isnull=self.value() == "open")
        return queryset
