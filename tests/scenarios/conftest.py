"""The worker that the stories of one module share; a story that kills or pauses its worker takes `scenario` instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from exchanges.models import ExchangeAccount
from tests.conftest import FACTORIES, FAST_TIMING
from tests.harness.processes import ProcessFactory
from tests.harness.redis import TestRedis
from tests.harness.scenario import Scenario
from tests.harness.simulator import Simulator
from tests.harness.stack import Stack


@pytest.fixture(scope="module")
def lasting_processes(
    request: pytest.FixtureRequest, django_db_setup: None, stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProcessFactory]:
    """Processes that outlive a test: they find its tables emptied under them, which they must stand.

    A module's `WORKER_ENV` is added to their environment.
    """
    stack.redis.start()
    own = getattr(request.module, "WORKER_ENV", {})
    env: dict[str, Any] = {"REDIS_URL": stack.redis.url, "LOG_LEVEL": "INFO", **FAST_TIMING, **own}
    factory = ProcessFactory(tmp_path_factory.mktemp("lasting"), {name: str(value) for name, value in env.items()})
    yield factory
    factory.stop_all()


@pytest.fixture
def desk(
    request: pytest.FixtureRequest,
    stack: Stack,
    transactional_db: None,
    lasting_processes: ProcessFactory,
    redis_server: TestRedis,
    account: ExchangeAccount,
    simulator: Simulator,
    fast_timing: None,
) -> Scenario:
    """As `scenario`, with the module's worker."""
    request.node.stash.setdefault(FACTORIES, []).append(lasting_processes)
    started = lasting_processes.started
    if not started:
        lasting_processes.worker()
    elif not started[0].is_alive:
        started[0].start()
    return Scenario(
        account=account,
        simulator=simulator,
        postgres=stack.postgres if stack.owns_database else None,
        redis=redis_server,
        processes=lasting_processes,
        worker=started[0],
    )
