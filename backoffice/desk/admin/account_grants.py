"""Account grants, each given and taken away as an act of its own."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin

from backoffice.desk.drafts.forms import DraftedChanges
from backoffice.desk.lists.columns import moment
from backoffice.people.account_rows import AccountRows
from backoffice.people.admin_journal import JournaledAdmin
from backoffice.people.models import AccountGrant
from backoffice.people.step_up import RecentFactorToChange
from orders.models import ReviewKind


@admin.register(AccountGrant)
class AccountGrantAdmin(
    AccountRows, RecentFactorToChange, DraftedChanges, JournaledAdmin, ModelAdmin
):
    empty_text = gettext_lazy("No account grants")
    empty_hint = gettext_lazy(
        "Without a grant, a person sees no account. Grant an account to a role or to a person."
    )
    draft_kind = ReviewKind.GRANT
    list_display = ("account", "role", "person", moment(AccountGrant, "created_at"))
    list_display_links = None
    list_select_related = ("account", "role", "person")
    fields = ("account", "role", "person")
    sortable_by = ()

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse. A grant is given or taken away, so that each is an act of its own."""
        return False

    def loosens(self, before: AccountGrant | None, after: AccountGrant | None) -> bool:
        return after is not None
