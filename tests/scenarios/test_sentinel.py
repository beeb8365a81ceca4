"""Redis fails over under load, and the broker, the limits and the results move with it.

A Redis replica lacks the last writes, so messages may be lost. A bot repeats what has no answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery.exceptions import TimeoutError as ResultTimeout
from kombu.exceptions import OperationalError

from orders.models import Order
from tests.conftest import forget_result_backend
from tests.harness.other_broker import using
from tests.harness.sentinel import WatchedRedis
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
def watched(tmp_path: Path, redis_server: object) -> Iterator[WatchedRedis]:
    made = WatchedRedis(tmp_path / "redis")
    try:
        made.start()
        with using(made.url, made.url):
            yield made
    finally:
        made.stop()


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_failover__of_redis_under_load_loses_nothing(
    market: Simulator, watched: WatchedRedis, workers: Workers, pool: str
) -> None:
    workers(env={"REDIS_URL": watched.url}, pool=pool)
    to_cancel = place_the_first()
    send_everything(to_cancel)
    wait_for(
        lambda: Order.objects.filter(intent_id__startswith="waiting").count() > 5,
        every=0.001,
        what="some orders are placed",
    )
    killed = watched.kill_primary()
    wait_for(lambda: watched.primary_port() != killed, what="the replica is the primary")
    repeat_until_answered(to_cancel)
    check_nothing_is_lost(market, [], within=120)


def repeat_until_answered(to_cancel: list[str]) -> None:
    """Act as a bot that starts again: it sends all messages again until each has an answer."""

    def all_are_answered() -> bool:
        forget_result_backend()
        try:
            for result in send_everything(to_cancel):
                result.get(timeout=10)
        except (OperationalError, ResultTimeout):
            return False
        return True

    wait_for(all_are_answered, timeout=90, what="each message has an answer")
