"""`make bench`: measure for about ten minutes, print a table and write `var/bench.json`."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from backoffice.local.run import WORKER_OPTIONS, WORKERS
from tests.benchmarks import report
from tests.benchmarks.desk import Desk, measure_desk
from tests.benchmarks.figures import Figures, flush_milliseconds
from tests.benchmarks.floors import Steal, floors
from tests.benchmarks.live import live_text, measure_live
from tests.benchmarks.parts import Parts
from tests.benchmarks.placing import (
    Cells,
    StampCheck,
    check_stamps,
    measure_cancels,
    measure_placing,
)
from tests.benchmarks.simulator_speed import Speed, engine_speed, rest_speed
from tests.benchmarks.tracking import Tracking, measure_tracking
from tests.benchmarks.traffic import BareExchange
from tests.harness.simulator import API_KEY, API_SECRET

RESULT = Path("var/bench.json")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    add = parser.add_argument
    add(
        "--only",
        choices=("placing", "tracking", "simulator", "desk"),
        help="one part instead of all",
    )
    add("--scale", type=float, default=1.0, help="orders a round, as a share of the full number")
    add("--desk-orders", type=int, default=1_000_000, help="orders in the desk's book")
    add("--workers", type=int, default=WORKERS, help="worker processes for each database")
    add(
        "--worker-options",
        default=shlex.join(WORKER_OPTIONS),
        help="those of `make run` by default",
    )
    add("--output", type=Path, default=RESULT, help="where the figures go as JSON")
    return parser.parse_args()


def say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    options = read_arguments()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
    signal.signal(signal.SIGTERM, _interrupt)
    workers = f"{options.workers} x celery worker {options.worker_options}"
    cells: Cells = {}
    table: dict[tuple[str, str], Figures] = {}
    speeds: dict[str, Speed] = {}
    targets: list[report.Target] = []
    check: StampCheck | None = None
    flush_ms, steps, steal = 0.0, dict[str, float](), Steal()
    tracking: Tracking | None = None
    desk: Desk | None = None
    live: dict[str, Figures] = {}
    if options.only not in ("tracking", "desk"):
        say("starting the parts ...")
        parts = Parts(
            workers=options.workers,
            worker_options=shlex.split(options.worker_options),
            is_full=True,
        )
        try:
            flush_ms = flush_milliseconds(parts.directory)
            if options.only != "simulator":
                cells = measure_placing(parts, say, scale=options.scale)
                table = {key: cell.figures() for key, cell in cells.items()}
                with parts.postgres.connect("bench_1") as connection:
                    check = check_stamps(parts.offices[0], connection)
                cancels = measure_cancels(parts, say)
                gate_ms = parts.offices[0].gate_milliseconds()
                live = measure_live(parts.offices[0], say)
                targets += report.placing_targets(table, gate_ms, cancels)
                targets += report.live_targets(live)
                say("the floors ...")
                bare = BareExchange(parts.simulator.url, API_KEY, API_SECRET)
                with parts.postgres.connect("bench_1") as connection:
                    steps = floors(parts.simulator.url, bare, parts.redis.url, connection)
            if options.only != "placing":
                say("the simulator by itself ...")
                parts.stop_offices()
                speeds = {"engine": engine_speed(), "rest": rest_speed(parts.directory)}
                targets += report.simulator_targets(**speeds)
        finally:
            parts.close()
    if check is not None:
        # Printed at once, so that a later part that fails doesn't take these figures with it.
        say(f"\nMedian milliseconds of each part of an order's way\n{report.stage_text(cells)}")
        say(f"\n{report.table_text(table)}\n\n{report.notes(check, workers, flush_ms)}")
        say(f"\nBursts of orders while pages are open\n{live_text(live)}")
        lines = (f"  {name:<40} {ms:6.2f} ms" for name, ms in steps.items())
        say("\nFloors, p50, back to back\n" + "\n".join(lines))
    if options.only in (None, "tracking"):
        tracking = measure_tracking(say)
        targets += report.tracking_targets(tracking)
    if options.only in (None, "desk"):
        desk = measure_desk(say, options.desk_orders)
        targets += report.desk_targets(desk)
    say("\nTargets\n" + "\n".join(target.line() for target in targets))
    more: dict[str, object] = {"workers": workers, "flush_ms": round(flush_ms, 3)}
    more |= {"floors_ms": steps, "stages": report.stages_json(cells)}
    more["live"] = {name: figures.as_dict() for name, figures in live.items()}
    if tracking is not None:
        more["tracking"] = report.tracking_json(tracking)
    if desk is not None:
        more["desk"] = asdict(desk)
    return _conclude(
        options.output, steal.percent(), report.as_json(table, targets, speeds, check, **more)
    )


def _conclude(output: Path, stolen: float, result: dict[str, object]) -> int:
    """Write the figures, and return the exit status: 3 if they say nothing."""
    is_sound = stolen <= Steal.SOUND_PERCENT
    say(f"\nThe host took {stolen:.1f} % of this machine's time meanwhile.")
    if not is_sound:
        say(f"NOT SOUND: above {Steal.SOUND_PERCENT:.0f} % the figures say nothing. Run again.")
    result |= {"steal_percent": round(stolen, 2), "is_sound": is_sound}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=2) + "\n")
    say(f"\nWritten to {output}")
    return 0 if is_sound else 3


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
