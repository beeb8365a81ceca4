"""Give the journal the origin of a request's acts: the person, the address and the session."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

from django.http import HttpRequest, HttpResponse

from backoffice.people.addresses import client_address
from exchanges.acts import Origin, Source, acting


def act_as_person(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Return a middleware that gives every act of a request its origin.

    The person is looked up only if an act happens, so a page costs no query more.
    """

    def answer(request: HttpRequest) -> HttpResponse:
        with acting(lambda: origin_of(request)):
            return get_response(request)

    return answer


def origin_of(request: HttpRequest) -> Origin:
    user = getattr(request, "user", None)
    session = getattr(request, "session", None)
    key = session.session_key if session is not None else None
    return Origin(
        Source.DESK,
        user.get_username() if user is not None and user.is_authenticated else "",
        client_address(request),
        # The key itself would open the session.
        sha256(key.encode()).hexdigest()[:12] if key else "",
    )
