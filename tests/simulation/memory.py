"""Give each simulated process its own memory, although all of them share one interpreter.

What a module remembers, and the settings that differ, are swapped when the scheduler goes from one
process to another.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.conf import settings

from tests.simulation.scheduler import Process

_MINUS_INFINITY = float("-inf")

#: Name of what a process remembers, what it is at the start, and every place that holds it.
REMEMBERED: tuple[tuple[Callable[[], Any], tuple[str, ...]], ...] = (
    (dict, ("exchanges.binance.server_clock:_clocks",)),
    (dict, ("exchanges.binance.page_lengths:_longest",)),
    (dict, ("exchanges.limits.sizes:_known",)),
    (dict, ("exchanges.limits.budget:_stops",)),
    (dict, ("exchanges.limits.budget:_known_counts",)),
    (lambda: (0, 0), ("exchanges.limits.budget:_alone_second",)),
    (dict, ("exchanges.limits.book_memory:_own",)),
    (list, ("exchanges.limits.book_memory:_unshared",)),
    (float, ("exchanges.limits.redis:_away_until",)),
    (Counter, ("exchanges.limits.counters:_pending",)),
    (float, ("exchanges.limits.counters:_paused_until",)),
    (dict, ("orders.accounts:_accounts",)),
    (dict, ("orders.placing.prerequisites:_requested_at",)),
    (
        dict,
        ("orders.placing.outcomes:clock_refused_at", "orders.placing.send:clock_refused_at"),
    ),
    (lambda: _MINUS_INFINITY, ("orders.notifications.outbox:_broker_failed_at",)),
    (dict, ("backoffice.durable_tasks:_Duty._begun_at",)),
    (list, ("orders.placing.claim_together:_claims._waiting",)),
    (bool, ("orders.placing.claim_together:_claims._is_busy",)),
    (list, ("orders.recording.changes:_stores._waiting",)),
    (bool, ("orders.recording.changes:_stores._is_busy",)),
)
IS_WORKER = "exchanges.limits.redis:_is_required"


def swap(old: Process | None, new: Process) -> None:
    """Put away what the old process remembers, and lay out what the new one does."""
    for make, places in REMEMBERED:
        if old is not None:
            old.memory[places[0]] = _read(places[0])
        if places[0] not in new.memory:
            new.memory[places[0]] = make()
        for place in places:
            _write(place, new.memory[places[0]])
    _write(IS_WORKER, new.is_worker)
    before = old.settings if old is not None else {}
    if before != new.settings:
        _set_settings({**_usual(before), **new.settings})


_usual_settings: dict[str, Any] = {}


def _usual(names: Iterable[str]) -> dict[str, Any]:
    return {name: _usual_settings[name] for name in names}


def _set_settings(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        _usual_settings.setdefault(name, getattr(settings, name))
        setattr(settings, name, value)


def forget_all() -> None:
    """Leave the modules and the settings as a new process finds them."""
    _set_settings(_usual_settings)
    for make, places in REMEMBERED:
        value = make()
        for place in places:
            _write(place, value)
    _write(IS_WORKER, False)


def _owner(place: str) -> tuple[Any, str]:
    module, _, path = place.partition(":")
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    return owner, name


_owners: dict[str, tuple[Any, str]] = {}


def _found(place: str) -> tuple[Any, str]:
    if place not in _owners:
        owner, name = _owner(place)
        assert hasattr(owner, name), place
        _owners[place] = owner, name
    return _owners[place]


def _read(place: str) -> Any:
    owner, name = _found(place)
    return getattr(owner, name)


def _write(place: str, value: Any) -> None:
    owner, name = _found(place)
    setattr(owner, name, value)
