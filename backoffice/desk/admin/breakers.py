"""Changes of circuit breakers that people made."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin

from backoffice.desk.lists.columns import moment
from backoffice.desk.mixins import ReadOnlyRecords
from backoffice.people.account_rows import AccountRows
from exchanges.models import BreakerChange


@admin.register(BreakerChange)
class BreakerChangeAdmin(AccountRows, ReadOnlyRecords, ModelAdmin):
    empty_text = gettext_lazy("No circuit breaker changes")
    empty_hint = gettext_lazy(
        "Each time a person forces a circuit breaker, the change appears here with its reason."
    )
    list_display = (moment(BreakerChange, "at"), "actor", "account", "kind", "state", "reason")
    list_display_links = None
    list_select_related = ("account",)
    sortable_by = ()
    search_fields = ("actor", "account__name")
