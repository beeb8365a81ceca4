"""The Celery app of the measured workers: the back office's own, with a stamp where a commit has returned.

`celery -A tests.benchmarks.worker worker …` appends a line for each order to the file that the environment names:
intent id, when the task began, when its last commit had returned (as `time.time_ns()` has it), the order's status. The
last commit of a submission is the one that records the exchange's answer, and it returns when the database holds it on
disk.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from celery import signals
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from backoffice.celery import app
from tests.benchmarks import STAMPS_FILE, SUBMIT_TASK

__all__ = ["app"]


class _OfThread(threading.local):
    started_at: int = 0
    committed_at: int = 0


_of_thread = _OfThread()


def _stamp_commit(commit: Callable[[BaseDatabaseWrapper], None]) -> Callable[[BaseDatabaseWrapper], None]:
    def stamped(connection: BaseDatabaseWrapper) -> None:
        commit(connection)
        _of_thread.committed_at = time.time_ns()

    return stamped


BaseDatabaseWrapper._commit = _stamp_commit(BaseDatabaseWrapper._commit)  # type: ignore[attr-defined]


def _stamp_statement(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """A write outside a transaction commits by itself."""
    result = execute(sql, params, many, context)
    if not context["connection"].in_atomic_block and not sql.startswith("SELECT"):
        _of_thread.committed_at = time.time_ns()
    return result


def _watch(connection: BaseDatabaseWrapper, **_: Any) -> None:
    if _stamp_statement not in connection.execute_wrappers:
        connection.execute_wrappers.append(_stamp_statement)


connection_created.connect(_watch)


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
