"""A page between a link and its effect: only the POST of its button does anything."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse


def ask_first(model_admin: Any, request: HttpRequest, *, title: str, subject: str) -> HttpResponse:
    """Return the page with one button, for a request that is no POST."""
    request.current_app = model_admin.admin_site.name
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": title,
        "subject": subject,
    }
    return TemplateResponse(request, "desk/ask_first.html", context)
