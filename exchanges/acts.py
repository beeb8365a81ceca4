"""Report the acts of people and rules to the journal, in the transaction of each act.

The journal itself is the business of `backoffice.people`, which installs its writer here when the
process starts. So a service can record an act without knowing who keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Source(StrEnum):
    """The door through which an act came in."""

    DESK = "desk"
    SHELL = "shell"
    MESSAGE = "message"
    RULE = "rule"
    EXCHANGE = "exchange"


@dataclass(frozen=True, slots=True)
class Origin:
    """The person who acts in this thread, the address and the session."""

    source: Source
    person: str
    address: str = ""
    session: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One act: the verb, the record it is about, the reason, and the change that it made.

    `subject` names a record, such as `account:demo`. `touched` names further ones.
    """

    verb: str
    actor: str
    subject: str
    account: str = ""
    reason: str = ""
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    touched: Sequence[str] = ()


Writer = Callable[[Act, Origin], object]

_writers: list[Writer] = []
# The tables whose locks an act takes, so that a halt can end a session that stands still on one.
_tables: list[str] = []
_origin: ContextVar[Callable[[], Origin] | None] = ContextVar("origin", default=None)


def install(writer: Writer, *, table: str) -> None:
    """Let `writer` store every act from now on. It takes a lock in `table`."""
    _writers[:] = [writer]
    _tables[:] = [table]


def locked_tables() -> list[str]:
    """Return the tables in which recording an act takes a lock."""
    return [*_tables]


@contextmanager
def acting(origin: Callable[[], Origin]) -> Iterator[None]:
    """Record the acts of this block with this origin, which is computed only if one happens."""
    token = _origin.set(origin)
    try:
        yield
    finally:
        _origin.reset(token)


def is_person_acting() -> bool:
    """Return whether a person acts in this thread, and not a bot, a duty or the exchange."""
    return _origin.get() is not None


def record_act(
    verb: str,
    *,
    actor: str,
    subject: str,
    account: str = "",
    reason: str = "",
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    touched: Sequence[str] = (),
) -> None:
    """Record an act. Call it last in the transaction of the act, because it takes a lock."""
    act = Act(
        verb=verb,
        actor=actor,
        subject=subject,
        account=account,
        reason=reason,
        before=before or {},
        after=after or {},
        touched=touched,
    )
    origin = _origin_of(actor)
    for writer in _writers:
        writer(act, origin)


def _origin_of(actor: str) -> Origin:
    """Return where the act came from. A rule may act in the thread of a person."""
    if actor.startswith("rule:"):
        return Origin(Source.RULE, actor)
    ask = _origin.get()
    found = ask() if ask is not None else None
    if found is not None and (found.person == actor or f"({found.person})" in actor):
        return Origin(found.source, actor, found.address, found.session)
    for source in (Source.SHELL, Source.MESSAGE):
        if actor.startswith(f"{source}:"):
            return Origin(source, actor)
    return Origin(Source.EXCHANGE, actor)
