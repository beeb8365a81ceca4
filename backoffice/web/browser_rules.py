"""Turn off browser features that our pages never use. The CSP is in the settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

_NEVER = ("accelerometer", "camera", "display-capture", "geolocation", "gyroscope", "magnetometer")
_NEVER_EITHER = ("microphone", "midi", "payment", "usb")
_OWN = ("publickey-credentials-create", "publickey-credentials-get")
PERMISSIONS_POLICY = ", ".join(
    [f"{name}=()" for name in (*_NEVER, *_NEVER_EITHER)] + [f"{name}=(self)" for name in _OWN]
)


@sync_and_async_middleware
def limit_browsers(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Return a middleware that forbids sensors and devices to every page."""
    if iscoroutinefunction(get_response):

        async def answer_later(request: HttpRequest) -> HttpResponseBase:
            answered: Awaitable[HttpResponseBase] = get_response(request)
            return _with_rules(await answered)

        return answer_later

    def answer(request: HttpRequest) -> HttpResponseBase:
        return _with_rules(get_response(request))

    return answer


def _with_rules(response: HttpResponseBase) -> HttpResponseBase:
    response.headers.setdefault("Permissions-Policy", PERMISSIONS_POLICY)
    response.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    return response
