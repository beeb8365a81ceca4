"""Check the kind of our queues for each kind of broker."""

from __future__ import annotations

import pytest

from backoffice.queues import QUEUES, settings_of


@pytest.mark.parametrize("url", ["amqp://one//", "amqps://one//", "pyamqp://one//"])
def test_settings_of__rabbitmq_gets_quorum_queues(url: str) -> None:
    settings = settings_of(url)
    kinds = {name: queue["queue_arguments"] for name, queue in settings["task_queues"].items()}
    assert kinds == {name: {"x-queue-type": "quorum"} for name in QUEUES}
    assert settings["task_create_missing_queue_type"] == "quorum"


@pytest.mark.parametrize("url", ["redis://one/0", "sentinel://one/0"])
def test_settings_of__redis_gets_plain_queues(url: str) -> None:
    settings = settings_of(url)
    assert settings["task_queues"] == {name: {} for name in QUEUES}
    assert settings["task_create_missing_queue_type"] == "classic"
