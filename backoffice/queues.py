"""Name the queues, and make them quorum queues if the broker is RabbitMQ."""

from __future__ import annotations

from typing import Any

# Nothing slow may delay a cancel or a duty, so these have queues of their own.
QUEUES = ("trading", "cancel", "duties", "sync")
_AMQP = ("amqp://", "amqps://", "pyamqp://")


def settings_of(broker_url: str) -> dict[str, Any]:
    """Return Celery's settings of the queues for this broker.

    A quorum queue keeps each message on several servers, and counts how often it was returned.
    """
    is_quorum = broker_url.startswith(_AMQP)
    own = {"queue_arguments": {"x-queue-type": "quorum"}} if is_quorum else {}
    return {
        "task_queues": {name: dict(own) for name in QUEUES},
        "task_create_missing_queue_type": "quorum" if is_quorum else "classic",
    }
