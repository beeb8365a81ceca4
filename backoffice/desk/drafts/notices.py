"""Show on a page that a change became a draft."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _

from backoffice.people.models import ChangeDraft


def say_draft(request: HttpRequest, draft: ChangeDraft) -> None:
    """Show one sentence with a link to the draft."""
    text = _("%(about)s: a second person must publish draft %(number)d before it takes effect.")
    address = reverse("admin:people_changedraft_change", args=[draft.pk])
    shown = text % {"about": draft.shown, "number": draft.pk}
    messages.info(request, format_html('<a class="desk-link" href="{}">{}</a>', address, shown))
