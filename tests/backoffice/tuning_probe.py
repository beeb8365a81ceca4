"""Report how a worker is tuned, by a task: `celery -A backoffice worker -I <this module>`."""

from __future__ import annotations

import sys
from typing import Any

from celery import shared_task
from django.db import connection
from kombu.transport import get_transport_cls


@shared_task(name="tests.report_tuning")
def report_tuning() -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (backend,) = cursor.fetchone()
    transport: Any = get_transport_cls("redis")
    return {
        "transport": f"{transport.__module__}.{transport.__qualname__}",
        "client_library_loaded": "ccxt" in sys.modules,
        "database_backend": backend,
    }
