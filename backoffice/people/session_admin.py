"""The list of all sessions, for administrators, and the way to end another person's."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin

from backoffice.people.session_models import PersonSession
from backoffice.people.session_store import live_rows
from backoffice.web.lookups import DeclaredLookups
from exchanges.acts import record_act


@admin.register(PersonSession)
class PersonSessionAdmin(DeclaredLookups, ModelAdmin):
    """Show live sessions of people. Nobody sees the key of one: the table has only its hash."""

    empty_text = gettext_lazy("No sessions")
    empty_hint = gettext_lazy("Each signed-in browser of a person appears here.")
    list_display = ("user", "address", "begun", "seen", "agent")
    list_display_links = None
    list_select_related = ("user",)
    search_fields = ("user__username", "address")
    search_help_text = gettext_lazy("Person or address")
    ordering = ("-seen_at",)
    sortable_by = ()
    actions = ("end_selected",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[PersonSession]:
        return live_rows().filter(user__isnull=False)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_end_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("people.end_sessions")

    @admin.display(description=gettext_lazy("signed in"))
    def begun(self, row: PersonSession) -> str:
        return f"{row.begun_at:%Y-%m-%d %H:%M} UTC"

    @admin.display(description=gettext_lazy("last active"))
    def seen(self, row: PersonSession) -> str:
        return f"{row.seen_at:%Y-%m-%d %H:%M} UTC"

    @admin.action(description=gettext_lazy("End the selected sessions"), permissions=["end"])
    def end_selected(self, request: HttpRequest, queryset: QuerySet[PersonSession]) -> None:
        """End them at once. It only tightens, so it asks for no proof."""
        names = sorted({row.user_name for row in queryset.select_related("user")})
        number = queryset.delete()[0]
        for name in names:
            actor = request.user.get_username()
            record_act("end_sessions", actor=actor, subject=f"user:{name}")
        messages.success(request, _("Sessions ended: %(number)d.") % {"number": number})
