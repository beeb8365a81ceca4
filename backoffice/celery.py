"""Create the Celery application and look after its database connections.

Celery's own Django fix-up closes every database connection around every task and ignores
CONN_MAX_AGE. It is left out here: a connection stays open while it is healthy, a broken one is
dropped before the next task, and no connection crosses a fork.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import django
from celery import Celery, signals
from django.apps import apps
from django.conf import settings
from django.db import connections

from backoffice.broker import RESULT_BACKENDS, reconnect_after_demotion, use_own_channels
from backoffice.tuning import is_on

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")

# The `celery` program has its own folder on the path, and ours only while it imports this module
# (Celery's fix-up would keep it there). Insert it even if it is there already, because that entry
# is about to be removed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

reconnect_after_demotion()
use_own_channels()
app = Celery("backoffice", fixups=[], task_cls="backoffice.durable_tasks:DurableTask")
app.set_default()
app.loader.override_backends = RESULT_BACKENDS


@signals.import_modules.connect(weak=False)
def set_up_django(**_: Any) -> None:
    """Make the models ready before the task modules are imported.

    This receiver runs first, because it is registered before theirs.
    """
    if not apps.ready:
        django.setup()


app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["orders", "exchanges", "backoffice.desk", "backoffice.people"])


@signals.setup_logging.connect(weak=False)
def keep_our_logging(**_: Any) -> None:
    """Keep Celery from replacing the handlers of settings.py: one receiver is enough for that."""


@signals.worker_before_create_process.connect(weak=False)
def close_before_fork(**_: Any) -> None:
    """Close every connection, so that parent and child don't share one."""
    connections.close_all()


@signals.worker_init.connect(weak=False)
@signals.beat_init.connect(weak=False)
def refuse_to_start_dangerously(**_: Any) -> None:
    """End the process instead of trading on a live account with dangerous settings."""
    from exchanges.checks import refuse_danger

    refuse_danger()
    connections.close_all()


@signals.worker_init.connect(weak=False)
def share_limits(**_: Any) -> None:
    """Require Redis, so that no worker sends a request outside the shared limits."""
    from exchanges.limits.redis import require_redis

    require_redis()


@signals.worker_init.connect(weak=False)
def leave_threads_to_duties(sender: Any, **_: Any) -> None:
    """Keep readings from taking every thread of this worker."""
    from orders.reading_slots import slots

    slots.share(sender.concurrency)


@signals.worker_ready.connect(weak=False)
def reconcile_at_start(**_: Any) -> None:
    """Catch up with everything since the last worker stopped.

    If several workers start together, only one of them reconciles.
    """
    if settings.RECONCILE_AT_START:
        with suppress(Exception):  # the broker went away, and beat enqueues it again
            app.tasks["orders.reconcile_accounts"].apply_async()


@signals.worker_ready.connect(weak=False)
@signals.worker_process_init.connect(weak=False)
def import_early(**_: Any) -> None:
    """Import the client library now, so the first order doesn't wait for it."""
    from exchanges.binance.ccxt_clients import load_client_library

    if is_on("early_import"):
        load_client_library()


@signals.task_prerun.connect(weak=False)
def drop_broken_connections(**_: Any) -> None:
    """Drop a dead connection before the next task, and every connection if none is kept.

    After a mere restart of the database no thread's first message meets a dead connection.
    """
    if not is_on("kept_connections"):
        connections.close_all()
    for connection in connections.all(initialized_only=True):
        connection.close_if_stale()  # type: ignore[attr-defined]  # our backend's
