"""The blotter and what belongs to it. Records are read-only; the one verb on an order is to cancel it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold.admin import ModelAdmin, TabularInline
from unfold.contrib.filters.admin import (
    ChoicesCheckboxFilter,
    ChoicesDropdownFilter,
    ChoicesRadioFilter,
    RelatedDropdownFilter,
)
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.views import ChangeList

from exchanges import clock
from exchanges.pages import EMPTY, ReadOnlyRecords, ReasonForm, document, duration, exact, figure, label, moment
from exchanges.types import plain
from orders import risk_admin, states
from orders.desk import staff
from orders.desk.cancelling import cancel_each
from orders.desk.explain import OUTCOME_COLOURS, STATUS_COLOURS, next_step
from orders.desk.filters import UNRESOLVED, BreakStateFilter, PhaseFilter, StrategyFilter, SymbolFilter, TimeRangeFilter
from orders.desk.paging import CappedPaginator
from orders.desk.search import find_orders
from orders.models import ExchangeOrder, Fill, Order, OrderEvent, Outcome, Position, ReconciliationBreak, Status
from orders.positions import PositionNow, positions_of

__all__ = ["risk_admin"]  # Django looks for pages in this module alone

MAX_CANCELS = 100

staff.dress()


def side_text(row: Order | Fill) -> str:
    return format_html('<span class="desk-side-{}">{}</span>', row.side.lower(), row.side)


def status_text(status: str) -> str:
    """A status as people read it; an unknown word as it is."""
    return str(Status(status).label) if status in Status else status


class UncountedList(ChangeList):
    """Without the page head's "n results (show all)", which needs the count of all rows."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.full_result_count = self.result_count


class BigTable(ReadOnlyRecords, ModelAdmin):
    """A list over a table that may hold millions of rows: no count of all, no order without an index."""

    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 30  # the theme's rows weigh 10 kB each
    list_max_show_all = 30
    list_fullwidth = True
    list_filter_submit = True
    list_disable_select_all = True
    list_before_template = "desk/capped.html"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[UncountedList]:
        return UncountedList


# -- What belongs to one order -------------------------------------------------------------------------------------


class RecordInline(ReadOnlyRecords, TabularInline):
    extra = 0
    hide_title = True
    show_change_link = False
    per_page = 50

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.readonly_fields


_commission = figure(Fill, "commission")


class ExchangeOrderInline(RecordInline):
    model = ExchangeOrder
    verbose_name_plural = gettext_lazy("At the exchange: one line per request")
    readonly_fields = (
        "attempt",
        "client_order_id",
        "exchange_order_id",
        "outcome_label",
        "exchange_status",
        figure(ExchangeOrder, "quantity"),
        figure(ExchangeOrder, "price"),
        figure(ExchangeOrder, "filled_quantity"),
        moment(ExchangeOrder, "sent_at", precise=True),
        moment(ExchangeOrder, "acknowledged_at", precise=True),
    )

    @admin.display(description=gettext_lazy("Outcome"))
    def outcome_label(self, row: ExchangeOrder) -> str:
        return label(row.get_outcome_display(), OUTCOME_COLOURS[Outcome(row.outcome)])


class FillLabels:
    """Mixed into the pages of fills."""

    @admin.display(description=gettext_lazy("Commission"))
    def commission_label(self, row: Fill) -> str:
        return format_html("{} {}", _commission(row), row.commission_asset)

    @admin.display(description=gettext_lazy("Liquidity"))
    def liquidity_label(self, row: Fill) -> str:
        if row.is_maker is None:
            return EMPTY
        return _("maker") if row.is_maker else _("taker")


class FillInline(FillLabels, RecordInline):
    model = Fill
    ordering = ("traded_at", "id")
    readonly_fields = (
        moment(Fill, "traded_at", precise=True),
        "trade_id",
        figure(Fill, "quantity"),
        figure(Fill, "price"),
        figure(Fill, "quote_quantity"),
        "commission_label",
        "liquidity_label",
    )


class OrderEventInline(RecordInline):
    model = OrderEvent
    ordering = ("id",)
    verbose_name_plural = gettext_lazy("What happened")
    readonly_fields = (
        moment(OrderEvent, "at", precise=True),
        "event_type",
        "change",
        "actor",
        "source",
        document(OrderEvent, "details"),
    )

    @admin.display(description=gettext_lazy("Before → after"))
    def change(self, event: OrderEvent) -> str:
        return change_text(event)


class BreakInline(RecordInline):
    model = ReconciliationBreak
    readonly_fields = (
        moment(ReconciliationBreak, "opened_at"),
        "kind",
        "subject",
        document(ReconciliationBreak, "details"),
        moment(ReconciliationBreak, "resolved_at"),
        "resolution",
    )


def change_text(event: OrderEvent) -> str:
    before, after = status_text(event.previous_status), status_text(event.new_status)
    if before == after or not after:
        return before or EMPTY
    return f"{before or EMPTY} → {after}"


# -- Orders --------------------------------------------------------------------------------------------------------


_quantity, _quote_quantity = figure(Order, "quantity"), figure(Order, "quote_quantity")
_recorded_at = moment(Order, "created_at", ordered=True, heading=gettext_lazy("Time, UTC"))


@admin.register(Order)
class OrderAdmin(BigTable):
    list_display = (
        _recorded_at,
        "account",
        "symbol",
        "side_label",
        "order_type",
        "quantity_text",
        figure(Order, "price"),
        figure(Order, "filled_quantity"),
        figure(Order, "average_price"),
        "status_label",
        "reason_text",
        "intent_id",
    )
    unresolved_columns = ("age", moment(Order, "next_check_at"))
    list_display_links = (_recorded_at, "intent_id")
    list_select_related = ("account",)
    list_filter = (
        PhaseFilter,
        ("status", ChoicesCheckboxFilter),
        ("account", RelatedDropdownFilter),
        SymbolFilter,
        StrategyFilter,
        ("side", ChoicesRadioFilter),
        ("created_at", TimeRangeFilter),
    )
    sortable_by = ("created_at",)
    ordering = ("-created_at", "-id")
    search_fields = ("intent_id",)  # shows the box; `get_search_results` looks up
    search_help_text = gettext_lazy(
        "Intent id or its beginning, client order id, exchange order id, trade id, order id"
    )
    actions = ("cancel_selected",)
    actions_detail = ("cancel_this",)
    change_form_outer_before_template = "desk/order_header.html"
    inlines = (ExchangeOrderInline, FillInline, OrderEventInline, BreakInline)

    # The look

    def get_list_display(self, request: HttpRequest) -> Any:
        columns = super().get_list_display(request)
        if request.GET.get(PhaseFilter.parameter_name) == UNRESOLVED:
            return (*columns[:1], *self.unresolved_columns, *columns[1:])
        return columns

    def get_ordering(self, request: HttpRequest) -> Any:
        if request.GET.get(PhaseFilter.parameter_name) == UNRESOLVED:
            return ("created_at", "id")  # the longest wait first
        return self.ordering

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """None: the head of the page says all of it, closer together."""
        return ()

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        """Only those with a row to show."""
        inlines = super().get_inlines(request, obj)
        return [page for page in inlines if obj and page.model.objects.filter(order=obj).exists()]

    @admin.display(description=gettext_lazy("Side"))
    def side_label(self, order: Order) -> str:
        return side_text(order)

    @admin.display(description=gettext_lazy("Status"))
    def status_label(self, order: Order) -> str:
        return label(order.get_status_display(), STATUS_COLOURS[Status(order.status)])

    @admin.display(description=gettext_lazy("Quantity"))
    def quantity_text(self, order: Order) -> str:
        if order.quantity is None:
            return format_html("{} {}", _quote_quantity(order), _("in quote"))
        return _quantity(order)

    @admin.display(description=gettext_lazy("Reason"))
    def reason_text(self, order: Order) -> str:
        text = order.reason or order.reason_code
        if order.cancel_requested_at and order.status not in states.CLOSED:
            wished = _("cancel wished")
            text = f"{wished}. {text}" if text else wished
        elif order.status == Status.CANCELED and order.cancel_requested_by and not order.reason:
            text = _("requested by %(who)s") % {"who": order.cancel_requested_by}
        return format_html('<span class="desk-reason" title="{}">{}</span>', text, text) if text else EMPTY

    @admin.display(description=gettext_lazy("Age"))
    def age(self, order: Order) -> str:
        return duration(clock.now() - order.created_at)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Order], search_term: str
    ) -> tuple[QuerySet[Order], bool]:
        if search_term.strip():
            queryset = queryset.filter(pk__in=find_orders(search_term))
        return queryset, False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        order = self.get_object(request, object_id)
        if order is not None:
            extra_context = (extra_context or {}) | header(order)
        response: HttpResponse = super().change_view(request, object_id, form_url, extra_context)
        return response

    # The verb

    def has_cancel_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("orders.cancel_order")

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        """No button on an order that is closed."""
        pk = _as_uuid(object_id)
        if pk is None or not Order.objects.filter(pk=pk).exclude(status__in=[*states.CLOSED]).exists():
            return []
        return super().get_actions_detail(request, object_id)

    @admin.action(description=gettext_lazy("Cancel selected orders"), permissions=["cancel"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Order]) -> HttpResponse | None:
        # By id: an order that has left the page's filter since it was picked gets its answer, too.
        ids = [pk for pk in map(_as_uuid, request.POST.getlist(ACTION_CHECKBOX_NAME)) if pk]
        picked = self.get_queryset(request).filter(pk__in=ids)
        orders = list(picked.select_related("account")[: MAX_CANCELS + 1])
        if len(orders) > MAX_CANCELS:
            text = ngettext("At most %(count)d order at once.", "At most %(count)d orders at once.", MAX_CANCELS)
            self.message_user(request, text % {"count": MAX_CANCELS}, messages.ERROR)
            return None
        # Back to the same filters and page.
        return self._confirm_or_cancel(request, orders, back=request.get_full_path())

    @action(
        description=gettext_lazy("Cancel this order"),
        permissions=["cancel"],
        url_path="cancel",
        icon="cancel",
        variant=ActionVariant.DANGER,
    )
    def cancel_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        order = self.get_object(request, object_id)
        if order is None:
            raise Http404
        if not self.has_view_permission(request, order):
            raise PermissionDenied
        return self._confirm_or_cancel(request, [order], back=reverse("admin:orders_order_change", args=[object_id]))

    def _confirm_or_cancel(self, request: HttpRequest, orders: list[Order], *, back: str) -> HttpResponse:
        form = ReasonForm(request.POST if "confirmed" in request.POST else None)
        if form.is_valid():
            self._cancel(request, orders, form.cleaned_data["reason"])
            return HttpResponseRedirect(back)
        context = {
            **self.admin_site.each_context(request),
            "title": _("Cancel orders"),
            "opts": self.opts,
            "orders": orders,
            "closed_count": sum(order.status in states.CLOSED for order in orders),
            "form": form,
            "back": back,
            "selected_name": ACTION_CHECKBOX_NAME,
            "status_colours": STATUS_COLOURS,
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "desk/cancel_orders.html", context)

    def _cancel(self, request: HttpRequest, orders: Iterable[Order], reason: str) -> None:
        for answer in cancel_each(orders, requested_by=request.user.get_username(), reason=reason):
            self.message_user(request, f"{answer.intent_id}: {answer.text}", answer.level)


def header(order: Order) -> dict[str, Any]:
    """What the head of one order's page says, beside the order itself."""
    return {"step": next_step(order), "status_colour": STATUS_COLOURS[Status(order.status)]}


def _as_uuid(text: Any) -> UUID | None:
    try:
        return UUID(str(text))
    except ValueError:
        return None


# -- Fills, breaks, events -----------------------------------------------------------------------------------------


def order_link(row: Fill | OrderEvent | ReconciliationBreak) -> str:
    if row.order is None:
        return EMPTY
    address = reverse("admin:orders_order_change", args=[row.order_id])
    return format_html('<a class="desk-link" href="{}">{}</a>', address, row.order.intent_id)


@admin.register(Fill)
class FillAdmin(FillLabels, BigTable):
    list_display = (
        moment(Fill, "traded_at"),
        "account",
        "symbol",
        "side_label",
        figure(Fill, "quantity"),
        figure(Fill, "price"),
        figure(Fill, "quote_quantity"),
        "commission_label",
        "liquidity_label",
        "trade_id",
        "order_label",
    )
    list_display_links = None
    list_select_related = ("account", "order")
    list_filter = (("account", RelatedDropdownFilter), SymbolFilter, ("side", ChoicesRadioFilter))
    ordering = ("-id",)
    sortable_by = ()
    search_fields = ("trade_id",)
    search_help_text = gettext_lazy("Trade id, or any id of its order")
    fields = readonly_fields = (*list_display[:-1], "order_label")

    @admin.display(description=gettext_lazy("Side"))
    def side_label(self, row: Fill) -> str:
        return side_text(row)

    @admin.display(description=gettext_lazy("Order"))
    def order_label(self, row: Fill) -> str:
        return order_link(row)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Fill], search_term: str
    ) -> tuple[QuerySet[Fill], bool]:
        if search_term.strip():
            queryset = queryset.filter(order__in=find_orders(search_term))
        return queryset, False


class PositionList(UncountedList):
    """Its rows with the fills since they were last folded: `row.now`."""

    result_list: Any

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows: list[Any] = list(self.result_list)
        now: dict[tuple[int, str], PositionNow] = {}
        for account in {row.account for row in rows}:
            now |= {(account.pk, position.symbol): position for position in positions_of(account)}
        for row in rows:
            row.now = now[row.account_id, row.symbol]
        self.result_list = rows


@admin.register(Position)
class PositionAdmin(BigTable):
    list_display = (
        "account",
        "base_asset",
        "quote_asset",
        "quantity_now",
        "average_cost_now",
        figure(Position, "last_price"),
        "unrealised_now",
        "realised_now",
        "fees_now",
        moment(Position, "priced_at"),
    )
    list_display_links = None
    list_select_related = ("account",)
    list_filter = (("account", RelatedDropdownFilter), SymbolFilter)
    ordering = ("account", "symbol")
    sortable_by = ()

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[UncountedList]:
        return PositionList

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Of one alone the list says everything.
        return obj is None and super().has_view_permission(request, obj)

    @admin.display(description=gettext_lazy("Quantity"))
    def quantity_now(self, row: Any) -> str:
        return exact(row.now.holding.quantity)

    @admin.display(description=gettext_lazy("Average cost"))
    def average_cost_now(self, row: Any) -> str:
        return exact(row.now.holding.average_cost)

    @admin.display(description=gettext_lazy("Unrealised result"))
    def unrealised_now(self, row: Any) -> str:
        return exact(row.now.unrealised)

    @admin.display(description=gettext_lazy("Realised result, net"))
    def realised_now(self, row: Any) -> str:
        net = row.now.realised_net
        return exact(row.now.holding.realised if net is None else net)

    @admin.display(description=gettext_lazy("Commissions in other assets"))
    def fees_now(self, row: Any) -> str:
        fees = [f"{plain(amount)} {asset}" for asset, amount in sorted(row.now.holding.fees.items())]
        return ", ".join(fees) or EMPTY


@admin.register(ReconciliationBreak)
class ReconciliationBreakAdmin(BigTable):
    list_display = (
        moment(ReconciliationBreak, "opened_at", ordered=True),
        "account",
        "kind",
        "subject",
        "order_label",
        moment(ReconciliationBreak, "resolved_at"),
        "resolution",
    )
    list_select_related = ("account", "order")
    list_filter = (BreakStateFilter, ("kind", ChoicesDropdownFilter), ("account", RelatedDropdownFilter))
    sortable_by = ("opened_at",)
    ordering = ("-opened_at",)
    fields = readonly_fields = (*list_display, document(ReconciliationBreak, "details"))

    @admin.display(description=gettext_lazy("Order"))
    def order_label(self, row: ReconciliationBreak) -> str:
        return order_link(row)


@admin.register(OrderEvent)
class OrderEventAdmin(BigTable):
    list_display = (moment(OrderEvent, "at", precise=True), "order_label", "event_type", "change", "actor", "source")
    list_select_related = ("order",)
    list_filter = (("event_type", ChoicesDropdownFilter),)
    ordering = ("-id",)
    sortable_by = ()
    search_fields = ("actor",)
    search_help_text = gettext_lazy("Any id of the order")
    fields = readonly_fields = (*list_display, document(OrderEvent, "details"))

    @admin.display(description=gettext_lazy("Order"))
    def order_label(self, row: OrderEvent) -> str:
        return order_link(row)

    @admin.display(description=gettext_lazy("Before → after"))
    def change(self, row: OrderEvent) -> str:
        return change_text(row)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[OrderEvent], search_term: str
    ) -> tuple[QuerySet[OrderEvent], bool]:
        if search_term.strip():
            queryset = queryset.filter(order__in=find_orders(search_term))
        return queryset, False
