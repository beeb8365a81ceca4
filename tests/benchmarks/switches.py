"""Measure the gain of each performance switch: `python -m tests.benchmarks.switches`.

One back office runs with every switch on, a second one runs the same way (their difference is
noise), and one runs without each switch. They take turns, in a new order in each round, so other
programs on the machine disturb all of them alike. Each round is compared with the first back
office of the same round, and the table shows the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backoffice.local.run import WORKER_OPTIONS, WORKERS
from tests.benchmarks.figures import Cell, Figures, percentile
from tests.benchmarks.parts import BackOffice, Parts

ON, AGAIN = "(all on)", "(all on, again)"
PER_SECOND, PACED, BURST = 10, 25, 150
RESULT = Path("var/bench-switches.json")
_COLUMNS = ("p50", "p99", "orders/s", "CPU", "DB CPU")


@dataclass
class Rounds:
    """The figures of one back office, round by round."""

    paced: list[Figures] = field(default_factory=list)
    burst: list[Figures] = field(default_factory=list)

    def columns(self) -> list[list[float]]:
        """Return p50 and p99 at 10/s, then rate and CPU times of the burst, of each round."""
        return [
            [figures.p50 for figures in self.paced],
            [figures.p99 for figures in self.paced],
            [figures.orders_per_second for figures in self.burst],
            [figures.worker_cpu_ms for figures in self.burst],
            [figures.database_cpu_ms for figures in self.burst],
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "paced": [figures.as_dict() for figures in self.paced],
            "burst": [figures.as_dict() for figures in self.burst],
        }


def measure(
    parts: Parts, rounds: int, output: Path, *, paced: int = PACED, burst: int = BURST
) -> dict[str, Rounds]:
    """Let the back offices take turns, and store their figures after each round."""
    for office in parts.offices:
        office.warm_up()
    measured = {office.name: Rounds() for office in parts.offices}
    order = random.Random(7)
    for number in range(rounds):
        print(f"round {number + 1} of {rounds} ...", flush=True)
        for office in order.sample(parts.offices, len(parts.offices)):
            measured[office.name].paced.append(_round(office, paced, PER_SECOND))
            measured[office.name].burst.append(_round(office, burst, None))
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps({name: row.as_json() for name, row in measured.items()}))
    return measured


def _round(office: BackOffice, orders: int, per_second: float | None) -> Figures:
    cell = Cell()
    office.measure(cell, orders, per_second)
    return cell.figures()


def table(measured: dict[str, Rounds], base_name: str = ON) -> str:
    """Return the medians, and the medians of the differences from the base in the same round."""
    heads = [f"{name:>10}" for name in _COLUMNS] * 2
    lines = ["off".ljust(30) + "".join(heads)]
    base = measured[base_name].columns()
    for name, own in measured.items():
        medians = [f"{_median(column):10.2f}" for column in own.columns()]
        changes = [
            f"{_change(column, of):+9.1f}%" for column, of in zip(own.columns(), base, strict=True)
        ]
        lines.append(name.ljust(30) + "".join(medians + changes))
    return "\n".join(lines)


def _median(values: Sequence[float]) -> float:
    return percentile(sorted(values), 50)


def _change(column: Sequence[float], base: Sequence[float]) -> float:
    """Return the median change in percent, without the rounds too short for the kernel's clock."""
    return _median([mine / its * 100 - 100 for mine, its in zip(column, base, strict=True) if its])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.switches")
    parser.add_argument("off", nargs="+", help="a switch, or several as `one,two`, to turn off")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
    offices: dict[str, dict[str, str]] = {ON: {}, AGAIN: {}}
    offices |= {off: {"TUNING_OFF": off} for off in options.off}
    parts = Parts(workers=WORKERS, worker_options=WORKER_OPTIONS, offices=offices)
    try:
        measured = measure(parts, options.rounds, options.output)
    finally:
        parts.close()
    print(table(measured), flush=True)


if __name__ == "__main__":
    main()
