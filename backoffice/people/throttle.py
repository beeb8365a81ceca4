"""Limit the attempts to sign in before anything costly is computed.

Each attempt is counted in the database before its password is hashed, so attempts that come at
once can't pass together, and several web processes count together. Over a limit no hash is
computed. At most `_HASHES_AT_ONCE` are computed at a time in one process, because each keeps a core
busy for a third of a second.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import structlog
from django.conf import settings
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import ngettext

from backoffice.people.addresses import client_address, network_of
from backoffice.people.throttle_models import AttemptCount

log = structlog.get_logger(__name__)

_HASHES_AT_ONCE = 1
#: A request that gets no turn in this time is refused, with a time to try again.
_PATIENCE_SECONDS = 5.0
_hashing = threading.BoundedSemaphore(_HASHES_AT_ONCE)

_COUNT = """
    INSERT INTO people_attemptcount AS held (bucket, begun_at, attempts)
    VALUES (%s, %s, 1)
    ON CONFLICT (bucket) DO UPDATE SET
        attempts = CASE WHEN held.begun_at <= %s THEN 1 ELSE held.attempts + 1 END,
        begun_at = CASE WHEN held.begun_at <= %s THEN excluded.begun_at ELSE held.begun_at END
    RETURNING attempts, begun_at
"""
_GIVE_BACK = """
    UPDATE people_attemptcount SET attempts = attempts - 1
    WHERE bucket = ANY(%s) AND attempts > 0
"""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most so many attempts within a window. The bucket is the hash of the subject."""

    kind: str
    subject: str
    most: int
    window: timedelta

    @property
    def bucket(self) -> str:
        return f"{self.kind}:{sha256(self.subject.encode()).hexdigest()[:40]}"


class TooManyAttempts(Exception):
    """A limit is used up. `retry_after` says in how many seconds it is free again.

    Only the first refusal of a window goes into the journal: a crowd must not fill that either.
    """

    def __init__(self, kind: str, retry_after: int, *, is_first: bool = False) -> None:
        super().__init__(kind)
        self.kind = kind
        self.retry_after = retry_after
        self.is_first = is_first


def limits_of(request: HttpRequest, username: str) -> list[Limit]:
    """Return the limits of an attempt to sign in.

    A person is locked out only together with an address. Otherwise strangers could lock them out.
    """
    address = network_of(client_address(request))
    lock_out = timedelta(seconds=settings.LOGIN_LOCK_OUT_SECONDS)
    minute = timedelta(minutes=1)
    person = f"{username.casefold()}\n{address}"
    return [
        Limit("address", address, settings.LOGIN_ATTEMPTS_OF_AN_ADDRESS, lock_out),
        Limit("person", person, settings.LOGIN_ATTEMPTS_OF_A_PERSON, lock_out),
        Limit("everybody", "", settings.LOGIN_ATTEMPTS_A_MINUTE, minute),
    ]


def factor_limits(request: HttpRequest, user: User) -> list[Limit]:
    """Return the limit of attempts to give the second factor."""
    address = network_of(client_address(request))
    lock_out = timedelta(seconds=settings.LOGIN_LOCK_OUT_SECONDS)
    return [Limit("factor", f"{user.pk}\n{address}", settings.LOGIN_ATTEMPTS_OF_A_PERSON, lock_out)]


def count(limits: Iterable[Limit]) -> None:
    """Count an attempt against one limit after the other. Raise TooManyAttempts at the first.

    The limit for all people comes last, so that an address that is locked out uses up no attempts
    of others. The limit of an address comes first, so that made-up names fill no table.
    """
    now = timezone.now()
    for limit in limits:
        attempts, begun_at = _counted(limit, now)
        if attempts > limit.most:
            wait = (begun_at + limit.window - now).total_seconds()
            is_first = attempts == limit.most + 1
            raise TooManyAttempts(limit.kind, max(1, round(wait)), is_first=is_first)
        if limit.kind == "everybody" and attempts == 1:
            _forget_old(now)


def _forget_old(now: datetime) -> None:
    """Delete the counters whose window is over, once a minute in which a person signs in."""
    oldest = now - timedelta(seconds=settings.LOGIN_LOCK_OUT_SECONDS, minutes=1)
    AttemptCount.objects.filter(begun_at__lt=oldest).delete()


def _counted(limit: Limit, now: datetime) -> tuple[int, datetime]:
    ends = now - limit.window
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, [limit.bucket, now, ends, ends])
        attempts, begun_at = cursor.fetchone()
    return attempts, begun_at


def forget(limits: Iterable[Limit]) -> None:
    """Take a successful attempt back, and the failures of its person before it."""
    limits = list(limits)
    own = [limit.bucket for limit in limits if limit.kind in ("person", "factor")]
    AttemptCount.objects.filter(bucket__in=own).delete()
    with connection.cursor() as cursor:
        cursor.execute(_GIVE_BACK, [[limit.bucket for limit in limits]])


def refusal(request: HttpRequest) -> str:
    """Return why an attempt of this request was refused unseen, or an empty text."""
    refused: TooManyAttempts | None = getattr(request, "too_many_attempts", None)
    if refused is None:
        return ""
    minutes = -(-refused.retry_after // 60)
    return ngettext(
        "Too many attempts. Try again in %(minutes)d minute.",
        "Too many attempts. Try again in %(minutes)d minutes.",
        minutes,
    ) % {"minutes": minutes}


class ThrottledBackend(ModelBackend):
    """Check a password like Django, but only within the limits. Without a request there are none.

    A refused request knows by `request.too_many_attempts` why.
    """

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: Any,
    ) -> User | None:
        if username is None or password is None:
            return None
        if request is None:
            return self._checked(None, username, password, **kwargs)
        limits = limits_of(request, username)
        try:
            count(limits)
            user = self._in_turn(request, username, password, **kwargs)
        except TooManyAttempts as refused:
            log.warning("sign_in_refused", limit=refused.kind, address=client_address(request))
            request.too_many_attempts = refused  # type: ignore[attr-defined]
            raise PermissionDenied from None
        if user is not None:
            forget(limits)
        return user

    def _in_turn(
        self, request: HttpRequest, username: str, password: str, **kwargs: Any
    ) -> User | None:
        # Others need the database connection while this one waits for its turn.
        if not connection.in_atomic_block:
            connection.close()
        if not _hashing.acquire(timeout=_PATIENCE_SECONDS):
            raise TooManyAttempts("turn", round(_PATIENCE_SECONDS))
        try:
            return self._checked(request, username, password, **kwargs)
        finally:
            _hashing.release()

    def _checked(
        self, request: HttpRequest | None, username: str, password: str, **kwargs: Any
    ) -> User | None:
        user = super().authenticate(request, username, password, **kwargs)
        return user if isinstance(user, User) else None
