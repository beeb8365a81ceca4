"""Decide when a person needs a second factor, check it, and keep recovery codes.

Until a person has given a factor that is due, every page treats them as signed out: `request.user`
is anonymous, and only the pages of the second factor know who is waiting (`person_of`).
"""

from __future__ import annotations

import secrets
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.auth.signals import user_login_failed
from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django_otp import DEVICE_ID_SESSION_KEY
from django_otp.middleware import OTPMiddleware
from django_otp.models import Device
from django_otp_webauthn.models import WebAuthnCredential

from backoffice.people.factor_models import Authenticator, RecoveryCodes
from backoffice.people.proofs import mark_proven
from backoffice.people.sessions import end_sessions
from backoffice.people.throttle import TooManyAttempts, count, factor_limits, forget, refusal
from exchanges import clock
from exchanges.acts import record_act
from exchanges.models import Environment, ExchangeAccount

#: In the session: the person had a second factor when the session began, or has given one since.
FACTOR_DUE = "factor_due"
NUMBER_OF_CODES = 10
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # without those that look alike
_LIVE_KNOWN_SECONDS = 10.0
_live: tuple[float, bool] | None = None


# -- When is it due? -------------------------------------------------------------------------------


def factor_is_required() -> bool:
    """Return whether staff need a second factor here, whether or not they have one."""
    wanted: str = settings.SECOND_FACTOR
    return wanted == "always" or (wanted == "live" and _live_account_exists())


def _live_account_exists() -> bool:
    """Return the answer of the last seconds, because every page asks."""
    global _live
    now = clock.monotonic()
    if _live is None or not 0 <= now - _live[0] < _LIVE_KNOWN_SECONDS:
        _live = now, ExchangeAccount.objects.filter(environment=Environment.LIVE).exists()
    return _live[1]


def forget_live_accounts(sender: Any, **_: Any) -> None:
    global _live
    _live = None


def has_factor(user: User) -> bool:
    """Return whether a person has an authenticator app or a passkey."""
    return any(
        model.objects.filter(user=user, confirmed=True).exists()
        for model in (Authenticator, WebAuthnCredential)
    )


def note_factor_due(sender: Any, request: HttpRequest, user: User, **_: Any) -> None:
    request.session[FACTOR_DUE] = has_factor(user)


def _is_held_back(session: Any, user: User) -> bool:
    return bool(session.get(FACTOR_DUE)) or (user.is_staff and factor_is_required())


class SecondFactorMiddleware(OTPMiddleware):
    """Treat a person as signed out until they have given the second factor that is due."""

    def _verify_user_sync(self, request: HttpRequest, user: Any) -> Any:
        return self._held_back(request, super()._verify_user_sync(request, user))

    async def _verify_user_async_via_auser(self, request: HttpRequest, auser: Any) -> Any:
        user = await super()._verify_user_async_via_auser(request, auser)
        return await sync_to_async(self._held_back)(request, user)

    def _held_back(self, request: HttpRequest, user: Any) -> Any:
        if (
            not user.is_authenticated
            or user.is_verified()
            or not _is_held_back(request.session, user)
        ):
            return user
        request.held_back = user  # type: ignore[attr-defined]
        anonymous = AnonymousUser()
        self._init_user_fields(anonymous)
        return anonymous


def person_of(request: HttpRequest) -> User | None:
    """Return who signed in, also if the second factor is still due."""
    user: Any = request.user
    if isinstance(user, User):
        return user
    held_back: User | None = getattr(request, "held_back", None)
    return held_back


# -- Giving it -------------------------------------------------------------------------------------


def accept(request: HttpRequest, user: User, device: Device) -> None:
    """Let the person in, and note that they have proved who they are."""
    was_held_back = not request.user.is_authenticated
    request.session[DEVICE_ID_SESSION_KEY] = device.persistent_id
    request.session[FACTOR_DUE] = True
    mark_proven(None, request)
    user.otp_device = device  # type: ignore[attr-defined]
    user.is_verified = partial(bool, device)  # type: ignore[attr-defined]
    request.user = user
    if was_held_back:  # a key that leaked before the factor was given is useless now
        request.session.cycle_key()


def code_problem(request: HttpRequest, user: User, code: str) -> str:
    """Check a code of an app, or a recovery code. Return an empty text, or why it was refused."""
    limits = factor_limits(request, user)
    try:
        count(limits)
    except TooManyAttempts as refused:
        request.too_many_attempts = refused  # type: ignore[attr-defined]
        _report_failure(request, user)
        return refusal(request)
    device = _device_that_knows(user, "".join(code.split()).replace("-", "").lower())
    if device is None:
        _report_failure(request, user)
        return _("This code is not correct. After a wrong one, wait a few seconds.")
    forget(limits)
    accept(request, user, device)
    if isinstance(device, RecoveryCodes):
        record_act("use_recovery_code", actor=user.get_username(), subject=_subject(user))
    return ""


def _report_failure(request: HttpRequest, user: User) -> None:
    """Report a failure like that of a password, so that it gets into the journal."""
    user_login_failed.send(__name__, credentials={"username": user.get_username()}, request=request)


def _device_that_knows(user: User, code: str) -> Device | None:
    model = Authenticator if code.isdecimal() and len(code) == 6 else RecoveryCodes
    with transaction.atomic():
        for device in model.objects.filter(user=user, confirmed=True).select_for_update():
            if device.verify_token(code):
                return device
    return None


# -- Adding and removing ---------------------------------------------------------------------------


def add_authenticator(request: HttpRequest, user: User, salt: str, name: str, code: str) -> bool:
    """Store an authenticator app if it shows the right code. Other sessions of the person end."""
    with transaction.atomic():
        device = Authenticator(user=user, key=salt, name=name)
        device.save()
        if not device.verify_token("".join(code.split())):
            device.delete()
            return False
        record_act("add_authenticator", actor=user.get_username(), subject=_subject(user))
    finish_adding(request, user, device)
    return True


def finish_adding(request: HttpRequest, user: User, device: Device) -> None:
    """Count a new factor as given, and end the sessions that began without it."""
    accept(request, user, device)
    request.session.save()
    end_sessions(user, but=request.session.session_key)


def new_recovery_codes(user: User) -> list[str]:
    """Replace the recovery codes of a person. Return the new ones, which are never shown again."""
    codes = ["".join(secrets.choice(_LETTERS) for _ in range(10)) for _ in range(NUMBER_OF_CODES)]
    with transaction.atomic():
        # The row stays, because sessions that a code has opened hang on it.
        device, _made = RecoveryCodes.objects.get_or_create(user=user, name="recovery codes")
        device.token_set.all().delete()
        for code in codes:
            device.token_set.create(token=device.hashed(code))
        record_act("make_recovery_codes", actor=user.get_username(), subject=_subject(user))
    return [f"{code[:5]}-{code[5:]}" for code in codes]


def codes_left(user: User) -> int:
    return sum(device.token_set.count() for device in RecoveryCodes.objects.filter(user=user))


def remove_factors(user: User, *, actor: str) -> None:
    """Take all factors from a person who has lost them, and end the person's sessions."""
    with transaction.atomic():
        for model in (Authenticator, WebAuthnCredential, RecoveryCodes):
            model.objects.filter(user=user).delete()
        record_act("reset_second_factor", actor=actor, subject=_subject(user))
        end_sessions(user)


def _subject(user: User) -> str:
    return f"user:{user.get_username()}"
