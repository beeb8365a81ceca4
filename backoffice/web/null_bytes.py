"""Refuse addresses with a null byte, which PostgreSQL can't compare with any text."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote_plus

from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest


def refuse_null_bytes(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Return a middleware that answers 400 to a null byte in the path or the query."""

    def answer(request: HttpRequest) -> HttpResponse:
        query = unquote_plus(request.META.get("QUERY_STRING", ""), errors="replace")
        if "\0" in request.path_info or "\0" in query:
            return HttpResponseBadRequest("The address has a null byte.\n", "text/plain")
        return get_response(request)

    return answer
