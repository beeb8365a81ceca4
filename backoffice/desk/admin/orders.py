"""Orders: the blotter, one order's page, and the verb that cancels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, cast
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold.contrib.filters.admin import (
    ChoicesCheckboxFilter,
    ChoicesRadioFilter,
)
from unfold.decorators import action
from unfold.enums import ActionVariant

from backoffice.desk.admin.breaks import BreakInline
from backoffice.desk.admin.events import OrderEventInline
from backoffice.desk.admin.exchange_orders import ExchangeOrderInline
from backoffice.desk.admin.fills import FillInline
from backoffice.desk.admin.journal import TouchedVerb
from backoffice.desk.bulk.pages import WholeList
from backoffice.desk.lists.columns import (
    EMPTY,
    STATUS_COLORS,
    Column,
    amount_asked,
    decimal_column,
    distance_text,
    duration,
    filled_bar,
    grid_of_row,
    moment,
    side_text,
    state_label,
)
from backoffice.desk.lists.exports import Exports
from backoffice.desk.lists.filters import (
    UNRESOLVED,
    AccountFilter,
    OrderTypeFilter,
    OriginFilter,
    PhaseFilter,
    StrategyFilter,
    SymbolFilter,
    TimeRangeFilter,
)
from backoffice.desk.lists.market import attach_distances
from backoffice.desk.lists.paging import GridList, GridTable, UncountedList
from backoffice.desk.lists.saved_views import ChosenColumns
from backoffice.desk.lists.search import MAX_FOUND, find_orders
from backoffice.desk.mixins import ReasonForm
from backoffice.desk.order_page.fill_sums import fill_sums_of
from backoffice.desk.order_page.gate import gate_of
from backoffice.desk.order_page.message import message_of
from backoffice.desk.order_page.next_step import next_step
from backoffice.desk.order_page.quality import quality_of
from backoffice.desk.order_page.timeline import timeline_of
from backoffice.desk.pages.order_by_hand import place_by_hand
from backoffice.desk.reasons import shown_reason
from backoffice.desk.verbs.ask_now import AskVerb, may_be_asked
from backoffice.desk.verbs.cancel_orders import cancel_each
from backoffice.desk.verbs.declare_lost import LostVerb, may_be_lost
from backoffice.desk.verbs.review_orders import ReviewVerb
from backoffice.people.account_rows import AccountRows
from backoffice.people.grants import account_ids
from exchanges import clock
from orders import states
from orders.models import Order, Status

MAX_CANCELS = 100


_recorded_at = moment(Order, "created_at", ordered=True, heading=gettext_lazy("Time"))
_age = Column(lambda order: age_text(order), Order, "age", heading=gettext_lazy("Age"))
_next_check = moment(Order, "next_check_at")


class OrderList(GridList):
    """Orders with the grid of their symbol and the distance of their limit from the market."""

    def prepared(self, rows: list[Order]) -> list[Order]:
        rows = super().prepared(rows)
        attach_distances(rows)
        return rows

    search_note = ""

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[Order]:
        rows: QuerySet[Order] = super().get_queryset(request, *args, **kwargs)
        if getattr(request, "desk_search_is_cut", False):
            text = _("More than %(count)d orders match. Type more of the ID to see the others.")
            self.search_note = text % {"count": MAX_FOUND}
        return rows


@admin.register(Order)
class OrderAdmin(
    AccountRows,
    ChosenColumns,
    WholeList,
    Exports,
    TouchedVerb,
    ReviewVerb,
    AskVerb,
    LostVerb,
    GridTable,
):
    class Media:
        js = ("desk/ages.js",)

    whole_list: ClassVar = {"cancel": ReasonForm}
    list_display = (
        _recorded_at,
        "status_label",
        "account",
        "symbol",
        "side_label",
        "quantity_number",
        decimal_column(Order, "price", "limit_price"),
        Column(
            lambda order: distance_text(order.distance),
            Order,
            "distance_number",
            heading=gettext_lazy("From market"),
        ),
        Column(filled_bar, Order, "filled_quantity", css_name="filled_quantity_number"),
        "intent_id",
    )
    more_columns = (
        "reason_text",
        "order_type",
        decimal_column(Order, "average_price", "price"),
        _age,
        "strategy",
        "time_in_force",
        decimal_column(Order, "stop_price", "limit_price"),
        decimal_column(Order, "filled_quote_quantity", "money"),
        "exchange_order_id",
        "attempt",
        moment(Order, "submitted_at"),
        moment(Order, "acknowledged_at"),
        moment(Order, "closed_at"),
        moment(Order, "place_by"),
        _next_check,
        "cancel_requested_by",
    )
    export_fields = (
        *("id", "account__name", "intent_id", "strategy", "symbol", "side", "order_type"),
        *("time_in_force", "quantity", "quote_quantity", "price", "stop_price", "status"),
        *("reason_code", "reason", "exchange_order_id", "filled_quantity"),
        *("filled_quote_quantity", "average_price", "is_external", "attempt", "created_at"),
        *("submitted_at", "acknowledged_at", "closed_at", "place_by"),
        *("cancel_requested_at", "cancel_requested_by"),
    )
    card_lines = (
        "symbol side_label quantity_number price_number",
        "status_label filled_quantity_number distance_number account",
        "created_at intent_id",
    )
    empty_text = gettext_lazy("No orders yet")
    empty_hint = gettext_lazy(
        "Each order of a bot appears here as soon as it is recorded. If a bot has sent some, check"
        " its account's name and the worker's log."
    )
    list_display_links = (_recorded_at, "intent_id")
    list_select_related = ("account",)
    list_filter = (
        PhaseFilter,
        ("status", ChoicesCheckboxFilter),
        ("account", AccountFilter),
        SymbolFilter,
        StrategyFilter,
        ("side", ChoicesRadioFilter),
        OrderTypeFilter,
        OriginFilter,
        ("created_at", TimeRangeFilter),
    )
    sortable_by = ("created_at",)
    ordering = ("-created_at", "-id")
    search_fields = ("intent_id",)  # shows the box. `get_search_results` does the search
    search_help_text = gettext_lazy(
        "Any ID of an order, or its beginning: intent, client order, exchange order, trade"
    )
    actions = ("cancel_selected",)
    actions_detail = (
        *("release_this", "reject_this"),
        *("cancel_this", "ask_now", "declare_lost", "who_touched"),
    )
    change_form_outer_before_template = "desk/order_header.html"
    inlines = (ExchangeOrderInline, FillInline, OrderEventInline, BreakInline)

    def get_urls(self) -> list[Any]:
        by_hand = self.admin_site.admin_view(self.by_hand)
        return [path("by-hand/", by_hand, name="orders_order_by_hand"), *super().get_urls()]

    def by_hand(self, request: HttpRequest) -> HttpResponse:
        """Let a person place an order."""
        return place_by_hand(request, self.admin_site)

    def touched_name(self, obj: Order) -> str:
        return f"order:{obj.pk}"

    # Columns

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[UncountedList]:
        return OrderList

    def usual_columns(self, request: HttpRequest) -> tuple[Any, ...]:
        columns = super().usual_columns(request)
        if request.GET.get(PhaseFilter.parameter_name) == UNRESOLVED:
            return (columns[0], _age, _next_check, *(c for c in columns[1:] if c is not _age))
        return columns

    def get_ordering(self, request: HttpRequest) -> Any:
        if request.GET.get(PhaseFilter.parameter_name) == UNRESOLVED:
            return ("created_at", "id")  # oldest first
        return self.ordering

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return no fields: the header of the page shows them all in less space."""
        return ()

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        """Return the tables that have a row to show."""
        inlines = super().get_inlines(request, obj)
        return [page for page in inlines if obj and page.model.objects.filter(order=obj).exists()]

    @admin.display(description=gettext_lazy("Side"))
    def side_label(self, order: Order) -> str:
        return side_text(order)

    @admin.display(description=gettext_lazy("Status"))
    def status_label(self, order: Order) -> str:
        text = _reason_of(order)
        why = format_html('<span class="desk-why" title="{}">{}</span>', text, text) if text else ""
        return format_html("{}{}", state_label(order.status), why)

    @admin.display(description=gettext_lazy("Quantity"))
    def quantity_number(self, order: Order) -> str:
        return amount_asked(order)

    @admin.display(description=gettext_lazy("Reason"))
    def reason_text(self, order: Order) -> str:
        text = _reason_of(order)
        return (
            format_html('<span class="desk-reason" title="{}">{}</span>', text, text)
            if text
            else EMPTY
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Order], search_term: str
    ) -> tuple[QuerySet[Order], bool]:
        if search_term.strip():
            found = find_orders(search_term, accounts=account_ids(request.user))
            queryset = queryset.filter(pk__in=found)
            request.desk_search_is_cut = len(found) == MAX_FOUND  # type: ignore[attr-defined]
        return queryset, False

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Order | None:
        """Return the order with its grid, read once for a page that only shows it."""
        if request.method != "GET" or from_field:
            return cast("Order | None", super().get_object(request, object_id, from_field))
        known: dict[str, Order | None] | None = getattr(request, "desk_orders", None)
        if known is None:
            known = request.desk_orders = {}  # type: ignore[attr-defined]
        if object_id not in known:
            known[object_id] = super().get_object(request, object_id, from_field)
        return known[object_id]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        order = self.get_object(request, object_id)
        if order is not None:
            if request.headers.get("X-Desk-Version") == str(order.version):
                return HttpResponse(status=204)  # a bell rang for another order
            extra_context = (extra_context or {}) | header(order)
        response: HttpResponse = super().change_view(request, object_id, form_url, extra_context)
        return response

    # Cancel

    def has_cancel_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("orders.cancel_order")

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        """Return the buttons of the verbs that the order's state allows."""
        order = self.get_object(request, str(object_id))
        if order is None:
            return []
        allowed = {
            "cancel": order.status not in states.CLOSED,
            "lost": may_be_lost(order),
            "ask": may_be_asked(order),
            "release": order.status == Status.HELD,
            "reject": order.status == Status.HELD,
        }
        buttons = super().get_actions_detail(request, object_id)
        return [button for button in buttons if allowed.get(button.method.url_path, True)]

    @admin.action(description=gettext_lazy("Cancel selected orders"), permissions=["cancel"])
    def cancel_selected(
        self, request: HttpRequest, queryset: QuerySet[Order]
    ) -> HttpResponse | None:
        # By ID, so that an order that left the page's filter in the meantime gets an answer too.
        ids = [pk for pk in map(_as_uuid, request.POST.getlist(ACTION_CHECKBOX_NAME)) if pk]
        picked = self.get_queryset(request).filter(pk__in=ids)
        orders = list(picked.select_related("account")[: MAX_CANCELS + 1])
        if len(orders) > MAX_CANCELS:
            text = ngettext(
                "Select at most %(count)d order.", "Select at most %(count)d orders.", MAX_CANCELS
            )
            self.message_user(request, text % {"count": MAX_CANCELS}, messages.ERROR)
            return None
        # Go back to the same filters and page.
        return self._ask_then_cancel(request, orders, back=request.get_full_path())

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
        return self._ask_then_cancel(
            request, [order], back=reverse("admin:orders_order_change", args=[object_id])
        )

    def _ask_then_cancel(
        self, request: HttpRequest, orders: list[Order], *, back: str
    ) -> HttpResponse:
        def do(answer: dict[str, Any]) -> bool:
            self._cancel(request, orders, answer["reason"])
            return True

        return self.ask_then(
            request,
            do,
            back=back,
            template="desk/cancel_orders.html",
            title=_("Cancel orders"),
            orders=orders,
            closed_count=sum(order.status in states.CLOSED for order in orders),
        )

    def _cancel(self, request: HttpRequest, orders: Iterable[Order], reason: str) -> None:
        for answer in cancel_each(orders, requested_by=request.user.get_username(), reason=reason):
            self.message_user(request, f"{answer.intent_id}: {answer.text}", answer.level)


def _reason_of(order: Order) -> str:
    text = shown_reason(str(order.reason or order.reason_code))
    if order.cancel_requested_at and order.status not in states.CLOSED:
        requested = _("cancel requested")
        return f"{requested}. {text}" if text else requested
    if order.status == Status.CANCELED and order.cancel_requested_by and not order.reason:
        return _("requested by %(who)s") % {"who": order.cancel_requested_by}
    return text


def age_text(order: Order) -> str:
    """Return the time since the order was recorded, or how long it lived if it is closed."""
    if order.status not in states.CLOSED:
        return duration(clock.now() - order.created_at)
    if order.closed_at is None:
        return EMPTY
    return format_html("<small>{}</small>", duration(order.closed_at - order.created_at))


def header(order: Order) -> dict[str, Any]:
    """Return the context of an order page's header, besides the order itself."""
    attempts = list(order.exchange_orders.order_by("attempt"))
    fills = fill_sums_of(order)
    orders = reverse("admin:orders_order_changelist")
    return {
        "step": next_step(order),
        "status_color": STATUS_COLORS[Status(order.status)],
        "moments": timeline_of(order, fills),
        "quality": quality_of(order, grid_of_row(order).quote_asset, attempts, fills),
        "gate": gate_of(order, attempts),
        "message": message_of(order),
        "strategy_link": f"{orders}?{urlencode({'strategy': order.strategy})}",
        "stop_link": f"{reverse('stop')}?order={order.pk}",
        "prices_address": reverse("order_prices", args=[order.pk]),
    }


def _as_uuid(text: Any) -> UUID | None:
    try:
        return UUID(str(text))
    except ValueError:
        return None
