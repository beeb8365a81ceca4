"""Run a bot's Celery task, which writes down each message and when its work began."""

from __future__ import annotations

import json
import time
from typing import Any

from celery import current_app, shared_task

HEARD = "bot:heard"


@shared_task(name="bot.order_changed")
def order_changed(**message: Any) -> None:
    started_ns = time.time_ns()
    with current_app.connection_for_write() as broker:
        broker.default_channel.client.rpush(
            HEARD, json.dumps({"started_ns": started_ns, **message})
        )
