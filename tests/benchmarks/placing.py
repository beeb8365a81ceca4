"""Enqueue -> acknowledgement committed, beside bare ccxt, under several loads that take turns in one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import psycopg

from tests.benchmarks.figures import Cell, percentile
from tests.benchmarks.parts import BackOffice, Parts
from tests.benchmarks.traffic import SYMBOLS, BareExchange
from tests.harness.simulator import API_KEY, API_SECRET

BARE = "bare ccxt"
BURST = 200


@dataclass(frozen=True, slots=True)
class Load:
    """`orders` a round, at `per_second` (None: as fast as they can be enqueued), the exchange `latency_ms` away."""

    name: str
    orders: int
    per_second: float | None
    latency_ms: int = 0
    rounds: int = 3


LOADS = (
    Load("10/s", 50, 10),
    Load("50/s", 200, 50),
    Load(f"burst of {BURST}", BURST, None),
    Load("10/s, exchange 50 ms away", 40, 10, latency_ms=50),
    Load("50/s, exchange 50 ms away", 150, 50, latency_ms=50, rounds=1),
    Load(f"burst of {BURST}, exchange 50 ms away", BURST, None, latency_ms=50, rounds=1),
)

Cells = dict[tuple[str, str], Cell]  # by (load, way of placing)


def measure_placing(parts: Parts, say: Callable[[str], None], *, scale: float = 1.0) -> Cells:
    """Every load in turn, round by round, each round bare and then on each database; `scale` shrinks the rounds."""
    say("warming up ...")
    bare = BareExchange(parts.simulator.url, API_KEY, API_SECRET)
    bare.place(SYMBOLS * 2, 50)
    for office in parts.offices:
        office.warm_up()
    cells: Cells = {}
    for load in LOADS:
        parts.simulator.control.settings(latency_ms=load.latency_ms)
        for number in range(load.rounds):
            say(f"{load.name}, round {number + 1} of {load.rounds} ...")
            _measure_round(cells, load, bare, parts.offices, max(5, round(load.orders * scale)))
    parts.simulator.control.settings(latency_ms=0)
    return cells


def _measure_round(cells: Cells, load: Load, bare: BareExchange, offices: list[BackOffice], orders: int) -> None:
    # One after the other there is nothing to learn of bare ccxt above the rate that the latency allows.
    if load.per_second is None or load.per_second * (load.latency_ms + 5) < 1000:
        cells.setdefault((load.name, BARE), Cell()).add_round(bare.place(orders, load.per_second), refused=0)
    for office in offices:
        office.measure(cells.setdefault((load.name, office.name), Cell()), orders, load.per_second)


@dataclass(frozen=True, slots=True)
class StampCheck:
    """How our stamps lie to the server's own commit timestamps, which it takes before it flushes the commit to disk."""

    orders: int
    early: int  # stamped by us before the server says that it committed: must be none
    p50_ms: float


def check_stamps(office: BackOffice, connection: psycopg.Connection) -> StampCheck:
    """Compare with PostgreSQL's timestamps of the transactions that stored the answers."""
    rows = connection.execute(
        """
        SELECT o.intent_id, pg_xact_commit_timestamp(e.xmin)
          FROM orders_orderevent e JOIN orders_order o ON o.id = e.order_id
         WHERE e.event_type = 'REPORT'
        """
    ).fetchall()
    server: dict[str, datetime] = dict(rows)
    later = sorted(stamp / 1e6 - server[intent_id].timestamp() * 1000 for intent_id, stamp in office.committed.items())
    return StampCheck(len(later), sum(ms < -0.001 for ms in later), percentile(later, 50))
