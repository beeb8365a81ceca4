"""Say on a page that a change became a draft."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _

from backoffice.people.models import ChangeDraft


def say_draft(request: HttpRequest, draft: ChangeDraft) -> None:
    """Show one sentence with a link to the draft."""
    text = _("Draft %(number)d: a second person must publish it before it takes effect.")
    link = '<a class="desk-link" href="{}">{}</a>'
    address = reverse("admin:people_changedraft_change", args=[draft.pk])
    messages.info(
        request, format_html("{}: " + link, draft.subject, address, text % {"number": draft.pk})
    )
