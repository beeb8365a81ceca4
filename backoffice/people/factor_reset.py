"""Take the second factor from a person who has lost it, on the page of the person."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import action
from unfold.enums import ActionVariant

from backoffice.people.factors import remove_factors
from backoffice.people.step_up import requires_recent_factor


class FactorReset:
    """Mixin for the ModelAdmin of people."""

    actions_detail = ("reset_factor",)
    get_object: Any
    opts: Any

    def has_reset_factor_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("auth.change_user")

    @action(
        description=gettext_lazy("Reset the second factor"),
        permissions=["reset_factor"],
        url_path="reset-factor",
        icon="lock_reset",
        variant=ActionVariant.DANGER,
    )
    @requires_recent_factor
    def reset_factor(self, request: HttpRequest, object_id: str) -> HttpResponse:
        user = self.get_object(request, object_id)
        if user is None:
            raise Http404
        may_change: Callable[..., bool] = getattr(self, "has_change_permission")  # noqa: B009
        if not may_change(request, user):
            raise PermissionDenied
        back = reverse("admin:auth_user_change", args=[object_id])
        if request.method == "POST" and "confirmed" in request.POST:
            remove_factors(user, actor=request.user.get_username())
            messages.success(request, _("The second factor was reset, and all sessions ended."))
            return HttpResponseRedirect(back)
        page = {
            **admin.site.each_context(request),
            "title": _("Reset the second factor"),
            "opts": self.opts,
            "person": user,
            "back": back,
        }
        return TemplateResponse(request, "people/reset_factor.html", page)
