"""Sign people in: the page of the admin, within the limits of `backoffice.people.throttle`."""

from __future__ import annotations

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.forms import AuthenticationForm

from backoffice.people.factors import person_of
from backoffice.people.throttle import TooManyAttempts, refusal


class SignInForm(AuthenticationForm):
    """The theme's form, which says why an attempt was refused unseen."""

    def get_invalid_login_error(self) -> ValidationError:
        if self.request is not None and (reason := refusal(self.request)):
            return ValidationError(reason, code="too_many_attempts")
        error: ValidationError = super().get_invalid_login_error()
        return error


def sign_in(request: HttpRequest) -> HttpResponse:
    """Answer with the admin's page, or go on to the second factor that is due.

    A refused attempt is a 429, which machines understand.
    """
    if request.method == "GET" and not request.user.is_authenticated and person_of(request):
        return HttpResponseRedirect(f"{reverse('second_factor')}?{request.GET.urlencode()}")
    response = admin.site.login(request)
    refused: TooManyAttempts | None = getattr(request, "too_many_attempts", None)
    if refused is not None:
        response.status_code = 429
        response["Retry-After"] = str(refused.retry_after)
    return response
