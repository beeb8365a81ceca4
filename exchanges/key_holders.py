"""Ask the processes that hold an account's key. The web process needs none.

A stolen web process can then do what its people may do, and no more: it can't sign a request.
"""

from __future__ import annotations

import os
from typing import Any

import structlog
from celery import current_app, current_task

from exchanges.binance.registry import is_installed
from exchanges.credentials import Account, variable
from exchanges.errors import NotSent

PATIENCE_SECONDS = 15.0

log = structlog.get_logger(__name__)


def must_ask(account: Account) -> bool:
    """Return whether this process lacks the account's key, and may wait for one that has it.

    A task never waits for another one: all workers could be waiting then.
    """
    has_key = is_installed() or os.environ.get(variable(account, "API_KEY"), "").strip()
    return not has_key and not current_task


def ask_a_worker(task: str, *args: Any, patience: float = PATIENCE_SECONDS) -> Any:
    """Run a task where the keys are, and return its result.

    Raise `NotSent` if no worker has answered in time. It may still do the work later.
    """
    try:
        sent = current_app.tasks[task].apply_async(args, ignore_result=False, retry=False)
        return sent.get(timeout=patience)
    except Exception as error:  # noqa: BLE001  of the broker, the result store or the task
        log.warning("no_answer_of_a_worker", task=task, error=type(error).__name__)
        raise NotSent(
            "this process has no key for the account, and no worker answered in time",
            retry_after=None,
        ) from None
