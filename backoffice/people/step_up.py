"""Ask people again who they are, before an act that loosens a limit or gives a right.

`requires_recent_factor` goes around a view, an action of a ModelAdmin, or a verb. A person who
proved themselves in the last `STEP_UP_SECONDS` passes. Others get a form in the same place, and
their own form comes through unchanged once they have answered it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django_otp_webauthn.models import WebAuthnCredential
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextInputWidget

from backoffice.people.factors import code_problem
from backoffice.people.proofs import is_recent, mark_proven
from backoffice.people.throttle import refusal

ANSWER = "step_up_answer"
ASKED_BY = "step_up_asked_by"
_OWN = (ANSWER, ASKED_BY, "csrfmiddlewaretoken")

View = TypeVar("View", bound=Callable[..., Any])


def requires_recent_factor(view: View) -> View:
    """Wrap a view or a method that takes a request, so that only a recent proof lets it run."""

    @functools.wraps(view)
    def asked(*args: Any, **kwargs: Any) -> Any:
        request = next(each for each in (*args, *kwargs.values()) if isinstance(each, HttpRequest))
        return ask_again(request) or view(*args, **kwargs)

    return cast(View, asked)


class PasswordForm(forms.Form):
    """Ask for the proof. The field's name collides with no field of the form that it interrupts."""

    step_up_answer = forms.CharField(
        label=gettext_lazy("Your password"),
        max_length=200,
        strip=False,
        widget=UnfoldAdminPasswordWidget(
            attrs={"autocomplete": "current-password", "autofocus": True}
        ),
    )


class CodeForm(forms.Form):
    step_up_answer = forms.CharField(
        label=gettext_lazy("Code of your authenticator app, or a recovery code"),
        max_length=20,
        widget=UnfoldAdminTextInputWidget(
            attrs={"autocomplete": "one-time-code", "autofocus": True, "spellcheck": "false"}
        ),
    )


class RecentFactorToChange:
    """Mixin for a ModelAdmin: adding, changing and deleting rows needs a recent proof.

    Put it before ModelAdmin. People without the permission are refused first, as ever.
    """

    def add_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._asked(super(), "add_view", request, *args, **kwargs)

    def change_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._asked(super(), "change_view", request, *args, **kwargs)

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._asked(super(), "delete_view", request, *args, **kwargs)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions: dict[str, Any] = super().get_actions(request)  # type: ignore[misc]
        if "delete_selected" in actions:
            delete, *rest = actions["delete_selected"]
            actions["delete_selected"] = (requires_recent_factor(delete), *rest)
        return actions

    def _asked(
        self, parent: Any, name: str, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Ask for a proof before a change that the person may make. Viewing a row needs none."""
        verb = name.removesuffix("_view")
        may = getattr(self, f"has_{verb}_permission")(request)
        is_change = request.method == "POST" or verb != "change"
        view = getattr(parent, name)
        if may and is_change and (page := ask_again(request)):
            return page
        response: HttpResponse = view(request, *args, **kwargs)
        return response


def ask_again(request: HttpRequest) -> HttpResponse | None:
    """Return the form, or the way back to the page that asked, or None if the person may go on."""
    error = ""
    if ANSWER in request.POST:
        asked_by = request.POST.get(ASKED_BY)
        error = proof_problem(request, request.POST[ANSWER])
        if not error:
            mark_proven(None, request)
            if asked_by != "POST":
                return HttpResponseRedirect(request.get_full_path())
            _restore(request)
            return None
    elif is_recent(request):
        return None
    return _form(request, error)


def has_given_factor(request: HttpRequest) -> bool:
    """Return whether this session was opened with a second factor. Then a password is no proof."""
    is_verified: Callable[[], bool] | None = getattr(request.user, "is_verified", None)
    return is_verified is not None and is_verified()


def proof_problem(request: HttpRequest, answer: str) -> str:
    """Check a code or a password. Return an empty text, or the reason why it proves nothing.

    A passkey has been checked before the form came: then the proof is recent already.
    """
    person = request.user
    assert isinstance(person, User)
    if is_recent(request):
        return ""
    if has_given_factor(request):
        return code_problem(request, person, answer)
    if authenticate(request, username=person.get_username(), password=answer) == person:
        return ""
    return refusal(request) or _("This password is not correct.")


def _restore(request: HttpRequest) -> None:
    """Take the answer out of the form, so that the view gets the person's original form."""
    given = request.POST.copy()
    for name in (ANSWER, ASKED_BY):
        given.pop(name, None)
    request.POST = given  # type: ignore[assignment]


def _form(request: HttpRequest, error: str) -> HttpResponse:
    """Return the form, with the person's own form in hidden fields.

    A form with a password is not repeated into a page. Such a person starts it once more.
    """
    given: QueryDict = request.POST
    asked_by = given.get(ASKED_BY) or request.method
    kept = [(name, value) for name in given if name not in _OWN for value in given.getlist(name)]
    if any("password" in name for name, _value in kept) or request.FILES:
        kept, asked_by = [], "GET"
        messages.warning(request, _("Please fill in the form again after this step."))
    by_factor = has_given_factor(request)
    context = {
        **admin.site.each_context(request),
        "title": _("Confirm that it is you"),
        "kept": kept,
        "asked_by": asked_by,
        "asked_by_name": ASKED_BY,
        "proof": CodeForm() if by_factor else PasswordForm(),
        "has_passkey": by_factor
        and WebAuthnCredential.objects.filter(user=request.user, confirmed=True).exists(),
        "error": error,
        "minutes": round(settings.STEP_UP_SECONDS / 60),
    }
    response = TemplateResponse(request, "people/step_up.html", context)
    response["Cache-Control"] = "no-store"
    return response
