"""Record logins, failed logins and logouts in the journal."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.dispatch import receiver
from django.http import HttpRequest

from backoffice.people.journal.writing import write_entry
from backoffice.people.origins import origin_of
from backoffice.people.throttle import TooManyAttempts
from exchanges.acts import Act, Origin, Source


@receiver(user_logged_in)
def record_login(sender: Any, request: HttpRequest | None, user: Any, **_: Any) -> None:
    _record("login", request, user.get_username())


@receiver(user_logged_out)
def record_logout(sender: Any, request: HttpRequest | None, user: Any, **_: Any) -> None:
    if user is not None:
        _record("logout", request, user.get_username())


@receiver(user_login_failed)
def record_failure(
    sender: Any, credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any
) -> None:
    """Record a failure. Of the attempts that were refused unseen, record the first only."""
    refused: TooManyAttempts | None = getattr(request, "too_many_attempts", None)
    if refused is None or refused.is_first:
        verb = "lock_out" if refused else "fail_login"
        _record(verb, request, str(credentials.get("username", "")))


def _record(verb: str, request: HttpRequest | None, name: str) -> None:
    asked = origin_of(request) if request is not None else Origin(Source.SHELL, name)
    origin = Origin(asked.source, name, asked.address, asked.session)
    write_entry(Act(verb=verb, actor=name, subject=f"user:{name}"), origin)
