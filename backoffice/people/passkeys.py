"""Register passkeys and sign in with them as a second factor, by django-otp-webauthn."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django_otp_webauthn import exceptions, views
from django_otp_webauthn.helpers import WebAuthnHelper
from django_otp_webauthn.models import WebAuthnCredential

from backoffice.people.factors import accept, finish_adding, has_factor, person_of
from backoffice.people.proofs import is_recent
from exchanges.acts import record_act


class Helper(WebAuthnHelper):
    """Bind passkeys to the host of the request, which `ALLOWED_HOSTS` has checked."""

    def get_relying_party_domain(self) -> str:
        host: str = self.request.get_host()
        return host.partition(":")[0]

    def get_relying_party_name(self) -> str:
        return _("Trading back office")

    def get_allowed_origins(self) -> list[str]:
        return [f"{self.request.scheme}://{self.request.get_host()}"]


class _OfPerson:
    """The library's views read `request.user`, who is anonymous while a second factor is due."""

    request: HttpRequest

    def initial(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        request.user  # noqa: B018  the middleware notes now who is held back
        super().initial(request, *args, **kwargs)  # type: ignore[misc]

    def get_user(self) -> User | None:
        return person_of(self.request)


class _Registration(_OfPerson):
    def _check_user_verified(self, user: User) -> None:
        """Refuse if the person has a factor and hasn't given it lately."""
        may = self.request.user.is_authenticated and is_recent(self.request)
        if has_factor(user) and not may:
            raise exceptions.NotVerified(detail=_("Confirm that it is you, and try again."))


class BeginRegistration(_Registration, views.BeginCredentialRegistrationView):
    pass


class CompleteRegistration(_Registration, views.CompleteCredentialRegistrationView):
    def post(self, *args: Any, **kwargs: Any) -> Any:
        user = self.get_user()
        assert user is not None  # `initial` has refused an anonymous request
        response = super().post(*args, **kwargs)
        device = WebAuthnCredential.objects.filter(user=user).latest("pk")
        record_act("add_passkey", actor=user.get_username(), subject=f"user:{user.get_username()}")
        finish_adding(self.request, user, device)
        return response


class BeginAuthentication(_OfPerson, views.BeginCredentialAuthenticationView):
    pass


class CompleteAuthentication(_OfPerson, views.CompleteCredentialAuthenticationView):
    def complete_auth(self, device: WebAuthnCredential) -> User:
        user = self.get_user()
        assert user is not None
        accept(self.request, user, device)
        return user
