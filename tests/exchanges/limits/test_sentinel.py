"""Check that the shared limits follow a failover, with real sentinels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django.fixtures import Settings
from redis.exceptions import RedisError

from exchanges.limits import redis as shared
from tests.harness.sentinel import WatchedRedis
from tests.harness.waiting import wait_for


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[WatchedRedis]:
    made = WatchedRedis(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.mark.long
def test_client__follows_the_sentinels_to_the_new_primary(
    watched: WatchedRedis, settings: Settings
) -> None:
    settings.REDIS_URL = watched.url
    assert shared.client().set("before", "1")
    shared.client().wait(1, 2000)  # until the replica has it
    killed = watched.kill_primary()
    wait_for(_can_write, what="the limits can be written again")
    assert shared.client().get("before") == "1"
    assert watched.primary_port() != killed


def _can_write() -> bool:
    try:
        return bool(shared.client().set("after", "1"))
    except RedisError:
        return False
