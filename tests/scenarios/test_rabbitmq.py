"""RabbitMQ is the broker, with quorum queues: workers or the broker are killed under load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backoffice.queues import settings_of
from orders.models import Order
from tests.harness.other_broker import using
from tests.harness.processes import ProcessFactory
from tests.harness.rabbitmq import RabbitMQ, find_rabbitmq, has_quorum_queue
from tests.harness.redis import TestRedis
from tests.harness.simulator import Simulator
from tests.harness.waiting import wait_for
from tests.scenarios.waiting_messages import (
    Workers,
    check_nothing_is_lost,
    place_the_first,
    send_everything,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]


@pytest.fixture
def rabbit(tmp_path: Path, redis_server: TestRedis) -> Iterator[RabbitMQ]:
    program = find_rabbitmq()
    if program is None:
        pytest.skip("no RabbitMQ found (install `rabbitmq-server`)")
    server = RabbitMQ(program, tmp_path / "rabbit")
    try:
        server.start()
        options = {"broker_transport_options": {"confirm_publish": True}}  # as in settings.py
        with using(server.url, redis_server.url, **settings_of(server.url), **options):
            yield server
    finally:
        server.stop()


@pytest.mark.parametrize("pool", ["threads", "prefork"])
@pytest.mark.parametrize("victim", ["worker", "broker"])
def test_rabbitmq__loses_nothing_if_a_part_is_killed(
    market: Simulator,
    rabbit: RabbitMQ,
    workers: Workers,
    processes: ProcessFactory,
    pool: str,
    victim: str,
) -> None:
    workers(env={"CELERY_BROKER_URL": rabbit.url}, pool=pool)
    to_cancel = place_the_first()
    assert has_quorum_queue(rabbit.url, "trading")
    assert has_quorum_queue(rabbit.url, "cancel")
    sent = send_everything(to_cancel)
    wait_for(
        lambda: Order.objects.filter(intent_id__startswith="waiting").count() > 5,
        every=0.001,
        what="some orders are placed",
    )
    if victim == "worker":
        for child in processes.started:
            child.kill()
            child.start()
    else:
        rabbit.kill()
        rabbit.start()
    check_nothing_is_lost(market, sent, within=120)
