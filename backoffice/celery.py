"""The Celery application and its care for database connections.

Celery's own Django fix-up closes every database connection around every task, whatever CONN_MAX_AGE says; on
PostgreSQL that costs an order 5 ms. It is left out here: a connection stays open while it is healthy, a broken one is
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

from backoffice import broker

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")

# The `celery` program has its own folder on the path, and this one only while it imports this module (Celery's fix-up
# would keep it there). Not asked whether it is there already: that entry is about to be removed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

broker.use_for_redis()
app = Celery("backoffice", fixups=[])
app.set_default()


@signals.import_modules.connect(weak=False)
def set_up_django(**_: Any) -> None:
    """Models must be ready before the task modules are imported; this receiver is registered before theirs."""
    if not apps.ready:
        django.setup()


app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["orders", "exchanges"])


@signals.celeryd_init.connect(weak=False)
def switch_threads_sooner(**_: Any) -> None:
    """A thread that comes back from the database or the exchange must not wait 5 ms for one that computes."""
    sys.setswitchinterval(0.0005)


@signals.setup_logging.connect(weak=False)
def keep_our_logging(**_: Any) -> None:
    """A receiver here keeps Celery from replacing the handlers that settings.py has set up."""


@signals.worker_before_create_process.connect(weak=False)
def close_before_fork(**_: Any) -> None:
    connections.close_all()


@signals.worker_init.connect(weak=False)
def share_limits(**_: Any) -> None:
    """A worker spends from budgets that it shares; see `exchanges.limits`."""
    from exchanges.limits import share_strictly

    share_strictly()


@signals.worker_ready.connect(weak=False)
def reconcile_at_start(**_: Any) -> None:
    """Whatever happened while no worker ran is caught up with; several workers that start together do it once."""
    if settings.RECONCILE_AT_START:
        with suppress(Exception):  # a broker that went away at once: the beat asks again
            app.tasks["orders.reconcile_accounts"].apply_async(expires=60)


@signals.worker_ready.connect(weak=False)
@signals.worker_process_init.connect(weak=False)
def settle_down(**_: Any) -> None:
    """The first order need not wait for imports, nor later ones for the garbage collector."""
    from exchanges.collector import collect_seldom
    from exchanges.gateway import load_client_library

    load_client_library()
    collect_seldom()


@signals.task_prerun.connect(weak=False)
def drop_broken_connections(**_: Any) -> None:
    for connection in connections.all(initialized_only=True):
        if connection.errors_occurred:
            connection.close_if_unusable_or_obsolete()
