"""Fixtures for every test, described in `tests/README.md`."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from celery import current_app
from django.test import TransactionTestCase
from django.utils import translation
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from pytest_django.fixtures import Settings
from pytest_django.plugin import DjangoDbBlocker

from backoffice.local.postgres import PostgresServer
from tests.harness.processes import ProcessFactory
from tests.harness.redis import TestRedis
from tests.harness.stack import Stack
from tests.harness.tables import keep_rows, put_back_rows

if TYPE_CHECKING:  # these import models, which are not ready when this file is loaded
    from exchanges.models import ExchangeAccount
    from tests.fakes import FakeExchange
    from tests.harness.scenario import Scenario
    from tests.harness.simulator import Simulator

# The same examples every time. A busy machine must not fail a test.
hypothesis_settings.register_profile(
    "suite", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("suite")

STACK = pytest.StashKey[Stack]()
FACTORIES = pytest.StashKey[list[ProcessFactory]]()

#: A test with one of these takes seconds to start its parts.
REAL_PARTS = frozenset({"processes", "browser"})

#: Short waits: a proof that takes production 20 s takes the scenarios 2.
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
    "RECONCILE_AT_START": 0,  # its queries would meet the faults of a story
}


def pytest_configure(config: pytest.Config) -> None:
    for name in [name for name in os.environ if name.startswith("EXCHANGE_DEMO_")]:
        del os.environ[
            name
        ]  # of a `make run` in this folder, read from its var/run.env by the settings
    os.environ["DJANGO_SETTINGS_MODULE"] = "backoffice.settings"  # for the processes we start
    config.stash[STACK] = stack = Stack()
    stack.point_django_here()


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts a stack of processes or a browser as long, except for the marked `core`."""
    scenarios = Path(__file__).with_name("scenarios")
    for item in items:
        is_real = scenarios in item.path.parents or not REAL_PARTS.isdisjoint(
            getattr(item, "fixturenames", ())
        )
        if is_real and item.get_closest_marker("core") is None:
            item.add_marker(pytest.mark.long)


def pytest_unconfigure(config: pytest.Config) -> None:
    if STACK in config.stash:
        config.stash[STACK].close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the logs of its processes to the report of a failed test."""
    report = yield
    if report.failed:
        for factory in item.stash.get(FACTORIES, []):
            report.sections += [(f"log of {name}", text) for name, text in factory.logs().items()]
    return report


@pytest.fixture(scope="session")
def stack(pytestconfig: pytest.Config) -> Stack:
    return pytestconfig.stash[STACK]


# -- Servers -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None, stack: Stack, django_db_blocker: DjangoDbBlocker
) -> None:
    """Start the server, which has the tables already, for the first test that needs a database.

    Let tests that commit put back what they changed, in place of Django's slow way.
    """
    stack.postgres.start()
    with django_db_blocker.unblock():
        keep_rows()
    setattr(TransactionTestCase, "_fixture_teardown", lambda _: put_back_rows())  # noqa: B010  typed as unknown


@pytest.fixture(scope="session")
def postgres(stack: Stack) -> PostgresServer:
    """Return the suite's PostgreSQL, started. A test that stops it must start it again."""
    stack.postgres.start()
    return stack.postgres


@pytest.fixture(scope="session")
def postgres_url(postgres: PostgresServer) -> str:
    return postgres.url()


@pytest.fixture(scope="session")
def durable_postgres(stack: Stack) -> Iterator[PostgresServer]:
    """Start a second PostgreSQL with fsync on, as in production, for durability tests."""
    server = PostgresServer(stack.directory / "durable", durable=True)
    server.start()
    yield server
    server.stop()


def forget_result_backend() -> None:
    """Let Celery connect again for results.

    Its consumer of results may still wait for a server that an earlier test has stopped. Then each
    message of this process takes six seconds.
    """
    from backoffice.celery import app

    app._backend_cache = None
    app._local.__dict__.pop("backend", None)


@pytest.fixture
def redis_server(stack: Stack) -> Iterator[TestRedis]:
    """Return the suite's Redis-compatible server, empty and running. A test may stop it."""
    stack.redis.start()
    stack.redis.flush()
    forget_result_backend()
    yield stack.redis
    stack.redis.start()
    stack.redis.flush()


@pytest.fixture(autouse=True)
def fresh_memory() -> None:
    """Forget what earlier tests' processes learned of an exchange, because ports are reused."""
    modules = (
        ("exchanges.binance.server_clock", "_clocks"),
        ("exchanges.limits.sizes", "_known"),
        ("exchanges.limits.budget", "_stops"),
        ("exchanges.limits.budget", "_known_counts"),
        ("exchanges.limits.book_memory", "_own"),
        ("exchanges.limits.book_memory", "_unshared"),
        ("exchanges.limits.counters", "_pending"),
        ("orders.accounts", "_accounts"),
        ("orders.placing.outcomes", "clock_refused_at"),
    )
    for module, name in modules:
        getattr(importlib.import_module(module), name).clear()
    # An order that was placed directly makes its process share the limits for good.
    importlib.import_module("exchanges.limits.redis").__dict__["_is_required"] = False
    translation.deactivate()  # a page leaves its reader's language in the thread
    # A second application that made itself the current one takes over every later message, and
    # each of them waits 19 s for the results of a server that isn't there.
    assert current_app.main == "backoffice"


@pytest.fixture(autouse=True)
def fresh_limits(stack: Stack) -> None:
    """Let no test inherit an open breaker or a used-up budget, which live in Redis."""
    if stack.redis.server.process is not None:
        stack.redis.flush()


@pytest.fixture(scope="session")
def redis_url(stack: Stack) -> str:
    stack.redis.start()
    return stack.redis.url


# -- Processes -----------------------------------------------------------------------------------


@pytest.fixture
def processes(
    request: pytest.FixtureRequest, transactional_db: None, redis_server: TestRedis, tmp_path: Path
) -> Iterator[ProcessFactory]:
    """Start real workers, beat and commands on this test's servers, and stop them in time."""
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


# -- The exchange and an account on it -----------------------------------------------------------


@pytest.fixture(scope="session")
def simulator_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    from tests.harness.simulator import Simulator

    simulator = Simulator(tmp_path_factory.mktemp("simulator"))
    simulator.start()
    yield simulator
    simulator.stop()


@pytest.fixture
def simulator(simulator_process: Simulator) -> Simulator:
    """Return a simulator in its initial state: frozen book, no orders, no faults."""
    if not simulator_process.child.is_alive:
        simulator_process.start()
    simulator_process.control.reset()
    return simulator_process


@pytest.fixture
def simulator_factory(tmp_path: Path) -> Iterator[Callable[..., Simulator]]:
    """Start more simulators with other options: `simulator_factory("--balances", "USDT=10")`."""
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
    """Return the account `demo` on the simulator, with its credentials in the environment."""
    from exchanges.models import Environment, ExchangeAccount

    for name, value in simulator.environment("demo").items():
        monkeypatch.setenv(name, value)
    return ExchangeAccount.objects.create(name="demo", environment=Environment.SIMULATOR)


@pytest.fixture
def demo(db: None) -> ExchangeAccount:
    """Return the account `demo` alone, for tests that need no simulator."""
    from exchanges.models import Environment, ExchangeAccount

    return ExchangeAccount.objects.create(name="demo", environment=Environment.SIMULATOR)


@pytest.fixture
def exchange(redis_server: TestRedis) -> Iterator[FakeExchange]:
    """Install an exchange in this process, with an empty Redis, so no limit is used up."""
    from tests.fakes import FakeExchange

    with FakeExchange().installed() as exchange:
        yield exchange


@pytest.fixture
def eager() -> Iterator[None]:
    """Run tasks at once in this process, like CELERY_TASK_ALWAYS_EAGER."""
    from backoffice.celery import app

    before = app.conf.task_always_eager
    app.conf.task_always_eager = True
    yield
    app.conf.task_always_eager = before


@pytest.fixture
def fast_timing(settings: Settings) -> None:
    """Set the short waits of the worker processes in this process, too."""
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
    """Return PostgreSQL, Redis, simulator and one worker, with short waits and without beat."""
    from tests.harness.scenario import Scenario

    return Scenario(
        account=account,
        simulator=simulator,
        postgres=stack.postgres,
        redis=redis_server,
        processes=processes,
        worker=processes.worker(),
    )


@pytest.fixture
def without_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let gateways send without checking the limits in Redis and the database."""
    from exchanges.limits import budget as limits
    from exchanges.limits import sizes

    monkeypatch.setattr(sizes, "budget_of", lambda account: limits.Budget())
    monkeypatch.setattr(limits, "acquire_permit", limits.Permit)
    monkeypatch.setattr(limits, "give_back", lambda permit: None)
    monkeypatch.setattr(limits, "record_response", lambda *_, **__: None)


# -- Browser -------------------------------------------------------------------------------------


def chromium() -> str | None:
    """Return the path of a Chromium or Chrome on this machine."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return os.environ.get("CHROMIUM") or next(
        (path for name in names if (path := shutil.which(name))), None
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start a headless Chromium, or skip the tests, which must be marked `browser`."""
    executable = chromium()
    if executable is None:
        pytest.skip("no Chromium found (install `chromium`, or name one in CHROMIUM)")
    with sync_playwright() as playwright, pytest.MonkeyPatch.context() as monkeypatch:
        # Playwright's loop runs in this thread until the end of the module. Django would refuse
        # its tests the database, and asyncio.run() doesn't work in such a module.
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
    """Open a new window with its own cookies. Any error in its console fails the test."""
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
