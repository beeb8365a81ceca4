"""Run the simulation as the command does, in processes of its own, for the tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, slots=True)
class Run:
    """The output of the command, and its row for each seed."""

    output: str
    rows: list[dict[str, Any]]

    @property
    def problems(self) -> list[str]:
        return [f"seed {row['seed']}: {text}" for row in self.rows for text in row["problems"]]

    @property
    def marks(self) -> set[str]:
        return {mark for row in self.rows for mark in row["marks"]}


def play(*options: str, timeout: float) -> Run:
    """Run `manage.py simulate_faults` with these options."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONHASHSEED", "DJANGO_SETTINGS_MODULE", "DATABASE_URL")
    }
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "simulate_faults", "--json", *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    lines = done.stdout.splitlines()
    rows = [json.loads(line) for line in lines if line.startswith("{")]
    return Run(done.stdout + done.stderr, rows)
