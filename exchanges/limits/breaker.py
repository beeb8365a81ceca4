"""Read a circuit breaker, or hold it open or closed by hand. There is one per account and kind."""

from __future__ import annotations

from typing import cast

from exchanges.errors import NotSent
from exchanges.limits.redis import PAUSE_SECONDS, client
from exchanges.types import CallKind

PREFIX = "backoffice:limits"


def breaker_key(account: str, kind: CallKind) -> str:
    return f"{PREFIX}:breaker:{account}:{kind}"


def force_breaker(account: str, kind: CallKind, state: str | None) -> None:
    """Hold a breaker `open` or `closed`, or let it decide by itself again (None).

    Raise `NotSent` if Redis is away.
    """
    key = breaker_key(account, kind)
    try:
        if state is None:
            client().hdel(key, "forced")
        else:
            client().hset(key, "forced", state)
    except Exception as error:  # noqa: BLE001  after any error the change is uncertain
        raise NotSent(
            f"Redis does not answer ({type(error).__name__})", retry_after=PAUSE_SECONDS
        ) from None


def breaker_state(account: str, kind: CallKind) -> str:
    """Return `closed`, `open`, `forced open` or `forced closed`.

    It is `unknown` while Redis is away.
    """
    try:
        stored = client().hgetall(breaker_key(account, kind))
    except Exception:  # noqa: BLE001  a page that shows the state must not fail because of it
        return "unknown"
    if forced := stored.get("forced"):
        return f"forced {cast('str', forced)}"
    return "open" if stored.get("open") else "closed"
