"""What this process remembers of the database, so that it notices when the database has gone back in time.

A database restored from a backup lacks orders that the exchange has. Their intents may come again, and Binance accepts
a client order id again once its order is filled: a blind send would trade twice. Three signs make a process distrust
the book and read the symbol's history from the exchange before it sends: the process is new, its connection was renewed
(no restore spares connections), or the last claim that it committed itself is gone.
"""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Any

from django.db.backends.signals import connection_created

from exchanges import clock

_trusted_since = clock.now()
_last_recorded: dict[str, str] = {}
_thread = threading.local()


def trusted_since() -> datetime:
    """A symbol's history must have been read after this moment."""
    return _trusted_since


def distrust_the_book() -> None:
    """From now on every symbol is read again before anything is sent on it."""
    global _trusted_since
    _trusted_since = clock.now()
    _last_recorded.clear()


def remember(account: str, client_order_id: str) -> None:
    _last_recorded[account] = client_order_id


def remembered(account: str) -> str:
    """Client order id of the last claim that this process committed for the account; empty if none."""
    return _last_recorded.get(account, "")


def _on_connection_created(**_: Any) -> None:
    if getattr(_thread, "has_connected", False):
        distrust_the_book()
    _thread.has_connected = True


connection_created.connect(_on_connection_created, dispatch_uid="orders.memory")
