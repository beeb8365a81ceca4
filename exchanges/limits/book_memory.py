"""Remember outside the database which book it holds, and the newest claims in it.

A restore or a failover takes the database back in time and leaves Redis as it is. So a claim that
Redis knows and the database lacks shows that the book went back. All processes share this memory.

A process that is not a worker has a copy of it, and uses the copy while Redis is away. In eager
mode, and inside a caller's transaction, it uses nothing but the copy: a test's orders are rolled
back afterwards, and other processes must not miss them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from django.conf import settings
from django.db import connection

from exchanges.errors import NotSent
from exchanges.limits import redis as shared

NEWEST = 16


@dataclass(frozen=True, slots=True)
class Memory:
    """The book's token (empty: none is remembered) and its newest claims, newest first.

    `is_private`: only this process remembers it.
    """

    token: str = ""
    claims: tuple[str, ...] = ()
    is_private: bool = False


class Noted(StrEnum):
    """The answer to noting a claim."""

    DONE = ""
    OTHER_BOOK = "other book"
    KNOWN = "known"


def claim_name(account_id: int, client_order_id: str) -> str:
    """Return the name under which a claim is remembered."""
    return f"{account_id}/{client_order_id}"


def split_claim_name(name: str) -> tuple[int, str]:
    account_id, _, client_order_id = name.partition("/")
    return int(account_id), client_order_id


def is_private() -> bool:
    """Return whether this process must keep its claims to itself for now."""
    if shared.is_required():
        return False
    return bool(settings.CELERY_TASK_ALWAYS_EAGER) or connection.in_atomic_block


def redis_keys() -> list[str]:
    """Return the names of the two keys: the token's, and the claims'."""
    book = f"bo:book:{settings.DEPLOYMENT_ID}"
    return [book, f"{book}:claims"]


def own_copy() -> Memory:
    """Return this process's own copy of the memory."""
    return _own["memory"] if _own else Memory(is_private=True)


def copy_of(token: str, claims: Sequence[str]) -> Memory:
    """Return the memory of Redis, as a script returned it, and copy it."""
    memory = Memory(token, tuple(claims))
    _own["memory"] = replace(memory, is_private=True)
    return memory


def read(*, private: bool) -> Memory:
    """Read the memory. Raise `NotSent` in a worker while Redis is away."""
    if private:
        return own_copy()
    try:
        return copy_of(*_run({"verb": "read"}))
    except shared.RedisAway:
        _require_no_worker()
    return own_copy()


def begin_again(token: str, *, private: bool) -> None:
    """Remember another token, and no claim. Raise `NotSent` in a worker while Redis is away."""
    with _lock:
        _own["memory"] = Memory(token, is_private=True)
        _unshared.clear()
    if private:
        return
    try:
        _run({"verb": "begin", "token": token})
    except shared.RedisAway:
        _require_no_worker()


def note(memory: Memory, name: str) -> Noted:
    """Note a committed claim before its request leaves.

    The claim isn't noted if the book has become another since `memory` was read, or if it is
    known: an id is claimed once, so the claim was lost in between. Raise `NotSent` in a worker
    while Redis is away.
    """
    if not memory.is_private:
        with _lock:
            names = [*_unshared, name]
        try:
            answer = Noted(_run({"verb": "note", "token": memory.token, "names": names}))
        except shared.RedisAway:
            _require_no_worker()
        else:
            with _lock:
                del _unshared[: len(names) - 1]
            return answer
    with _lock:
        own = own_copy()
        if name in own.claims:
            return Noted.KNOWN
        _own["memory"] = replace(own, claims=(name, *own.claims)[:NEWEST])
        if not is_private():
            _unshared[:] = [*_unshared, name][-NEWEST:]
    return Noted.DONE


def _run(ask: dict[str, Any]) -> Any:
    names = redis_keys()
    return shared.run("book", names, {"keys": names, "newest": NEWEST, **ask})


def _require_no_worker() -> None:
    if shared.is_required():
        raise NotSent(
            "the newest claims can't be read (Redis is away)", retry_after=shared.PAUSE_SECONDS
        )


_lock = threading.Lock()
_own: dict[str, Memory] = {}
# Claims that were noted while Redis was away. The next note takes them along.
_unshared: list[str] = []
