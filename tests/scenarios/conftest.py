"""Share one worker between the stories of a module.

A story that kills or pauses its worker takes `scenario` instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from exchanges.mirror.instruments import sync_instruments
from exchanges.models import ExchangeAccount
from tests.conftest import FACTORIES, FAST_TIMING
from tests.harness.processes import ChildProcess, ProcessFactory
from tests.harness.redis import TestRedis
from tests.harness.scenario import Scenario
from tests.harness.simulator import Simulator
from tests.harness.stack import Stack
from tests.scenarios.waiting_messages import Workers


@pytest.fixture(scope="module")
def lasting_processes(
    request: pytest.FixtureRequest,
    django_db_setup: None,
    stack: Stack,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ProcessFactory]:
    """Start processes that outlive a test and must survive its tables being emptied.

    A module's `WORKER_ENV` is added to their environment.
    """
    stack.redis.start()
    own = getattr(request.module, "WORKER_ENV", {})
    env: dict[str, Any] = {"REDIS_URL": stack.redis.url, "LOG_LEVEL": "INFO", **FAST_TIMING, **own}
    factory = ProcessFactory(
        tmp_path_factory.mktemp("lasting"), {name: str(value) for name, value in env.items()}
    )
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
    """Return the module's processes, on empty tables, an empty Redis and a fresh simulator."""
    request.node.stash.setdefault(FACTORIES, []).append(lasting_processes)
    return lasting_processes


def at_work(processes: ProcessFactory, name: str, *, queues: str = "") -> ChildProcess:
    """Return the module's worker of this name, started if it isn't running."""
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
    """Return a `scenario` with the module's worker."""
    if "colleague" not in request.fixturenames:
        leave(parts, "colleague")
    return Scenario(
        account=account,
        simulator=simulator,
        postgres=stack.postgres,
        redis=redis_server,
        processes=parts,
        worker=at_work(parts, "worker"),
    )


@pytest.fixture
def colleague(desk: Scenario) -> ChildProcess:
    """Return a second worker beside the desk's own."""
    return at_work(desk.processes, "colleague")


@pytest.fixture
def pair(
    stack: Stack,
    parts: ProcessFactory,
    redis_server: TestRedis,
    account: ExchangeAccount,
    simulator: Simulator,
) -> Scenario:
    """Return two workers. The other one sweeps while `worker`, which places, is dead or paused."""
    at_work(parts, "sweeper", queues="duties,sync")
    return Scenario(
        account=account,
        simulator=simulator,
        postgres=stack.postgres,
        redis=redis_server,
        processes=parts,
        worker=at_work(parts, "trader", queues="trading,cancel"),
    )


# -- messages wait while a part is away ------------------------------------------------------------


@pytest.fixture
def market(account: ExchangeAccount, simulator: Simulator, fast_timing: None) -> Simulator:
    control = simulator.control
    control.set_price("BTCUSDT", "60000")
    control.deposit("USDT", "1000000")
    control.limits(request_weight=1_000_000, orders_10s=100_000, orders_day=1_000_000)
    sync_instruments(account)
    return simulator


@pytest.fixture
def workers(market: Simulator, processes: ProcessFactory) -> Workers:
    """Start one worker for orders and one for the rest, as a deployment does."""

    def start(*, env: dict[str, str] | None = None, pool: str = "threads") -> None:
        options = ("--pool", pool, "--concurrency", "4")
        for name, queues in (("trader", "trading"), ("helper", "cancel,duties,sync")):
            processes.worker(name, queues=queues, options=options, env=env, wait=False)
        for child in processes.started:
            child.wait_until_ready()

    return start
