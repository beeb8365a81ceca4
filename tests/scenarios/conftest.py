"""The worker that the stories of one module share; a story that kills or pauses its worker takes `scenario` instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from exchanges.models import ExchangeAccount
from tests.conftest import FACTORIES, FAST_TIMING
from tests.harness.processes import ChildProcess, ProcessFactory
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
def parts(
    request: pytest.FixtureRequest,
    transactional_db: None,
    lasting_processes: ProcessFactory,
    account: ExchangeAccount,
    fast_timing: None,
) -> ProcessFactory:
    """The module's processes on this test's empty tables, empty Redis and fresh simulator."""
    request.node.stash.setdefault(FACTORIES, []).append(lasting_processes)
    return lasting_processes


def at_work(processes: ProcessFactory, name: str, *, queues: str = "") -> ChildProcess:
    """The module's worker of this name, started if need be."""
    for child in processes.started:
        if child.name == name:
            if not child.is_alive:
                child.start()
            child.resume()
            return child
    return processes.worker(name, queues=queues)


def leave(processes: ProcessFactory, name: str) -> None:
    for child in processes.started:
        if child.name == name and child.is_alive:
            child.stop()


@pytest.fixture
def desk(
    request: pytest.FixtureRequest,
    stack: Stack,
    parts: ProcessFactory,
    redis_server: TestRedis,
    account: ExchangeAccount,
    simulator: Simulator,
) -> Scenario:
    """As `scenario`, with the module's worker."""
    if "colleague" not in request.fixturenames:
        leave(parts, "colleague")
    return Scenario(
        account=account,
        simulator=simulator,
        postgres=stack.postgres if stack.owns_database else None,
        redis=redis_server,
        processes=parts,
        worker=at_work(parts, "worker"),
    )


@pytest.fixture
def colleague(desk: Scenario) -> ChildProcess:
    """A second worker beside the desk's own."""
    return at_work(desk.processes, "colleague")


@pytest.fixture
def pair(
    stack: Stack, parts: ProcessFactory, redis_server: TestRedis, account: ExchangeAccount, simulator: Simulator
) -> Scenario:
    """Two workers, one a queue: `worker` takes the orders, and while it is dead or paused another one sweeps."""
    at_work(parts, "sweeper", queues="sync")
    return Scenario(
        account=account,
        simulator=simulator,
        postgres=stack.postgres if stack.owns_database else None,
        redis=redis_server,
        processes=parts,
        worker=at_work(parts, "trader", queues="trading"),
    )
