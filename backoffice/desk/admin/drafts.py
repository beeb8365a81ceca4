"""Drafts: their list, and the page with the difference where a second person decides."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import action
from unfold.enums import ActionVariant

from backoffice.desk.admin.journal import TouchedVerb
from backoffice.desk.drafts.kinds import apply, ask_outside, differences_of, may_do
from backoffice.desk.lists.columns import label, moment
from backoffice.desk.lists.filters import AccountFilter
from backoffice.desk.mixins import ReadOnlyRecords, ReasonVerb
from backoffice.people import drafts
from backoffice.people.draft_models import DraftState
from backoffice.people.drafts import NotPublished, drafts_of
from backoffice.people.four_eyes import is_same_human, may_check
from backoffice.people.models import ChangeDraft
from backoffice.people.step_up import requires_recent_factor
from exchanges.trading_state import UnsafeAccount

_COLORS = {
    DraftState.WAITING: "warning",
    DraftState.PUBLISHED: "success",
    DraftState.REJECTED: "danger",
    DraftState.EXPIRED: "",
    DraftState.OVERTAKEN: "",
}


@admin.register(ChangeDraft)
class ChangeDraftAdmin(ReadOnlyRecords, TouchedVerb, ReasonVerb, ModelAdmin):
    empty_text = gettext_lazy("No drafts")
    empty_hint = gettext_lazy(
        "A change that needs a second person waits here until another person publishes"
        " it. Rules for a second person decide which changes do."
    )
    list_display = (
        "id",
        "state_label",
        "kind",
        "account",
        "shown_title",
        "maker",
        moment(ChangeDraft, "made_at"),
        moment(ChangeDraft, "expires_at"),
        "checker",
    )
    list_select_related = ("account",)
    list_filter = (("kind", ChoicesDropdownFilter), ("account", AccountFilter))
    sortable_by = ()
    ordering = ("-id",)
    actions_detail = ("publish_this", "reject_this", "who_touched")
    fields = (
        ("state_label", "kind"),
        ("account", "shown_title"),
        "difference",
        "reason",
        "maker",
        ("made_time", "expires_time"),
        ("checker", "decided_time"),
        "decision",
    )
    readonly_fields = (
        *("state_label", "kind", "account", "shown_title", "difference", "reason", "maker"),
        *("made_time", "expires_time", "checker", "decided_time", "decision"),
    )
    made_time = staticmethod(moment(ChangeDraft, "made_at"))
    expires_time = staticmethod(moment(ChangeDraft, "expires_at"))
    decided_time = staticmethod(moment(ChangeDraft, "decided_at"))

    def touched_name(self, obj: ChangeDraft) -> str:
        return obj.name

    def get_queryset(self, request: HttpRequest) -> QuerySet[ChangeDraft]:
        rows: QuerySet[ChangeDraft] = super().get_queryset(request)
        return drafts_of(rows, request.user)

    @admin.display(description=gettext_lazy("State"))
    def state_label(self, row: ChangeDraft) -> str:
        return label(row.state_now.label, _COLORS[row.state_now])

    @admin.display(description=gettext_lazy("About"))
    def shown_title(self, row: ChangeDraft) -> str:
        return row.shown

    @admin.display(description=gettext_lazy("Difference"))
    def difference(self, row: ChangeDraft) -> str:
        return render_to_string("desk/difference.html", {"differences": differences_of(row)})

    # Verbs

    def has_publish_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("people.publish_changedraft")

    def has_reject_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """Allow it to people who may publish, and to the maker."""
        if self.has_publish_permission(request):
            return True
        draft = self.get_object(request, str(object_id)) if object_id else None
        return draft is not None and is_same_human(request.user.get_username(), draft.maker)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> Any:
        """Return the buttons that the draft's state allows."""
        draft = self.get_object(request, str(object_id))
        if draft is None:
            return []
        is_waiting = draft.state_now == DraftState.WAITING
        allowed = {
            "publish": is_waiting
            and may_check(request.user, draft.maker)
            and may_do(request, draft),
            "reject": is_waiting,
        }
        buttons = super().get_actions_detail(request, object_id)
        return [button for button in buttons if allowed.get(button.method.url_path, True)]

    @action(
        description=gettext_lazy("Publish this draft"),
        permissions=["publish"],
        url_path="publish",
        icon="verified",
    )
    @requires_recent_factor
    def publish_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        draft = self._draft(request, object_id)
        if not may_do(request, draft):
            raise PermissionDenied
        if not may_check(request.user, draft.maker):
            messages.error(request, _("You made this draft. Another person must publish it."))
            return HttpResponseRedirect(self._page(draft))
        return self._ask(
            request,
            draft,
            title=_("Publish this draft"),
            question=_("Publish exactly this change? It takes effect at once."),
            is_publishing=True,
        )

    @action(
        description=gettext_lazy("Reject this draft"),
        permissions=["reject"],
        url_path="reject",
        icon="block",
        variant=ActionVariant.DANGER,
    )
    def reject_this(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._ask(
            request,
            self._draft(request, object_id),
            title=_("Reject this draft"),
            question=_("Reject this draft? Nothing is changed."),
            is_publishing=False,
        )

    def _draft(self, request: HttpRequest, object_id: str) -> ChangeDraft:
        draft: ChangeDraft | None = self.get_object(request, object_id)
        if draft is None:
            raise Http404
        return draft

    def _page(self, draft: ChangeDraft) -> str:
        return reverse("admin:people_changedraft_change", args=[draft.pk])

    def _ask(
        self,
        request: HttpRequest,
        draft: ChangeDraft,
        *,
        title: str,
        question: str,
        is_publishing: bool,
    ) -> HttpResponse:
        decide = _publish if is_publishing else _reject
        return self.ask_then(
            request,
            lambda answer: decide(request, draft, answer["reason"]),
            back=self._page(draft),
            template="desk/publish_draft.html",
            title=title,
            question=question,
            draft=draft,
            differences=differences_of(draft),
            button_variant="primary" if is_publishing else "danger",
        )


def _publish(request: HttpRequest, draft: ChangeDraft, reason: str) -> bool:
    """Publish, and show the result, also if another person was faster."""
    try:
        ask_outside(draft)
        drafts.publish(
            draft,
            checker=request.user,
            reason=reason,
            apply=lambda: apply(request, draft),
        )
    except (NotPublished, UnsafeAccount) as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(request, _("Published. The change is in effect."))
    return True


def _reject(request: HttpRequest, draft: ChangeDraft, reason: str) -> bool:
    try:
        drafts.reject(draft, actor=request.user.get_username(), reason=reason)
    except NotPublished as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(request, _("Rejected. Nothing was changed."))
    return True
