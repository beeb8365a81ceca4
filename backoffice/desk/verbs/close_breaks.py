"""The verb that closes reconciliation breaks by hand, with a typed resolution."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import action
from unfold.widgets import UnfoldAdminRadioSelectWidget

from backoffice.desk.mixins import Line, ReasonForm, ReasonVerb
from orders.models import ReconciliationBreak, Resolution
from orders.recording.breaks import close_by_hand


class CloseForm(ReasonForm):
    """Ask for the resolution and its reason."""

    resolution = forms.ChoiceField(
        label=gettext_lazy("Resolution"),
        choices=Resolution,
        widget=UnfoldAdminRadioSelectWidget,
    )
    field_order = ("resolution", "reason")


class CloseVerb(ReasonVerb):
    """Mixin for the breaks' ModelAdmin: close one break or several."""

    get_object: Any
    get_queryset: Any
    has_view_permission: Any

    def has_close_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("orders.close_break")

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        """Return the buttons. A closed break can't be closed again."""
        row = self.get_object(request, object_id)
        if row is None:
            return []
        buttons = super().get_actions_detail(request, object_id)  # type: ignore[misc]
        return [
            button for button in buttons if not row.resolved_at or button.method.url_path != "close"
        ]

    @admin.action(description=gettext_lazy("Close selected breaks"), permissions=["close"])
    def close_selected(
        self, request: HttpRequest, queryset: QuerySet[ReconciliationBreak]
    ) -> HttpResponse:
        # By ID, so that a break that left the page's filter in the meantime gets an answer too.
        ids = [pk for pk in request.POST.getlist(ACTION_CHECKBOX_NAME) if pk.isdecimal()]
        rows = self.get_queryset(request).filter(pk__in=ids).select_related("account")
        return self.ask_then_close(request, [*rows], back=request.get_full_path())

    @action(
        description=gettext_lazy("Close this break"),
        permissions=["close"],
        url_path="close",
        icon="task_alt",
    )
    def close_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        back = reverse("admin:orders_reconciliationbreak_change", args=[object_id])
        return self.ask_then_close(request, [row], back=back)

    def ask_then_close(
        self, request: HttpRequest, rows: list[ReconciliationBreak], *, back: str
    ) -> HttpResponse:
        def do(answer: dict[str, Any]) -> bool:
            for row in rows:
                _close(request, row, answer)
            return True

        return self.ask_then(
            request,
            do,
            back=back,
            template="desk/ask_more.html",
            form_class=CloseForm,
            title=_("Close breaks"),
            question=_(
                "Close by hand? Nothing is changed at the exchange or in the orders. A new break is"
                " opened if the next comparison finds the difference again."
            ),
            action_name="close_selected",
            lines=[Line(_name(row), _note(row), pk=row.pk) for row in rows],
        )


def _name(row: ReconciliationBreak) -> str:
    return f"{row.account.name}: {row.subject}"


def _note(row: ReconciliationBreak) -> str:
    kind = str(row.get_kind_display())
    return f"{kind}. {_('Already closed.')}" if row.resolved_at else kind


def _close(request: HttpRequest, row: ReconciliationBreak, answer: dict[str, Any]) -> None:
    """Close one break and show the result, also if another person was faster."""
    is_done = close_by_hand(
        row,
        resolution=Resolution(answer["resolution"]),
        reason=answer["reason"],
        actor=request.user.get_username(),
    )
    if is_done:
        messages.success(request, f"{_name(row)}: {_('Break closed.')}")
    else:
        messages.warning(request, f"{_name(row)}: {_('Already closed.')}")
