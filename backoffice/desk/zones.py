"""Show times in the zone of the person's browser, which a cookie names."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from urllib.parse import unquote
from zoneinfo import ZoneInfo

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone

COOKIE = "desk_zone"


def activate_zone(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Return the middleware. Without a cookie, or with a wrong one, times are in UTC."""

    def answer(request: HttpRequest) -> HttpResponseBase:
        name = unquote(request.COOKIES.get(COOKIE, ""))
        with suppress(Exception):  # any text may come in a cookie
            if name:
                timezone.activate(ZoneInfo(name))
        try:
            return get_response(request)
        finally:
            timezone.deactivate()

    return answer
