"""Decide who may read details for machines: `/metrics`, and the parts of `/readyz`."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare


def may_read_details(request: HttpRequest) -> bool:
    """Return whether the request carries `METRICS_TOKEN`.

    Without a token set, no request may, unless `METRICS_OPEN` or `DEBUG` is on: then all may.
    """
    if not settings.METRICS_TOKEN:
        return bool(settings.METRICS_OPEN or settings.DEBUG)
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and constant_time_compare(
        token.strip(), settings.METRICS_TOKEN
    )
