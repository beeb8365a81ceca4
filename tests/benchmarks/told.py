"""Run an orchestrator that only notes each message about a change: intent id and version."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery

from tests.benchmarks import STAMPS_FILE

TASK = "bot.order_changed"
QUEUE = "order-events"

app = Celery("told", broker=os.environ.get("REDIS_URL"), fixups=[])
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=16)


@app.task(name=TASK)  # type: ignore[untyped-decorator,unused-ignore]
def order_changed(order: dict[str, Any], fills: list[dict[str, Any]], version: int) -> None:
    started_at = time.time_ns()
    with Path(os.environ[STAMPS_FILE]).open("a", encoding="ascii") as file:
        file.write(f"{order['intent_id']} {version} {started_at}\n")
