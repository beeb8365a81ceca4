"""Report the results: a table with targets for people, JSON for programs."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from tests.benchmarks.desk import Desk
from tests.benchmarks.figures import Figures, percentile
from tests.benchmarks.live import LISTENERS
from tests.benchmarks.placing import BARE, BURST, DIRECT, LOADS, Cells, StampCheck
from tests.benchmarks.simulator_speed import Speed
from tests.benchmarks.tracking import BURST as FILL_BURST
from tests.benchmarks.tracking import Tracking

Table = Mapping[tuple[str, str], Figures]  # by (load, way of placing)
_COLUMNS = (
    "load",
    "path",
    "orders",
    "p50",
    "p90",
    "p99",
    "max",
    "x bare",
    "to start",
    "orders/s",
    "CPU",
    "DB CPU",
)
_DASH = "-"


@dataclass(frozen=True, slots=True)
class Target:
    """A figure and its target. A benchmark states both and doesn't fail."""

    what: str
    figure: float
    limit: float
    unit: str
    at_least: bool = False

    @property
    def is_reached(self) -> bool:
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit

    def line(self) -> str:
        sign = ">=" if self.at_least else "<="
        figure, limit = (
            f"{_number(self.figure)} {self.unit}",
            f"{sign} {_number(self.limit)} {self.unit}",
        )
        verdict = "reached" if self.is_reached else "MISSED"
        return f"  {self.what:<58} {figure:>20}   {limit:<22} {verdict}"


def placing_targets(table: Table, gate_ms: float, cancels: Sequence[float]) -> list[Target]:
    """Return the targets of the placing path. `cancels` are milliseconds, ascending."""
    slow, burst = "10/s", f"burst of {BURST}"
    away, steady_away = "10/s, exchange 50 ms away", "50/s, exchange 50 ms away"
    ours = {name: table[name, "PostgreSQL"] for name in (slow, burst, away, steady_away)}
    bare, direct = table[slow, BARE], table[slow, DIRECT]
    far = table[away, BARE].p50 - 50
    burst_rate = ours[burst].orders_per_second / table[burst, BARE].orders_per_second
    return [
        Target("10/s through the queue: p50", ours[slow].p50 / bare.p50, 3.2, "x bare"),
        Target("10/s through the queue: p99", ours[slow].p99 / bare.p50, 9, "x bare"),
        Target("10/s direct: p50", direct.p50 / bare.p50, 2.3, "x bare"),
        Target("10/s direct: p99", direct.p99 / bare.p50, 6, "x bare"),
        Target(burst, burst_rate, 0.5, "x bare", at_least=True),
        Target(f"{burst}: CPU of all processes per order", ours[burst].cpu_ms, 7, "ms"),
        Target(
            f"{burst} over 20 accounts: p99 of a cancel in its middle",
            percentile(cancels, 99) / bare.p50,
            40,
            "x bare",
        ),
        Target(
            "exchange 50 ms away, 10/s: our part of p50",
            (ours[away].p50 - 50) / far,
            3,
            "x bare's part",
        ),
        Target("gate and reservation: p50 added to the recording", gate_ms, 3, "ms"),
        Target("exchange 50 ms away, 50/s: p50 above 50 ms", ours[steady_away].p50 - 50, 12, "ms"),
    ]


def live_targets(live: Mapping[str, Figures]) -> list[Target]:
    """Return the target of pages that listen. It is a difference near the noise of one run."""
    alone, listening = live["none"], live["listening"]
    name = f"burst of {BURST} with {LISTENERS} open pages: CPU per order"
    return [Target(name, listening.cpu_ms / alone.cpu_ms, 1.02, "x without")]


def simulator_targets(engine: Speed, rest: Speed) -> list[Target]:
    return [
        Target(
            "simulator's engine alone, one core",
            engine.per_core_second,
            20_000,
            "orders/s",
            at_least=True,
        ),
        Target(
            "simulator through REST, one core",
            rest.per_core_second,
            2_000,
            "requests/s",
            at_least=True,
        ),
    ]


def tracking_targets(tracking: Tracking) -> list[Target]:
    """Return the targets of following an account: weight, and the delay of events."""
    weights = [
        Target(
            f"at rest, {count:,} open orders: weight a minute",
            tracking.per_minute(count),
            120,
            "weight",
        )
        for count in tracking.weight_at_rest
    ]
    return [
        *weights,
        Target(
            f"{max(tracking.weight_at_rest):,} open orders reconciled",
            tracking.reconcile_seconds,
            10,
            "s",
        ),
        Target(
            "stream event -> committed, 50 events/s: p50",
            percentile(tracking.committed, 50),
            5,
            "ms",
        ),
        Target(
            "stream event -> committed, 50 events/s: p99",
            percentile(tracking.committed, 99),
            50,
            "ms",
        ),
        Target(
            f"a burst of {2 * FILL_BURST:,} events",
            2 * FILL_BURST / tracking.burst_seconds,
            1_000,
            "events/s",
            at_least=True,
        ),
        Target("and lacks", tracking.burst_lost, 0, "orders"),
        Target("commit -> orchestrator's task: p50", percentile(tracking.told, 50), 15, "ms"),
    ]


def desk_targets(desk: Desk) -> list[Target]:
    """Return the targets of the desk's pages over a large book."""
    slowest = max(desk.filters, key=lambda name: desk.filters[name])
    book = f"{desk.orders:,} orders"
    return [
        *(
            Target(f"{book}: first page of {name}", ms, 150, "ms")
            for name, ms in desk.pages.items()
        ),
        Target(f"{book}: slowest filter ({slowest})", desk.filters[slowest], 400, "ms"),
        Target(f"{book}: export", desk.exported_per_second, 50_000, "rows/s", at_least=True),
    ]


def tracking_json(tracking: Tracking) -> dict[str, Any]:
    lateness = {"committed_ms": tracking.committed, "told_ms": tracking.told}
    return {
        "weight_at_rest": tracking.weight_at_rest,
        "weight_of_reconciling": tracking.weight_of_reconciling,
        "reconcile_seconds": round(tracking.reconcile_seconds, 3),
        "burst_seconds": round(tracking.burst_seconds, 3),
        "burst_lost": tracking.burst_lost,
        "listener_cpu_ms_an_event": round(tracking.listener_cpu_ms, 3),
        **{
            name: {
                f"p{percent}": round(percentile(figures, percent), 3)
                for percent in (50, 90, 99, 100)
            }
            for name, figures in lateness.items()
        },
    }


# Until the task begins. The shared limits and the gate. The claim's commit. Its note in Redis. The
# request. The answer read. Its commit. The whole.
_STAGES = ("queue", "gate", "claim", "note", "exchange", "merge", "record", "all")


def stage_rows(cells: Cells) -> list[tuple[str, str, list[float]]]:
    """Return load, path and the median milliseconds of each part of an order's way.

    The parts are those of `orders.stages`, with the wait in the queue before them and the commit of
    the answer after them. The last figure is the whole. Medians don't add up exactly, so the commit
    is what the others leave of the whole.
    """
    rows: list[tuple[str, str, list[float]]] = []
    for (load, path), cell in cells.items():
        if stages := cell.stage_medians():
            row = cell.figures()
            parts = [row.queued_p50, *stages]
            rows.append((load, path, [*parts, row.p50 - sum(parts), row.p50]))
    return rows


def stages_json(cells: Cells) -> list[dict[str, Any]]:
    return [
        {"load": load, "path": path, "unit": "ms", "medians": [round(ms, 3) for ms in medians]}
        for load, path, medians in stage_rows(cells)
    ]


def stage_text(cells: Cells) -> str:
    """Return the parts of an order's way as aligned columns."""
    lines = ["".join((f"{'load':<34}{'path':<12}", *(f"{name:>12}" for name in _STAGES)))]
    for load, path, medians in stage_rows(cells):
        figures = "".join(f"{median:>12.1f}" for median in medians)
        lines.append(f"{load:<34}{path:<12}{figures}")
    return "\n".join(lines)


def table_text(table: Table) -> str:
    """Return aligned columns, in milliseconds."""
    rows: list[Sequence[str]] = [_COLUMNS]
    for load in LOADS:
        bare = table.get((load.name, BARE))
        shown = ((path, row) for (name, path), row in table.items() if name == load.name)
        rows += [
            _row(load.name if index == 0 else "", path, row, bare)
            for index, (path, row) in enumerate(shown)
        ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _row(load: str, path: str, row: Figures, bare: Figures | None) -> Sequence[str]:
    is_bare = path == BARE
    return (
        load,
        path,
        f"{row.orders}" + (f" (+{row.refused} refused)" if row.refused else ""),
        *(f"{value:.1f}" for value in (row.p50, row.p90, row.p99, row.max)),
        _DASH if is_bare or bare is None else f"{row.p50 / bare.p50:.1f}",
        _DASH if is_bare else f"{row.queued_p50:.1f}",
        f"{row.orders_per_second:.0f}",
        _DASH if is_bare else f"{row.worker_cpu_ms:.1f}",
        _DASH if not row.database_cpu_ms else f"{row.database_cpu_ms:.1f}",
    )


def notes(check: StampCheck, workers: str, flush_ms: float) -> str:
    """Return the explanation below the table."""
    return f"""\
Milliseconds. Bare ccxt: one create_order after the other at the same pace, nothing stored. The
other paths: from the call of send_task to the commit of the exchange's answer, stamped in the
worker when the commit has returned, that is when the database has it on disk (fsync and
synchronous_commit on). PostgreSQL's own commit times, which it takes before the flush, are
{check.p50_ms:.2f} ms earlier (p50 of {check.orders} orders, {check.early} of our stamps lie before
them). An order needs two flushes. One flush takes this disk {flush_ms:.2f} ms (p50). To start:
until the task begins. CPU: of the workers per order (direct: of the bot). DB CPU: of PostgreSQL's
processes per order. Direct: until the call returns. Naive: Django, Celery and ccxt without guards.
Everything shares this machine (load average {os.getloadavg()[0]:.1f}).
Workers: {workers}."""


def as_json(
    table: Table,
    targets: Iterable[Target],
    speeds: Mapping[str, Speed],
    check: StampCheck | None,
    **more: Any,
) -> dict[str, Any]:
    """Return the content of the JSON file."""
    return {
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processors": os.cpu_count(),
            "system": platform.system(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "load_average": [round(value, 2) for value in os.getloadavg()],
        },
        **more,
        "placing": [
            {"load": load, "path": path, "unit": "ms", **row.as_dict()}
            for (load, path), row in table.items()
        ],
        "stamps": None if check is None else asdict(check),
        "simulator": {
            name: {
                **asdict(speed),
                "per_second": round(speed.per_second),
                "per_core_second": round(speed.per_core_second),
            }
            for name, speed in speeds.items()
        },
        "targets": [{**asdict(target), "is_reached": target.is_reached} for target in targets],
    }


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}".removesuffix(".0")
