"""Simulate faults: run stories of many seeds, and say which broke a promise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    """Run seeds one after the other, in as many processes as wanted."""

    help = "Run the back office through seeded stories of faults, and compare it with the exchange"
    requires_system_checks: list[str] = []  # noqa: RUF012

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--seeds", type=int, default=1, help="how many seeds to run")
        parser.add_argument("--seed", type=int, default=0, help="the first seed")
        parser.add_argument("--profile", default="", help="one kind of story instead of all")
        parser.add_argument("--minutes", type=float, help="run seeds for so long instead")
        parser.add_argument("--jobs", type=int, default=1, help="processes that share the seeds")
        parser.add_argument("--shrink", action="store_true", help="shorten the stories that fail")
        parser.add_argument("--trace", action="store_true", help="print every step of the run")
        parser.add_argument("--guard", default="", help="switch off this guard (see guard_list.py)")
        parser.add_argument("--guards", action="store_true", help="switch off each guard in turn")
        parser.add_argument("--json", action="store_true", help="print one line of JSON per seed")

    def handle(self, *args: Any, **options: Any) -> None:
        if os.environ.get("PYTHONHASHSEED") != "0":
            self._in_processes(options)
            return
        from tests.simulation.running import run_seeds

        for line in run_seeds(options):
            self.stdout.write(line)
            self.stdout.flush()

    def _in_processes(self, options: dict[str, Any]) -> None:
        """Share the seeds among processes in which a set of texts has the same order always."""
        began, jobs = time.monotonic(), 1 if options["guards"] else max(1, options["jobs"])
        # In a run by time, each process has a range of its own that it can't leave.
        share = 1_000_000 if options["minutes"] else -(-options["seeds"] // jobs)
        end = options["seed"] + (share * jobs if options["minutes"] else options["seeds"])
        children = [
            self._child(options, first, min(share, end - first))
            for first in range(options["seed"], end, share)
        ]
        marks, bad, count = Counter[str](), [], 0
        for child in children:
            for row in self._rows(child, as_json=options["json"]):
                count += 1
                marks.update(row["marks"])
                if row["problems"]:
                    bad.append(row["seed"])
        broken = [child for child in children if child.wait() != 0]
        for mark, number in sorted(marks.items()):
            self.stdout.write(f"{number:6d} {mark}")
        if broken and not bad:
            self.stdout.write(f"{len(broken)} of {len(children)} processes failed by themselves")
        seconds = time.monotonic() - began
        self.stdout.write(f"{count} seeds, {len(bad)} failed {sorted(bad)}, {seconds:.1f} s")
        if bad or broken:
            sys.exit(1)

    def _child(self, options: dict[str, Any], first: int, share: int) -> subprocess.Popen[str]:
        command = [sys.executable, sys.argv[0], "simulate_faults", f"--seed={first}"]
        command += [f"--seeds={share}", f"--profile={options['profile']}", "--json"]
        command += [f"--guard={options['guard']}"]
        command += [f"--{name}" for name in ("shrink", "trace", "guards") if options[name]]
        if options["minutes"]:
            command += [f"--minutes={options['minutes']}"]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    def _rows(self, child: subprocess.Popen[str], *, as_json: bool) -> Iterator[dict[str, Any]]:
        assert child.stdout is not None
        for line in child.stdout:
            self.stdout.flush()  # what came before, for whoever follows a long run
            if not line.startswith("{"):
                self.stdout.write(line.rstrip())
                continue
            row = json.loads(line)
            if "guard" in row:
                self.stdout.write(line.rstrip())
                continue
            if as_json:
                self.stdout.write(line.rstrip())
            yield row
