"""Remember in the session when a person last proved who they are."""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings
from django.http import HttpRequest

PROVEN_AT = "proven_at"


def mark_proven(sender: Any, request: HttpRequest, **_: Any) -> None:
    """Note that the person has proved just now who they are."""
    request.session[PROVEN_AT] = time.time()


def is_recent(request: HttpRequest) -> bool:
    """Return whether the person proved at most `STEP_UP_SECONDS` ago who they are."""
    age = time.time() - request.session.get(PROVEN_AT, 0)
    return bool(0 <= age <= settings.STEP_UP_SECONDS)
