"""Which Celery tasks a process knows that is no worker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = """
import django, json, os
os.environ["DJANGO_SETTINGS_MODULE"] = "backoffice.settings"
django.setup()
from backoffice import celery_app
print(json.dumps(sorted(name for name in celery_app.tasks if name.startswith(("orders.", "exchanges.")))))
"""


def test_setup__registers_every_task_in_every_process() -> None:
    """A sweep that starts another app's task by name must find it in eager mode, too."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {
        "orders.submit_order",
        "orders.place_order",
        "orders.cancel_order",
        "orders.sync_open_orders",
        "orders.resolve_unconfirmed",
        "orders.reconcile_account",
        "exchanges.sync_instruments",
        "exchanges.sync_balances",
    } <= set(json.loads(done.stdout))
