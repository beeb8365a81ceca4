"""Fixtures for every test; `tests/README.md` says how to use them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils import translation
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from pytest_django.fixtures import Settings

from tests.harness.postgres import PostgresServer
from tests.harness.processes import ProcessFactory
from tests.harness.redis import TestRedis
from tests.harness.stack import Stack

if TYPE_CHECKING:  # these import models, which are not ready when this file is loaded
    from exchanges.models import ExchangeAccount
    from tests.harness.scenario import Scenario
    from tests.harness.simulator import Simulator

# The same examples every time; a busy machine is no reason to fail.
hypothesis_settings.register_profile(
    "suite", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("suite")

STACK = pytest.StashKey[Stack]()
FACTORIES = pytest.StashKey[list[ProcessFactory]]()

#: Short waits: what takes production 20 s to prove takes the scenarios 2.
FAST_TIMING: dict[str, float] = {
    "EXCHANGE_REQUEST_TIMEOUT_MS": 1500,
    "EXCHANGE_RECV_WINDOW_MS": 800,
    "EXCHANGE_ENGINE_TIMEOUT_MS": 500,
    "EXCHANGE_READ_LAG_MS": 500,
    "RESOLVE_INTERVAL_SECONDS": 0.3,
    "EXCHANGE_STREAM_LONGEST_PAUSE_SECONDS": 2,
    "SYNC_INTERVAL_SECONDS": 1,
    "SYNC_INTERVAL_STREAMING_SECONDS": 3,
    "PLACE_WITHIN_SECONDS": 20,
    "BREAKER_OPEN_SECONDS": 1,
    "RECONCILE_AT_START": 0,  # its questions would meet the faults of a story
}


def pytest_configure(config: pytest.Config) -> None:
    for name in [name for name in os.environ if name.startswith("EXCHANGE_DEMO_")]:
        del os.environ[name]  # of a `make run` in this folder, read from its var/run.env by the settings
    config.stash[STACK] = stack = Stack()
    stack.point_django_here()
    post_migrate.connect(put_back_migrated_rows)


def put_back_migrated_rows(sender: AppConfig, **_: object) -> None:
    """Emptying the tables after a transactional test takes the rows of the migrations too; Django then sends this."""
    if sender.label == "exchanges":
        from exchanges.models import TradingHalt

        TradingHalt.objects.get_or_create(id=TradingHalt.ROW)


def pytest_unconfigure(config: pytest.Config) -> None:
    if STACK in config.stash:
        config.stash[STACK].close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the logs of the processes it ran."""
    report = yield
    if report.failed:
        for factory in item.stash.get(FACTORIES, []):
            report.sections += [(f"log of {name}", text) for name, text in factory.logs().items()]
    return report


@pytest.fixture(scope="session")
def stack(pytestconfig: pytest.Config) -> Stack:
    return pytestconfig.stash[STACK]


# -- Servers -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None, stack: Stack) -> None:
    """The first test that needs a database starts the server."""
    if stack.owns_database:
        stack.postgres.start()


@pytest.fixture(scope="session")
def postgres(stack: Stack) -> PostgresServer:
    """The suite's PostgreSQL, started. A test that stops it must start it again."""
    if not stack.owns_database:
        pytest.skip("the suite runs on another database than its own PostgreSQL (DATABASE_URL)")
    stack.postgres.start()
    return stack.postgres


@pytest.fixture(scope="session")
def postgres_url(postgres: PostgresServer) -> str:
    return postgres.url()


@pytest.fixture(scope="session")
def durable_postgres(stack: Stack) -> Iterator[PostgresServer]:
    """A second PostgreSQL with fsync on, as in production: for durability and benchmarks."""
    server = PostgresServer(stack.directory / "durable", durable=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_server(stack: Stack) -> Iterator[TestRedis]:
    """The suite's Redis-compatible server, empty, running; a test may flush, stop and start it."""
    stack.redis.start()
    stack.redis.flush()
    yield stack.redis
    stack.redis.start()
    stack.redis.flush()


@pytest.fixture(autouse=True)
def fresh_memory() -> None:
    """What one test's process learned of its exchange must not be believed of the next one's, on a port used again."""
    modules = (
        ("exchanges.gateway", "_server_clocks"),
        ("exchanges.budgets", "_known"),
        ("exchanges.limits", "_stops"),
        ("exchanges.limits", "_known_counts"),
        ("exchanges.metrics", "_pending"),
        ("orders.accounts", "_accounts"),
        ("orders.services", "_clock_refused_at"),
    )
    for module, name in modules:
        if module in sys.modules:
            getattr(sys.modules[module], name).clear()
    translation.deactivate()  # a page leaves its reader's language to the thread


@pytest.fixture(autouse=True)
def fresh_limits(stack: Stack) -> None:
    """No test inherits another's open breaker or used-up budget: they live in Redis."""
    if stack.redis.server.process is not None:
        stack.redis.flush()


@pytest.fixture(scope="session")
def redis_url(stack: Stack) -> str:
    stack.redis.start()
    return stack.redis.url


# -- Processes -----------------------------------------------------------------------------------------------------


@pytest.fixture
def processes(
    request: pytest.FixtureRequest, transactional_db: None, redis_server: TestRedis, tmp_path: Path
) -> Iterator[ProcessFactory]:
    """Starts real workers, beat and commands on this test's database and Redis; stops them before the clean-up."""
    factory = ProcessFactory(
        tmp_path,
        {
            "REDIS_URL": redis_server.url,
            "LOG_LEVEL": "INFO",
            **{name: str(value) for name, value in FAST_TIMING.items()},
        },
    )
    request.node.stash.setdefault(FACTORIES, []).append(factory)
    yield factory
    factory.stop_all()


# -- The exchange and an account on it -----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def simulator_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    from tests.harness.simulator import Simulator

    simulator = Simulator(tmp_path_factory.mktemp("simulator"))
    simulator.start()
    yield simulator
    simulator.stop()


@pytest.fixture
def simulator(simulator_process: Simulator) -> Simulator:
    """A simulator with a frozen book, as if just started: no orders, no faults, the first balances."""
    if not simulator_process.child.is_alive:
        simulator_process.start()
    simulator_process.control.reset()
    return simulator_process


@pytest.fixture
def simulator_factory(tmp_path: Path) -> Iterator[Callable[..., Simulator]]:
    """Starts further simulators with options of their own: `simulator_factory("--balances", "USDT=10")`."""
    from tests.harness.simulator import Simulator

    started: list[Simulator] = []

    def start(*options: str) -> Simulator:
        simulator = Simulator(tmp_path, options=options, name=f"simulator-{len(started)}")
        started.append(simulator)
        simulator.start()
        return simulator

    yield start
    for simulator in started:
        simulator.stop()


@pytest.fixture
def account(db: None, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> ExchangeAccount:
    """The account `demo` on the simulator; its credentials and addresses are in the environment, for children too."""
    from exchanges.models import Environment, ExchangeAccount

    for name, value in simulator.environment("demo").items():
        monkeypatch.setenv(name, value)
    return ExchangeAccount.objects.create(name="demo", environment=Environment.SIMULATOR)


@pytest.fixture
def fast_timing(settings: Settings) -> None:
    """The short waits of the worker processes, in this process as well."""
    for name, value in FAST_TIMING.items():
        setattr(settings, name, value)


@pytest.fixture
def scenario(
    request: pytest.FixtureRequest,
    stack: Stack,
    processes: ProcessFactory,
    redis_server: TestRedis,
    account: ExchangeAccount,
    simulator: Simulator,
    fast_timing: None,
) -> Scenario:
    """PostgreSQL + Redis + simulator + one worker for all queues, with short waits. Beat is the test's own choice."""
    from tests.harness.scenario import Scenario

    return Scenario(
        account=account,
        simulator=simulator,
        postgres=stack.postgres if stack.owns_database else None,
        redis=redis_server,
        processes=processes,
        worker=processes.worker(),
    )


@pytest.fixture
def without_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gateways that ask neither Redis nor the database whether a request may leave."""
    from exchanges import budgets, limits

    monkeypatch.setattr(budgets, "budget_of", lambda account: limits.Budget())
    monkeypatch.setattr(limits, "admit", lambda passage, budget: False)
    monkeypatch.setattr(limits, "note", lambda *_, **__: None)


# -- Browser -------------------------------------------------------------------------------------------------------


def chromium() -> str | None:
    """Path of a Chromium or Chrome on this machine."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return os.environ.get("CHROMIUM") or next((path for name in names if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium; tests that use it are marked `browser` and are skipped where there is none."""
    executable = chromium()
    if executable is None:
        pytest.skip("no Chromium found (install `chromium`, or name one in CHROMIUM)")
    with sync_playwright() as playwright, pytest.MonkeyPatch.context() as monkeypatch:
        # Playwright's loop runs in this thread until the end of the module: Django would refuse its tests the database
        # (and asyncio.run() does not work in such a module).
        monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        browser = playwright.chromium.launch(
            executable_path=executable,
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
            timeout=90_000,
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A new window with its own cookies; any error in its console fails the test."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-GB")
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if is_error(message) else None)
    yield page
    context.close()
    assert not errors, f"errors in the browser: {errors}"


def is_error(message: ConsoleMessage) -> bool:
    return message.type == "error" and not message.location["url"].endswith("/favicon.ico")
