"""Measure from enqueueing to the committed answer, beside bare ccxt, under several loads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

from tests.benchmarks.figures import Cell, percentile
from tests.benchmarks.parts import SPREAD_ACCOUNTS, BackOffice, Parts
from tests.benchmarks.traffic import SYMBOLS, BareExchange
from tests.harness.simulator import API_KEY, API_SECRET

BARE = "bare ccxt"
DIRECT = "direct"
NAIVE = "naive"
SPREAD_ROUNDS = 4
BURST = 200


@dataclass(frozen=True, slots=True)
class Load:
    """`orders` a round at `per_second` (None: at once), the exchange `latency_ms` away."""

    name: str
    orders: int
    per_second: float | None
    latency_ms: int = 0
    rounds: int = 3
    is_direct: bool = False  # placed by the bot's own process, too
    is_naive: bool = False  # and by the naive pipeline


LOADS = (
    Load("10/s", 50, 10, is_direct=True, is_naive=True),
    Load("50/s", 200, 50),
    Load(f"burst of {BURST}", BURST, None, is_naive=True),
    Load("10/s, exchange 50 ms away", 40, 10, latency_ms=50, is_direct=True),
    Load("50/s, exchange 50 ms away", 150, 50, latency_ms=50, rounds=1),
    Load(f"burst of {BURST}, exchange 50 ms away", BURST, None, latency_ms=50, rounds=1),
)

Cells = dict[tuple[str, str], Cell]  # by (load, way of placing)


def measure_placing(parts: Parts, say: Callable[[str], None], *, scale: float = 1.0) -> Cells:
    """Measure every load round by round, bare first. `scale` shrinks the rounds."""
    say("warming up ...")
    bare = BareExchange(parts.simulator.url, API_KEY, API_SECRET)
    bare.place(SYMBOLS * 2, 50)
    naive = parts.start_naive()
    for office in (*parts.offices, naive):
        office.warm_up()
    cells: Cells = {}
    for load in LOADS:
        parts.simulator.control.settings(latency_ms=load.latency_ms)
        for number in range(load.rounds):
            say(f"{load.name}, round {number + 1} of {load.rounds} ...")
            orders = max(5, round(load.orders * scale))
            _measure_round(cells, load, bare, parts.offices, orders)
            if load.is_direct:
                cell = cells.setdefault((load.name, DIRECT), Cell())
                began = datetime.now(UTC)
                parts.offices[0].measure_direct(cell, orders, load.per_second)
                cell.stages += parts.offices[0].stages_since(began)
            if load.is_naive:
                cell = cells.setdefault((load.name, NAIVE), Cell())
                naive.measure(cell, orders, load.per_second)
    parts.simulator.control.settings(latency_ms=0)
    return cells


def _measure_round(
    cells: Cells, load: Load, bare: BareExchange, offices: list[BackOffice], orders: int
) -> None:
    # Above the rate that the latency allows, a serial client like bare ccxt measures only itself.
    if load.per_second is None or load.per_second * (load.latency_ms + 5) < 1000:
        cells.setdefault((load.name, BARE), Cell()).add_round(
            bare.place(orders, load.per_second), refused=0
        )
    for office in offices:
        cell = cells.setdefault((load.name, office.name), Cell())
        began = datetime.now(UTC)
        office.measure(cell, orders, load.per_second)
        cell.stages += office.stages_since(began)


def measure_cancels(parts: Parts, say: Callable[[str], None]) -> list[float]:
    """Return the milliseconds of cancels in the middle of bursts over many accounts, ascending."""
    office = parts.offices[0]
    say(f"bursts over {len(SPREAD_ACCOUNTS)} accounts with cancels in their middle ...")
    # Every account reads its balances and the history of every symbol once.
    first = len(SPREAD_ACCOUNTS) * SYMBOLS * 2
    office.measure(Cell(), first, 50, accounts=SPREAD_ACCOUNTS)
    return sorted(
        took for _ in range(SPREAD_ROUNDS) for took in office.measure_cancels(SPREAD_ACCOUNTS)
    )


@dataclass(frozen=True, slots=True)
class StampCheck:
    """How our stamps compare with the server's commit times, which it takes before the flush."""

    orders: int
    early: int  # stamped by us before the server says that it committed: must be none
    p50_ms: float


def check_stamps(office: BackOffice, connection: psycopg.Connection) -> StampCheck:
    """Compare our stamps with PostgreSQL's commit times of the same transactions."""
    rows = connection.execute(
        """
        SELECT o.intent_id, pg_xact_commit_timestamp(e.xmin)
          FROM orders_orderevent e JOIN orders_order o ON o.id = e.order_id
         WHERE e.event_type = 'REPORT'
        """
    ).fetchall()
    server: dict[str, datetime] = dict(rows)
    later = sorted(
        stamp / 1e6 - server[intent_id].timestamp() * 1000
        for intent_id, stamp in office.committed.items()
    )
    return StampCheck(len(later), sum(ms < -0.001 for ms in later), percentile(later, 50))
