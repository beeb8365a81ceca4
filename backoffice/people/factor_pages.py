"""Pages of the second factor: give it, and manage one's own factors and sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import segno
from django import forms
from django.contrib import admin, messages
from django.contrib.auth import logout
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST
from django_otp.util import random_hex
from django_otp_webauthn.models import WebAuthnCredential
from unfold.widgets import UnfoldAdminTextInputWidget

from backoffice.people.factor_models import Authenticator
from backoffice.people.factors import (
    FACTOR_DUE,
    add_authenticator,
    code_problem,
    codes_left,
    factor_is_required,
    has_factor,
    new_recovery_codes,
    person_of,
)
from backoffice.people.sessions import end_sessions, is_own, sessions_of
from backoffice.people.step_up import ask_again
from exchanges.acts import record_act

PENDING_SALT = "pending_authenticator"
_CODE = {"autocomplete": "one-time-code", "autofocus": True, "spellcheck": "false"}


class CodeForm(forms.Form):
    code = forms.CharField(
        label=gettext_lazy("Code of your authenticator app, or a recovery code"),
        max_length=20,
        widget=UnfoldAdminTextInputWidget(attrs=_CODE),
    )


class AuthenticatorForm(forms.Form):
    name = forms.CharField(
        label=gettext_lazy("Name of the device"),
        max_length=64,
        initial=gettext_lazy("Phone"),
        widget=UnfoldAdminTextInputWidget(),
    )
    code = forms.CharField(
        label=gettext_lazy("Code shown in the app"),
        max_length=12,
        widget=UnfoldAdminTextInputWidget(attrs={**_CODE, "inputmode": "numeric"}),
    )


Page = Callable[[HttpRequest, User], HttpResponse]


def _for_signed_in(page: Page) -> Callable[[HttpRequest], HttpResponse]:
    """Return a view for members of the staff. Others are sent to the page that signs in."""

    @never_cache
    def view(request: HttpRequest) -> HttpResponse:
        person = person_of(request)
        if person is None or not person.is_staff:
            return HttpResponseRedirect(f"{reverse('admin:login')}?next={request.path}")
        return page(request, person)

    return view


def _render(request: HttpRequest, template: str, title: str, **context: Any) -> HttpResponse:
    """Return a page in the theme: with the sidebar, or alone while a factor is due."""
    is_in = request.user.is_authenticated
    layout = "admin/base_site.html" if is_in else "unfold/layouts/unauthenticated.html"
    page = {**admin.site.each_context(request), "title": title, "layout": layout, "is_in": is_in}
    request.current_app = admin.site.name
    return TemplateResponse(request, template, page | context)


# -- Giving the factor that is due -----------------------------------------------------------------


@_for_signed_in
def give_factor(request: HttpRequest, person: User) -> HttpResponse:
    """Ask for the second factor. A person without one adds it now."""
    target = _target(request)
    if request.user.is_authenticated:
        return HttpResponseRedirect(target)
    if not has_factor(person):
        return HttpResponseRedirect(reverse("my_sign_in"))
    form = CodeForm(request.POST or None)
    status = 200
    if form.is_valid():
        problem = code_problem(request, person, form.cleaned_data["code"])
        if not problem:
            return HttpResponseRedirect(target)
        form.add_error("code", problem)
        status = 429 if hasattr(request, "too_many_attempts") else 200
    response = _render(
        request,
        "people/give_factor.html",
        _("Second factor"),
        form=form,
        person=person,
        target=target,
        has_passkey=WebAuthnCredential.objects.filter(user=person, confirmed=True).exists(),
    )
    response.status_code = status
    return response


@require_POST
def leave(request: HttpRequest) -> HttpResponse:
    """End the session of a person who waits. The admin's own page knows only who is in."""
    if person := person_of(request):
        request.user = person
    logout(request)
    return HttpResponseRedirect(reverse("admin:login"))


def _target(request: HttpRequest) -> str:
    wanted = request.GET.get("next", "")
    if url_has_allowed_host_and_scheme(wanted, {request.get_host()}, request.is_secure()):
        return wanted
    return reverse("admin:index")


# -- One's own factors and sessions ----------------------------------------------------------------


@_for_signed_in
def my_sign_in(request: HttpRequest, person: User) -> HttpResponse:
    """Show the factors and sessions of the person, and let the person change them."""
    if away := _not_yet(request, person):
        return away
    if request.method == "POST":
        return _change(request, person) or HttpResponseRedirect(request.path)
    sessions = [(row, is_own(row, request)) for row in sessions_of(person)]
    return _render(
        request,
        "people/my_sign_in.html",
        _("Sign-in and sessions"),
        person=person,
        authenticators=Authenticator.objects.filter(user=person, confirmed=True).order_by("pk"),
        passkeys=WebAuthnCredential.objects.filter(user=person, confirmed=True).order_by("pk"),
        has_factor=has_factor(person),
        is_required=factor_is_required(),
        codes_left=codes_left(person),
        sessions=sessions if request.user.is_authenticated else (),
    )


def _not_yet(request: HttpRequest, person: User) -> HttpResponse | None:
    """Send away who has a factor and hasn't given it: it must be given before it is changed."""
    if request.user.is_authenticated or not has_factor(person):
        return None
    return HttpResponseRedirect(reverse("second_factor"))


def _change(request: HttpRequest, person: User) -> HttpResponse | None:
    """Carry out a button's act. Ending a session needs no fresh proof, because it only tightens."""
    verb = request.POST.get("verb", "")
    if verb == "end_session":
        sessions_of(person).filter(pk=request.POST.get("key", "")).delete()
        record_act("end_session", actor=person.get_username(), subject=_subject(person))
        return None
    if verb == "end_others":
        end_sessions(person, but=request.session.session_key)
        record_act("end_sessions", actor=person.get_username(), subject=_subject(person))
        return None
    if not request.user.is_authenticated:
        return HttpResponseRedirect(reverse("my_sign_in"))
    if page := ask_again(request):
        return page
    if verb == "new_codes" and has_factor(person):
        return _show_codes(request, person)
    if verb in ("remove_authenticator", "remove_passkey"):
        _remove(request, person, verb)
    return None


def _remove(request: HttpRequest, person: User, verb: str) -> None:
    model = Authenticator if verb == "remove_authenticator" else WebAuthnCredential
    key = request.POST.get("key", "")
    rows = model.objects.filter(user=person, pk=key if key.isdecimal() else None)
    left = sum(
        each.objects.filter(user=person, confirmed=True).count()
        for each in (Authenticator, WebAuthnCredential)
    )
    if factor_is_required() and left <= rows.count():
        messages.error(request, _("A second factor is required here. Add another one first."))
    elif rows.delete()[0]:
        record_act(verb, actor=person.get_username(), subject=_subject(person))
        request.session[FACTOR_DUE] = has_factor(person)


@_for_signed_in
def new_authenticator(request: HttpRequest, person: User) -> HttpResponse:
    """Show the seed of a new authenticator app until the app has shown the right code."""
    if away := _not_yet(request, person):
        return away
    if has_factor(person) and (page := ask_again(request)):
        return page
    salt = request.session.get(PENDING_SALT)
    if salt is None:
        salt = request.session[PENDING_SALT] = random_hex(20)
    form = AuthenticatorForm(request.POST if "code" in request.POST else None)
    if form.is_valid():
        name, code = form.cleaned_data["name"], form.cleaned_data["code"]
        if add_authenticator(request, person, salt, name, code):
            del request.session[PENDING_SALT]
            if not codes_left(person):
                return _show_codes(request, person)
            return HttpResponseRedirect(reverse("my_sign_in"))
        form.add_error("code", _("This code is not correct. Check your phone's clock."))
    draft = Authenticator(user=person, key=salt)
    return _render(
        request,
        "people/new_authenticator.html",
        _("Add an authenticator app"),
        form=form,
        seed=draft.seed_text,
        code_image=_image(draft.config_url),
    )


def _image(url: str) -> str:
    """Return the address as an image to scan, black on white in every theme."""
    image = segno.make(url, error="m").svg_inline(scale=5, border=3, light="#fff", dark="#000")
    return mark_safe(image)  # noqa: S308  # nosec B308 B703  made of squares only


def _show_codes(request: HttpRequest, person: User) -> HttpResponse:
    return _render(
        request,
        "people/recovery_codes.html",
        _("Recovery codes"),
        codes=new_recovery_codes(person),
    )


def _subject(person: User) -> str:
    return f"user:{person.get_username()}"
