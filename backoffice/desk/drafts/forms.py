"""Make a draft of a form of the admin where a rule asks for a second person, and save it later.

A draft keeps the form as the person sent it. Publishing sends exactly this form through the same
ModelAdmin again, with the rights and the name of the second person.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from zoneinfo import ZoneInfo

from django.apps import apps
from django.contrib import admin
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from backoffice.desk.drafts.notices import say_draft
from backoffice.desk.mixins import ReasonForm
from backoffice.people import drafts
from backoffice.people.drafts import Overtaken
from backoffice.people.fresh_forms import state_of
from backoffice.people.models import ChangeDraft
from backoffice.people.row_values import differences, values_of
from exchanges.models import ExchangeAccount
from orders.models import ReviewKind

REASON = "draft_reason"
_NOT_KEPT = {"csrfmiddlewaretoken", REASON}


class SecondPersonNeeded(Exception):
    """Raised in the middle of a change that needs a second person, so that nothing is changed."""

    def __init__(self, waiting: list[ChangeDraft]) -> None:
        super().__init__()
        self.waiting = waiting


class DraftReasonForm(ReasonForm):
    prefix = "draft"

    def add_prefix(self, field_name: str) -> str:
        return f"{self.prefix}_{field_name}"


class DraftedChanges:
    """Mixin for a ModelAdmin, left of it: a change that loosens becomes a draft if a rule says so.

    `loosens` is the decision of each page. What doesn't loosen never waits.
    """

    draft_kind: ReviewKind
    model: Any
    opts: Any
    admin_site: admin.AdminSite
    subject_of: Callable[[Any], str]
    get_form: Callable[..., Any]

    def loosens(self, before: Any, after: Any) -> bool:
        """Return whether more is possible after the change. None: there is no such row."""
        raise NotImplementedError

    def accounts_of_draft(self, row: Any) -> ExchangeAccount | None:
        """Return the account whose rules count. None: those of every account."""
        account: ExchangeAccount | None = getattr(row, "account", None)
        return account

    # -- the way in ------------------------------------------------------------------------------

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._or_draft(request, super().changeform_view, *args, **kwargs)  # type: ignore[misc]

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._or_draft(request, super().delete_view, *args, **kwargs)  # type: ignore[misc]

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._or_draft(request, super().changelist_view, *args, **kwargs)  # type: ignore[misc]

    def save_model(self, request: Any, obj: Any, form: Any, change: bool) -> None:
        before = self.model.objects.select_for_update().get(pk=obj.pk) if change else None
        self.require_second_person(request, before, obj)
        super().save_model(request, obj, form, change)  # type: ignore[misc]

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.require_second_person(request, obj, None)
        super().delete_model(request, obj)  # type: ignore[misc]

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Delete what needs no second person, and make drafts of the rest."""
        waiting: list[ChangeDraft] = []
        for row in queryset:
            try:
                with transaction.atomic():
                    self.delete_model(request, row)
            except SecondPersonNeeded as needed:
                waiting += needed.waiting
        if waiting:
            raise SecondPersonNeeded(waiting)

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Leave it to the journal: Django writes this log before a row is deleted, or not."""

    # -- the draft -------------------------------------------------------------------------------

    def require_second_person(self, request: Any, before: Any, after: Any) -> None:
        """Raise `SecondPersonNeeded` if a rule asks for one."""
        if getattr(request, "published_draft", None) or not self.loosens(before, after):
            return
        rows = [row for row in (before, after) if row is not None]
        accounts = [self.accounts_of_draft(row) for row in rows]
        if any(drafts.rule_for(account, self.draft_kind) for account in accounts):
            raise SecondPersonNeeded([self._draft(request, before, after)])

    def _draft(self, request: HttpRequest, before: Any, after: Any) -> ChangeDraft:
        """Describe the change, without storing it."""
        row = before or after
        old = values_of(before) if before is not None else {}
        new = values_of(after) if after is not None else {}
        was, is_now = (old, {}) if after is None else differences(old, new)
        account = self.accounts_of_draft(row)
        return ChangeDraft(
            kind=self.draft_kind,
            account=account if account is None or account.pk else None,
            subject=self.subject_of(row) if before is not None else self.opts.model_name,
            title=str(row),
            act="delete" if after is None else "change" if before else "add",
            target=self.opts.label,
            target_key=str(before.pk) if before is not None else "",
            proposed={} if after is None else _proposed(request),
            seen=self.seen_of_draft(request, before, is_deleting=after is None),
            before=was,
            after={name: value for name, value in is_now.items() if value not in (None, "")}
            if before is None
            else is_now,
            maker=request.user.get_username(),
        )

    def seen_of_draft(self, request: HttpRequest, row: Any, *, is_deleting: bool) -> str:
        """Name the state of the fields that the form writes. Deleting writes every field."""
        if row is None:
            return ""
        if is_deleting:
            return state_of(row)
        return state_of(row, self.get_form(request, row, change=True).base_fields)

    def _or_draft(
        self, request: HttpRequest, view: Callable[..., HttpResponse], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except SecondPersonNeeded as needed:
            waiting = needed.waiting
        form = DraftReasonForm(request.POST if REASON in request.POST else None)
        if not form.is_valid():
            return self._ask_for_reason(request, waiting, form)
        for draft in waiting:
            draft.reason = form.cleaned_data["reason"]
            drafts.make(draft)
            say_draft(request, draft)
        return HttpResponseRedirect(
            reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
        )

    def _ask_for_reason(
        self, request: HttpRequest, waiting: list[ChangeDraft], form: DraftReasonForm
    ) -> HttpResponse:
        """Show the change that needs a second person. The person's form is in hidden fields."""
        from backoffice.desk.drafts.kinds import differences_of

        kept = [(name, value) for name, values in _form_of(request).items() for value in values]
        page = {
            **self.admin_site.each_context(request),
            "title": _("A second person must publish this"),
            "opts": self.opts,
            "form": form,
            "kept": kept,
            "back": request.get_full_path(),
            "drafts": [(draft.shown, differences_of(draft)) for draft in waiting],
        }
        return TemplateResponse(request, "desk/make_draft.html", page)


# -- publishing ----------------------------------------------------------------------------------


def may_save(request: HttpRequest, site: admin.AdminSite, draft: ChangeDraft) -> bool:
    """Return whether the person may make such a change on the page of the record."""
    page, row = _page(site, draft), _row(draft)
    if draft.act == "add":
        return bool(page.has_add_permission(request))
    check = page.has_delete_permission if draft.act == "delete" else page.has_change_permission
    return bool(check(request, row))


def save(request: Any, site: admin.AdminSite, draft: ChangeDraft) -> None:
    """Send the drafted form through the page of its record. Raise `Overtaken` if it can't be."""
    page, row = _page(site, draft), _row(draft, is_locked=True)
    if page.seen_of_draft(request, row, is_deleting=draft.act == "delete") != draft.seen:
        raise Overtaken(_("The record has changed since the draft was made. Nothing was changed."))
    request.published_draft = draft
    try:
        if draft.act == "delete":
            page.delete_model(request, row)
            return
        is_change = draft.act == "change"
        form = page.get_form(request, row, change=is_change)(
            _query(draft.proposed["form"]), instance=row
        )
        # The maker wrote times and dates in the own zone and language.
        zone, language = draft.proposed["zone"], draft.proposed["language"]
        with timezone.override(ZoneInfo(zone)), translation.override(language):
            is_valid = form.is_valid()
        if not is_valid:
            errors = " ".join(text for texts in form.errors.values() for text in texts)
            raise Overtaken(_("The change is no longer possible: %(why)s") % {"why": errors})
        page.save_model(request, page.save_form(request, form, is_change), form, is_change)
        page.save_related(request, form, [], is_change)
    finally:
        request.published_draft = None


def _page(site: admin.AdminSite, draft: ChangeDraft) -> Any:
    return site._registry[apps.get_model(draft.target)]  # noqa: SLF001


def _row(draft: ChangeDraft, *, is_locked: bool = False) -> Any:
    if not draft.target_key:
        return None
    rows: Any = apps.get_model(draft.target)._default_manager.filter(pk=draft.target_key)  # noqa: SLF001
    return (rows.select_for_update() if is_locked else rows).order_by("pk").first()


def _proposed(request: HttpRequest) -> dict[str, Any]:
    return {
        "form": _form_of(request),
        "zone": timezone.get_current_timezone_name(),
        "language": translation.get_language(),
    }


def _form_of(request: HttpRequest) -> dict[str, list[str]]:
    names: Iterable[str] = (name for name in request.POST if name not in _NOT_KEPT)
    return {name: [str(value) for value in request.POST.getlist(name)] for name in names}


def _query(form: dict[str, list[str]]) -> QueryDict:
    query = QueryDict(mutable=True)
    for name, values in form.items():
        query.setlist(name, values)
    return query
