"""The global halt: one row, and the verbs that set and lift it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.enums import ActionVariant

from backoffice.desk.lists.columns import label, moment
from backoffice.desk.mixins import ReadOnlyRecords
from backoffice.desk.verbs.switch_trading import TradingVerbs
from backoffice.people.grants import has_every_account
from exchanges.models import TradingHalt


@admin.register(TradingHalt)
class TradingHaltAdmin(ReadOnlyRecords, TradingVerbs, ModelAdmin):
    """The list redirects to the page of the only row."""

    fields = readonly_fields = ("state", "reason", "changed_time", "changed_by")
    actions_detail = ("halt_all", "resume_all")
    changed_time = staticmethod(moment(TradingHalt, "changed_at"))

    def has_halt_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return super().has_halt_permission(request) and has_every_account(request.user)

    def has_resume_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return super().has_resume_permission(request) and has_every_account(request.user)

    @admin.display(description=gettext_lazy("All trading"))
    def state(self, halt: TradingHalt) -> str:
        if halt.is_halted:
            return label(_("halted"), "danger")
        return label(_("not halted: each account's own state applies"), "success")

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return HttpResponseRedirect(
            reverse("admin:exchanges_tradinghalt_change", args=[TradingHalt.ROW])
        )

    @action(
        description=gettext_lazy("Halt all trading"),
        permissions=["halt"],
        url_path="halt",
        icon="front_hand",
        variant=ActionVariant.DANGER,
    )
    def halt_all(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._switch_all(request, name="halt")

    @action(
        description=gettext_lazy("Resume trading"),
        permissions=["resume"],
        url_path="resume",
        icon="play_arrow",
    )
    def resume_all(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._switch_all(request, name="resume")

    def _switch_all(self, request: HttpRequest, *, name: str) -> HttpResponse:
        back = reverse("admin:exchanges_tradinghalt_change", args=[TradingHalt.ROW])
        return self.switch(request, [None], name=name, back=back)
