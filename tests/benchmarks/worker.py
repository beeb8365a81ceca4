"""Run the back office's workers with a stamp for each committed answer.

`celery -A tests.benchmarks.worker worker …` appends a line for each order to the file that the
environment names: intent id, when the task began, when the exchange's answer was recorded (both
`time.time_ns()`), the order's status. `apply_report` returns when the answer is on disk.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from typing import Any

from celery import signals
from celery.exceptions import Ignore

from backoffice.celery import app
from tests.benchmarks import STAMPS_FILE, SUBMIT_TASK

__all__ = ["app"]


#: Environment variable: settings of the interpreter to try, to see whether they gain anything.
TRIED = "BENCH_TRIED"


@signals.worker_ready.connect(weak=False)
def _try_settings(**_: Any) -> None:
    tried = os.environ.get(TRIED, "").split(",")
    if "collector" in tried:
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
    if "interval" in tried:
        sys.setswitchinterval(0.0005)


class _OfThread(threading.local):
    started_at: int = 0
    committed_at: int = 0


_of_thread = _OfThread()


@signals.worker_init.connect(weak=False)
def _stamp_answers(**_: Any) -> None:
    from orders.placing import send

    names = vars(send)  # mypy does not let other modules use a name that `send` has imported
    record = names["apply_report"]

    def stamped(*args: Any, **kwargs: Any) -> Any:
        order = record(*args, **kwargs)
        _of_thread.committed_at = time.time_ns()
        return order

    names["apply_report"] = stamped


@signals.task_prerun.connect(weak=False)
def _note_start(**_: Any) -> None:
    _of_thread.started_at, _of_thread.committed_at = time.time_ns(), 0


@signals.task_postrun.connect(weak=False)
def _write_stamps(task: Any, kwargs: dict[str, Any], retval: Any, **_: Any) -> None:
    if task.name != SUBMIT_TASK or isinstance(retval, Ignore):  # handed over to another queue
        return
    status = retval["status"] if isinstance(retval, dict) else type(retval).__name__
    line = f"{kwargs['intent_id']} {_of_thread.started_at} {_of_thread.committed_at} {status}\n"
    os.write(
        _file(), line.encode()
    )  # One write at the end of the file, so lines of several workers don't mix.


_opened: dict[int, int] = {}


def _file() -> int:
    """Open the file once per process, because a forked child needs its own."""
    pid = os.getpid()
    if pid not in _opened:
        _opened[pid] = os.open(
            os.environ[STAMPS_FILE], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
        )
    return _opened[pid]
