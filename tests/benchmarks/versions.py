"""Compare versions of the code: `python -m tests.benchmarks.versions old=../old new=. again=.`.

Each version runs a back office with its own workers, database, broker database and account, on the
same servers. They take turns in a new order in each round. The table shows medians, and the
differences from the first version in the same round. Name one version twice to see the noise.
`new=.@8` gives each worker 8 threads, `new=.+collector,interval` tries settings of `worker.TRIED`.
"""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path

from backoffice.local.run import WORKER_OPTIONS, WORKERS
from tests.benchmarks.parts import THREADS, Parts
from tests.benchmarks.switches import BURST, PACED, measure, table

TRIED = "BENCH_TRIED"
RESULT = Path("var/bench-versions.json")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.versions")
    parser.add_argument("versions", nargs="+", help="name=folder of its code[@threads][+tried]")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--paced", type=int, default=PACED, help="orders at 10 a second in a round")
    parser.add_argument("--burst", type=int, default=BURST, help="orders at once in a round")
    parser.add_argument("--worker-options", default=shlex.join(WORKER_OPTIONS))
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
    offices: dict[str, dict[str, str]] = {}
    roots: dict[str, Path] = {}
    for version in options.versions:
        name, _, place = version.partition("=")
        place, _, tried = place.partition("+")
        folder, _, threads = place.partition("@")
        roots[name] = Path(folder).resolve()
        offices[name] = ({THREADS: threads} if threads else {}) | ({TRIED: tried} if tried else {})
    parts = Parts(
        workers=WORKERS,
        worker_options=shlex.split(options.worker_options),
        offices=offices,
        roots=roots,
    )
    try:
        measured = measure(
            parts, options.rounds, options.output, paced=options.paced, burst=options.burst
        )
    finally:
        parts.close()
    print(table(measured, next(iter(roots))), flush=True)


if __name__ == "__main__":
    main()
