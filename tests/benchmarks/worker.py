"""The Celery app of the measured workers: the back office's own, with a stamp where the answer has been committed.

`celery -A tests.benchmarks.worker worker …` appends a line for each order to the file that the environment names:
intent id, when the task began, when the exchange's answer was recorded (as `time.time_ns()` has it), the order's
status. `apply_report` returns when the database holds the answer on disk.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from celery import signals

from backoffice.celery import app
from tests.benchmarks import STAMPS_FILE, SUBMIT_TASK

__all__ = ["app"]


class _OfThread(threading.local):
    started_at: int = 0
    committed_at: int = 0


_of_thread = _OfThread()


@signals.worker_init.connect(weak=False)
def _stamp_answers(**_: Any) -> None:
    from orders import services

    record = services.apply_report

    def stamped(*args: Any, **kwargs: Any) -> Any:
        order = record(*args, **kwargs)
        _of_thread.committed_at = time.time_ns()
        return order

    services.apply_report = stamped


@signals.task_prerun.connect(weak=False)
def _note_start(**_: Any) -> None:
    _of_thread.started_at, _of_thread.committed_at = time.time_ns(), 0


@signals.task_postrun.connect(weak=False)
def _write_stamps(task: Any, kwargs: dict[str, Any], retval: Any, **_: Any) -> None:
    if task.name != SUBMIT_TASK:
        return
    status = retval["status"] if isinstance(retval, dict) else type(retval).__name__
    line = f"{kwargs['intent_id']} {_of_thread.started_at} {_of_thread.committed_at} {status}\n"
    os.write(_file(), line.encode())  # one write at the end of the file: lines of several workers do not mix


_opened: dict[int, int] = {}


def _file() -> int:
    """Opened once a process: a forked child opens its own."""
    pid = os.getpid()
    if pid not in _opened:
        _opened[pid] = os.open(os.environ[STAMPS_FILE], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return _opened[pid]
