"""Keep every performance switch in one table, with the gain that keeps it there.

A switch changes speed and nothing else. `TUNING_OFF=name,name` in the environment turns switches
off, and `python -m tests.benchmarks.switches name …` measures their gain. `docs/benchmarks.md` has
the figures. A switch that gains less than 5 % of an order's time or of the burst rate goes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.core.exceptions import ImproperlyConfigured


@dataclass(frozen=True, slots=True)
class Switch:
    """One row of the table."""

    does: str
    gain: str  # measured with this switch off and the others on
    without: str  # what breaks if it is off, speed aside
    where: str


SWITCHES = {
    "kept_connections": Switch(
        does="A healthy database connection outlives the task or the request that opened it.",
        gain="An order takes a third of the time, and a burst passes at four times the rate.",
        without="Nothing. Each task connects and prepares its statements again.",
        where="backoffice/celery.py, backoffice/databases.py",
    ),
    "kept_broker_clients": Switch(
        does="A channel of the broker makes its Redis client once, not for every message.",
        gain="An order makes two clients less, of 0.16 ms each: 6 % of its time in a worker.",
        without="Nothing. kombu makes a new client for each message and each acknowledgment.",
        where="backoffice/broker.py",
    ),
    "unflushed_commits": Switch(
        does="Balances and the claims of bots' messages commit without waiting for the disk.",
        gain="A balance event of the stream is stored 10 to 60 % faster, by one flush of the disk.",
        without="Nothing. With it, a crash of the database loses what the exchange sends again.",
        where="exchanges/db/commits.py, orders/notifications/outbox.py",
    ),
    "early_import": Switch(
        does="A worker imports the exchange's client library before its first order.",
        gain="The first order of each worker process is 0.3 s faster.",
        without="Nothing. The first order waits for the import.",
        where="backoffice/celery.py",
    ),
}

_off: frozenset[str] = frozenset()


def turn_off(names: Iterable[str]) -> None:
    """Turn these switches off in this process, and all others on.

    Raise ImproperlyConfigured if there is no such switch.
    """
    global _off
    wanted = frozenset(names)
    if unknown := sorted(wanted - SWITCHES.keys()):
        raise ImproperlyConfigured(
            f"TUNING_OFF names {unknown[0]!r}, but the switches are {', '.join(SWITCHES)}."
        )
    _off = wanted


def is_on(name: str) -> bool:
    """Return whether the switch is on. Raise KeyError if there is no such switch."""
    SWITCHES[name]
    return name not in _off
