"""Give a piece of shared work to one worker at a time.

A lease has an end, by the database's clock, and its holder renews it while the work runs. So a
holder that died blocks the work for seconds, however long the work takes. A person may release or
steal a lease: its holder notices at the next renewal and stops.
"""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from exchanges import clock
from exchanges.acts import record_act
from exchanges.errors import NotSent
from exchanges.models import Lease, LeaseChange

log = structlog.get_logger(__name__)

# Longer than the longest call to the exchange, because a call can't renew.
HOLD_SECONDS = 20.0
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_WAIT_SECONDS = 3.0
_POLL_SECONDS = 0.02
_HOST_WIDTH = 40
_of_thread = threading.local()


class LeaseLost(NotSent):
    """The lease ended, or a person took it away, while its holder was at work."""


@dataclass(slots=True)
class _Held:
    name: str
    holder: str
    seconds: float
    renewed_at: float


def holder_name() -> str:
    """Return a name for one holding of a lease: our host, and a random id."""
    return f"{socket.gethostname()[:_HOST_WIDTH]}:{secrets.token_hex(6)}"


@contextmanager
def lease(name: str, *, seconds: float = HOLD_SECONDS) -> Iterator[bool]:
    """Yield True to the one that may do the work called `name` now.

    The work calls `renew` between its steps if it may take longer than `seconds`.
    """
    held = _Held(name, holder_name(), seconds, clock.monotonic())
    is_ours = acquire(name, held.holder, seconds)
    if not is_ours:
        yield False
        return
    _held().append(held)
    try:
        yield True
    finally:
        _held().remove(held)
        Lease.objects.filter(pk=name, holder=held.holder).update(expires_at=_LONG_AGO)


def renew() -> None:
    """Renew the leases that this thread holds, if a good part of their time has passed.

    Raises `LeaseLost` if one is no longer ours.
    """
    now = clock.monotonic()
    for held in _held():
        if now - held.renewed_at < held.seconds / 4:
            continue
        ends_at = Now() + timedelta(seconds=held.seconds)
        if not Lease.objects.filter(pk=held.name, holder=held.holder).update(expires_at=ends_at):
            raise LeaseLost(f"the work {held.name} was given to another", retry_after=1.0)
        held.renewed_at = now


def _held() -> list[_Held]:
    found: list[_Held] = _of_thread.__dict__.setdefault("held", [])
    return found


def acquire(name: str, holder: str, seconds: float) -> bool:
    """Take the lease for so many seconds if it is free. Its row is made with its first use."""
    taken = _take(name, holder, seconds)
    if not taken and not Lease.objects.filter(pk=name).exists():
        Lease.objects.bulk_create([Lease(name=name, expires_at=_LONG_AGO)], ignore_conflicts=True)
        taken = _take(name, holder, seconds)
    return taken


def _take(name: str, holder: str, seconds: float) -> bool:
    free = Lease.objects.filter(pk=name, expires_at__lte=Now())
    return bool(free.update(holder=holder, expires_at=Now() + timedelta(seconds=seconds)))


def do_once(
    name: str,
    *,
    is_done: Callable[[], bool],
    work: Callable[[], object],
    wait_seconds: float = _WAIT_SECONDS,
) -> None:
    """Run `work` in one of the workers that need it now, while the others wait.

    Raise `NotSent` if another worker is not done in time.
    """
    give_up_at = clock.monotonic() + wait_seconds
    while not is_done():
        with lease(name) as is_ours:
            if is_ours:
                if not is_done():
                    work()
                return
        if clock.monotonic() > give_up_at:
            raise NotSent(f"another worker is still busy with {name}", retry_after=1.0)
        clock.sleep(_POLL_SECONDS)


# -- by a person ---------------------------------------------------------------------------------


def held_leases() -> QuerySet[Lease]:
    """Return the leases that are held now."""
    return Lease.objects.filter(expires_at__gt=Now()).order_by("name")


def release(name: str, *, reason: str, actor: str, seen: str | None = None) -> bool:
    """Free a lease, so that the next worker may take it. Return False if it isn't held.

    With `seen`, only that holder loses it. Raises `ValueError` if the reason is missing.
    """
    return _take_away(name, seen, seconds=None, reason=reason, actor=actor)


def steal(name: str, *, seconds: float, reason: str, actor: str, seen: str | None = None) -> bool:
    """Hold a lease for so many seconds, so that no worker does the work meanwhile.

    Return False if it isn't held. With `seen`, only that holder loses it. Raises `ValueError` if
    the reason is missing.
    """
    return _take_away(name, seen, seconds=seconds, reason=reason, actor=actor)


def _take_away(
    name: str, seen: str | None, *, seconds: float | None, reason: str, actor: str
) -> bool:
    if not reason.strip():
        raise ValueError("reason: a reason is required")
    row = held_leases().filter(pk=name).first()
    if row is None or seen not in (None, row.holder):
        return False
    holder: str = "" if seconds is None else actor[:64]
    ends_at = _LONG_AGO if seconds is None else Now() + timedelta(seconds=seconds)
    with transaction.atomic():
        is_done = bool(
            held_leases()
            .filter(pk=name, holder=row.holder)
            .update(holder=holder, expires_at=ends_at)
        )
        if is_done:
            LeaseChange.objects.create(
                name=name, holder=row.holder, seconds=seconds, reason=reason, actor=actor
            )
            record_act(
                "release_lease" if seconds is None else "hold_lease",
                actor=actor,
                subject=f"lease:{name}",
                account=name.partition(":")[2],
                reason=reason,
                before={"holder": row.holder},
                after={"holder": holder, "seconds": seconds},
            )
    if is_done:
        log.warning("lease_taken_away", lease=name, holder=row.holder, reason=reason, actor=actor)
    return is_done
