"""Decide who may read details for machines: `/metrics`, and the parts of `/readyz`."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare


def may_read_details(request: HttpRequest) -> bool:
    """Return whether the request carries `METRICS_TOKEN`.

    Without such a token nobody may, unless `METRICS_OPEN` or `DEBUG` opens them to everybody.
    """
    if not settings.METRICS_TOKEN:
        return bool(settings.METRICS_OPEN or settings.DEBUG)
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and constant_time_compare(
        token.strip(), settings.METRICS_TOKEN
    )
