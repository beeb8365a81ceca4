"""The broker dies while every thread of a worker holds a message: the worker goes on with the next.

The broker of these stories keeps its data, as in production.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from backoffice.local import embedded
from orders.models import Order
from tests.conftest import forget_result_backend
from tests.harness.other_broker import using
from tests.harness.processes import ProcessFactory
from tests.harness.simulator import Simulator
from tests.harness.waiting import wait_for
from tests.scenarios.steps import POST_ORDER, place, send

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]

THREADS = 4
ANSWER_SECONDS = 3
PATIENT_CLIENT = {"EXCHANGE_REQUEST_TIMEOUT_MS": "10000", "EXCHANGE_RECV_WINDOW_MS": "5000"}


@pytest.fixture
def broker(tmp_path: Path, redis_server: object) -> Iterator[embedded.RedisServer]:
    server = embedded.RedisServer(tmp_path / "broker", port=embedded.free_port(), keep_data=True)
    server.start()
    try:
        with using(server.url, server.url):
            yield server
    finally:
        server.stop()


def kill(broker: embedded.RedisServer) -> None:
    """Kill the server, and start it again once each message is done and has no acknowledgment."""
    assert broker.process is not None
    embedded.stop(broker.process, signal_number=9)
    placed = Order.objects.filter(intent_id__startswith="held", status="NEW")
    wait_for(lambda: placed.count() == THREADS, what="the exchange has answered")
    broker.start()


def cut(broker: embedded.RedisServer) -> None:
    """Cut all connections. The server stays."""
    with redis.Redis.from_url(broker.url) as client:
        client.client_kill_filter(_type="normal", skipme=True)


@pytest.mark.parametrize("death", [kill, cut])
@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_worker__takes_more_messages_after_its_broker_died(
    market: Simulator,
    broker: embedded.RedisServer,
    processes: ProcessFactory,
    pool: str,
    death: Callable[[embedded.RedisServer], None],
) -> None:
    # A worker's own heartbeat would wait for the broker, and the acknowledgments after it.
    options = ("--pool", pool, "--concurrency", str(THREADS), "--without-heartbeat")
    env = {**PATIENT_CLIENT, "REDIS_URL": broker.url}
    processes.worker(options=options, env=env)
    assert place("before")["status"] == "NEW"
    late = market.control.faults.add(
        "delay_answer", match=POST_ORDER, times=THREADS, seconds=ANSWER_SECONDS
    )
    for number in range(THREADS):
        send(f"held-{number}")
    wait_for(lambda: market.control.faults.hits(late) == THREADS, what="every thread is busy")
    death(broker)
    forget_result_backend()
    for number in range(THREADS + 1):
        # The first ones may wait for the sweep, because their worker left Redis alone for a moment.
        assert send(f"after-{number}").get(timeout=30)["status"] in ("NEW", "CREATED")
