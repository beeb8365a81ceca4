"""Map the addresses of signing in. They come in front of the admin's own."""

from __future__ import annotations

from django.urls import path

from backoffice.people import factor_pages, passkeys
from backoffice.people.sign_in import sign_in

urlpatterns = [
    path("admin/login/", sign_in),  # it calls the admin's own page
    path("admin/second-factor/", factor_pages.give_factor, name="second_factor"),
    path("admin/second-factor/leave/", factor_pages.leave, name="leave"),
    path("admin/my-sign-in/", factor_pages.my_sign_in, name="my_sign_in"),
    path(
        "admin/my-sign-in/authenticator/",
        factor_pages.new_authenticator,
        name="new_authenticator",
    ),
    path("admin/passkeys/begin/", passkeys.BeginAuthentication.as_view(), name="passkey_begin"),
    path(
        "admin/passkeys/complete/",
        passkeys.CompleteAuthentication.as_view(),
        name="passkey_complete",
    ),
    path(
        "admin/passkeys/register/begin/",
        passkeys.BeginRegistration.as_view(),
        name="passkey_register_begin",
    ),
    path(
        "admin/passkeys/register/complete/",
        passkeys.CompleteRegistration.as_view(),
        name="passkey_register_complete",
    ),
]
