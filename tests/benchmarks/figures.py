"""Turn measured orders into percentiles, throughput, and CPU time as the kernel counts it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Sample:
    """One order, in nanoseconds since the epoch.

    `started_at` is 0 if nothing stood between caller and exchange.
    """

    enqueued_at: int
    started_at: int
    committed_at: int

    @property
    def milliseconds(self) -> float:
        return (self.committed_at - self.enqueued_at) / 1e6

    @property
    def queued_milliseconds(self) -> float:
        return (self.started_at - self.enqueued_at) / 1e6


@dataclass
class Cell:
    """All rounds of one way of placing under one load."""

    samples: list[Sample] = field(default_factory=list)
    refused: int = 0  # orders that were not acknowledged
    worker_cpu: float = 0.0  # seconds
    database_cpu: float = 0.0
    redis_cpu: float = 0.0
    round_rates: list[float] = field(default_factory=list)  # orders/s of each round
    stages: list[Sequence[int]] = field(default_factory=list)  # microseconds, see `orders.stages`

    def add_round(
        self,
        samples: Sequence[Sample],
        *,
        refused: int,
        worker_cpu: float = 0.0,
        database_cpu: float = 0.0,
        redis_cpu: float = 0.0,
    ) -> None:
        self.samples += samples
        self.refused += refused
        self.worker_cpu += worker_cpu
        self.database_cpu += database_cpu
        self.redis_cpu += redis_cpu
        if samples:
            first, last = min(s.enqueued_at for s in samples), max(s.committed_at for s in samples)
            self.round_rates.append(len(samples) * 1e9 / (last - first))

    def figures(self) -> Figures:
        took = sorted(sample.milliseconds for sample in self.samples)
        queued = sorted(sample.queued_milliseconds for sample in self.samples if sample.started_at)
        orders = len(self.samples)
        return Figures(
            orders=orders,
            refused=self.refused,
            p50=percentile(took, 50),
            p90=percentile(took, 90),
            p99=percentile(took, 99),
            max=took[-1] if took else 0.0,
            queued_p50=percentile(queued, 50),
            orders_per_second=percentile(sorted(self.round_rates), 50),
            worker_cpu_ms=self.worker_cpu * 1000 / orders if orders else 0.0,
            database_cpu_ms=self.database_cpu * 1000 / orders if orders else 0.0,
            redis_cpu_ms=self.redis_cpu * 1000 / orders if orders else 0.0,
        )

    def stage_medians(self) -> list[float]:
        """Return the median milliseconds of each stage. Empty if none was stored."""
        return [percentile(sorted(took), 50) / 1000 for took in zip(*self.stages, strict=False)]


@dataclass(frozen=True, slots=True)
class Figures:
    """Milliseconds, CPU milliseconds per order, and the median of the rounds' rates."""

    orders: int
    refused: int
    p50: float
    p90: float
    p99: float
    max: float
    queued_p50: float
    orders_per_second: float
    worker_cpu_ms: float
    database_cpu_ms: float
    redis_cpu_ms: float

    @property
    def cpu_ms(self) -> float:
        """Return the CPU time of workers, PostgreSQL and Redis for one order."""
        return self.worker_cpu_ms + self.database_cpu_ms + self.redis_cpu_ms

    def as_dict(self) -> dict[str, Any]:
        return {name: round(value, 3) for name, value in asdict(self).items()}


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the nearest rank of an ascending sequence, 0 of an empty one."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, max(0, round(len(ordered) * percent / 100 + 0.5) - 1))]


def flush_milliseconds(directory: Path, times: int = 40) -> float:
    """Return the median time to get a written page onto the disk below this folder."""
    took: list[float] = []
    file = os.open(directory / "flushed", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for _ in range(times):
            os.write(file, bytes(8192))
            began = time.perf_counter()
            os.fdatasync(file)
            took.append((time.perf_counter() - began) * 1000)
    finally:
        os.close(file)
    return percentile(sorted(took), 50)


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return user and system time of these processes and their descendants (Linux).

    That includes those which have ended: a server's processes may live for one connection.
    """
    children = _children()
    waiting, total = list(pids), 0.0
    while waiting:
        pid = waiting.pop()
        waiting += children.get(pid, [])
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(ticks) for ticks in fields[11:15]) / _TICKS
    return total


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            found.setdefault(parent, []).append(int(entry.name))
    return found
