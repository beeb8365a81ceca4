"""Begin, keep and end the sessions of people.

A session lasts `SESSION_COOKIE_AGE` and ends earlier when its person was idle for
`SESSION_IDLE_SECONDS`. Whoever deletes its row ends it at once, also for the pages that are open.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.utils import timezone
from django.utils.decorators import sync_and_async_middleware

from backoffice.people.addresses import client_address
from backoffice.people.session_models import PersonSession
from backoffice.people.session_store import ADDRESS, AGENT, BEGUN, hashed, live_rows

#: Activity is noted no more often than this, so that pages cost no write each.
NOTED_EVERY = timedelta(seconds=30)


def session_is_live(session: HttpRequest | str) -> bool:
    """Return whether a request's session, or the session with this key, still opens pages.

    A live page calls it from time to time and closes when the answer is no: the session was ended,
    is too old or idle, its person was deactivated, or the password changed.
    """
    key = session if isinstance(session, str) else session.session.session_key
    if not key:
        return False
    row = live_rows().select_related("user").filter(session_key=hashed(key)).first()
    return row is not None and _belongs_to_its_person(row)


def live_sessions(keys: Collection[str]) -> set[str]:
    """Return the keys of the sessions that are live, with one query for any number of them."""
    names = {hashed(key): key for key in keys}
    rows = live_rows().select_related("user").filter(session_key__in=names)
    return {names[row.session_key] for row in rows if _belongs_to_its_person(row)}


def _belongs_to_its_person(row: PersonSession) -> bool:
    """Return whether the person is active and has the password that the session began with."""
    user = row.user
    if not isinstance(user, User) or not user.is_active:
        return False
    return bool(row.get_decoded().get(HASH_SESSION_KEY) == user.get_session_auth_hash())


def sessions_of(user: User) -> QuerySet[PersonSession]:
    """Return the live sessions of a person, the latest first."""
    return live_rows().filter(user=user).order_by("-begun_at")


def end_sessions(user: User, *, but: str | None = None) -> int:
    """End the sessions of a person and return their number. `but` is the key of one to keep."""
    rows = PersonSession.objects.filter(user=user)
    if but:
        rows = rows.exclude(session_key=hashed(but))
    return rows.delete()[0]


def is_own(row: PersonSession, request: HttpRequest) -> bool:
    """Return whether this is the session of the request itself."""
    key = request.session.session_key
    return key is not None and row.session_key == hashed(key)


# -- Signals ---------------------------------------------------------------------------------------


def begin_session(sender: Any, request: HttpRequest, user: User, **_: Any) -> None:
    """Record the origin of a session, and set the time when it ends for good."""
    now = timezone.now()
    request.session[BEGUN] = now.isoformat()
    request.session[ADDRESS] = client_address(request)[:64]
    request.session[AGENT] = request.headers.get("User-Agent", "")[:200]
    request.session.set_expiry(now + timedelta(seconds=settings.SESSION_COOKIE_AGE))
    idle = timedelta(seconds=settings.SESSION_IDLE_SECONDS)
    PersonSession.objects.filter(Q(expire_date__lt=now) | Q(seen_at__lt=now - idle)).delete()


def end_invalid_sessions(
    sender: Any, instance: User, update_fields: frozenset[str] | None = None, **_: Any
) -> None:
    """Delete the sessions that a new password, or the end of an account, made invalid."""
    if update_fields and not {"password", "is_active"} & set(update_fields):
        return
    for row in PersonSession.objects.select_related("user").filter(user_id=instance.pk):
        if not _belongs_to_its_person(row):
            row.delete()


# -- Middleware ------------------------------------------------------------------------------------


@sync_and_async_middleware
def note_activity(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Return a middleware that notes when a person was last active."""
    if iscoroutinefunction(get_response):

        async def note_later(request: HttpRequest) -> HttpResponseBase:
            answered: Awaitable[HttpResponseBase] = get_response(request)
            response = await answered
            if row := _row_to_note(request):
                await PersonSession.objects.filter(pk=row.pk).aupdate(seen_at=timezone.now())
            return response

        return note_later

    def note(request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = get_response(request)
        if row := _row_to_note(request):
            PersonSession.objects.filter(pk=row.pk).update(seen_at=timezone.now())
        return response

    return note


def _row_to_note(request: HttpRequest) -> PersonSession | None:
    """Return the session of a request that a person made. A page that updates itself is none."""
    row: PersonSession | None = getattr(request.session, "row", None)
    by_itself = request.method == "GET" and (
        "HX-Request" in request.headers or "text/event-stream" in request.headers.get("Accept", "")
    )
    if row is None or row.user_id is None or by_itself:
        return None
    return row if row.seen_at < timezone.now() - NOTED_EVERY else None
