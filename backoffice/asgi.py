"""Serve the back office as an ASGI application."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from django.core.asgi import get_asgi_application
from django.db import connections

from backoffice.databases import serve_web
from backoffice.web.body_limit import limit_bodies

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
serve_web()  # before the settings are read

django_application = get_asgi_application()

from backoffice.web.waiting_room import WaitingRoom  # noqa: E402  it needs Django set up
from exchanges.checks import refuse_danger  # noqa: E402  it reads models, which are ready now


def _refuse_danger() -> None:
    """Look at the accounts on a connection beside the pool, which waits for a database."""
    own = connections["default"]
    options = {
        name: value for name, value in own.settings_dict["OPTIONS"].items() if name != "pool"
    }
    own.settings_dict = {**own.settings_dict, "OPTIONS": options}
    try:
        refuse_danger()
    finally:
        own.close()


# In a thread of its own: uvicorn imports this within its event loop, where Django refuses queries.
with ThreadPoolExecutor(1) as _pool:
    _pool.submit(_refuse_danger).result()
# The limit comes first: no one waits for a turn with a body that is refused anyway.
application = limit_bodies(WaitingRoom(django_application))
