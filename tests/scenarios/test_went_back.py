"""The database goes back in time under running workers, or only seems to: nothing is sent twice.

`tests/orders/test_book_identity.py` checks the same within one process. So `make test` plays three
of these stories, and `make test-long` the others.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from psycopg import errors, sql

from backoffice.local.postgres import PORT, SUPERUSER, binaries
from exchanges.models import ExchangeAccount
from orders.models import BookIdentity
from tests.harness.processes import ProcessFactory
from tests.harness.redis import TestRedis
from tests.harness.scenario import Scenario
from tests.harness.simulator import Simulator
from tests.harness.stack import Stack
from tests.harness.waiting import wait_for
from tests.scenarios.asserting import assert_book_equals_truth
from tests.scenarios.backups import disconnect_others, restore_backup, take_backup
from tests.scenarios.steps import (
    MARKET_BUY,
    POST_ORDER,
    place,
    placements,
    send_all,
    settle,
    statuses,
)

THREADS = ("--pool", "threads", "--concurrency", "4")
# Each task gets a child of its own, forked from a parent that started long before.
CHILDREN = ("--pool", "prefork", "--concurrency", "3", "--max-tasks-per-child", "1")
POOLS = pytest.mark.parametrize(
    "options",
    [
        pytest.param(THREADS, id="threads"),
        pytest.param(CHILDREN, id="prefork", marks=pytest.mark.long),
    ],
)
ALLOWED_LAG = {"EXCHANGE_READ_LAG_MS": "3000"}


@pytest.fixture
def pool(
    options: tuple[str, ...],
    stack: Stack,
    processes: ProcessFactory,
    redis_server: TestRedis,
    account: ExchangeAccount,
    simulator: Simulator,
    fast_timing: None,
) -> Iterator[Scenario]:
    """A market that fills, and one worker of this pool that has worked already."""
    simulator.control.unfreeze()
    worker = processes.worker("pool", options=options, env=ALLOWED_LAG)
    place("warm-up", MARKET_BUY)
    yield Scenario(
        account=account,
        simulator=simulator,
        postgres=stack.postgres,
        redis=redis_server,
        processes=processes,
        worker=worker,
    )
    worker.stop()


def histories_read(scenario: Scenario) -> int:
    return int(scenario.simulator.control.truth().requests.get("GET /api/v3/allOrders", 0))


def repeat(intents: list[str]) -> None:
    """Send every intent again, as bots do until they are answered, and let all orders settle."""
    for result in send_all(intents, MARKET_BUY).values():
        result.get(timeout=30)
    settle(timeout=40)


def assert_each_was_sent_once(scenario: Scenario, intents: list[str]) -> None:
    assert {statuses()[intent_id] for intent_id in intents} == {"FILLED"}
    assert placements(scenario) == len(intents) + 1
    assert_book_equals_truth(scenario, placed=len(intents) + 1)
    assert BookIdentity.objects.get().distrusted_at is not None


# -- Nothing went back ----------------------------------------------------------------------------


@POOLS
def test_submit__a_fresh_process_child_thread_or_connection_reads_nothing(
    pool: Scenario, processes: ProcessFactory
) -> None:
    read = histories_read(pool)

    assert place("a-thread-or-child-of-its-own", MARKET_BUY)["status"] == "FILLED"
    disconnect_others()
    connection.close()
    for result in send_all([f"renewed-{n}" for n in range(8)], MARKET_BUY).values():
        result.get(timeout=30)
    processes.worker("fresh", options=THREADS)
    for result in send_all([f"fresh-{n}" for n in range(8)], MARKET_BUY).values():
        result.get(timeout=30)

    assert set(statuses().values()) == {"FILLED"}
    assert histories_read(pool) == read
    assert BookIdentity.objects.get().distrusted_at is None


# -- The book went back ---------------------------------------------------------------------------


@POOLS
def test_submit__after_pg_restore_into_the_running_server_each_intent_is_sent_once(
    pool: Scenario, tmp_path: Path
) -> None:
    """No connection breaks: `pg_restore --clean` replaces the tables under them."""
    dump = tmp_path / "older.dump"
    run_program(pool, "pg_dump", "--format=custom", f"--file={dump}")
    intents = [f"i-{number}" for number in range(6)]
    repeat(intents)
    run_program(pool, "pg_restore", "--clean", "--if-exists", "--single-transaction", str(dump))

    repeat(intents)

    assert_each_was_sent_once(pool, intents)


@pytest.mark.long
@POOLS
def test_submit__a_lost_order_that_the_queries_still_hide_is_not_sent_again(
    pool: Scenario,
) -> None:
    """The exchange's queries lag behind its engine for almost as long as we allow."""
    backup = take_backup()
    hide: dict[str, Any] = {"match": POST_ORDER, "invisible_for": 2.8}
    pool.simulator.control.faults.add("none", **hide, times=3)
    intents = [f"i-{number}" for number in range(3)]
    for result in send_all(intents, MARKET_BUY).values():
        assert result.get(timeout=30)["status"] == "FILLED"
    restore_backup(backup, disconnect=False)

    repeat(intents)

    assert_each_was_sent_once(pool, intents)


@POOLS
def test_submit__after_a_failover_that_lost_the_last_commits_each_intent_is_sent_once(
    pool: Scenario,
) -> None:
    """A copy of the database takes its place under its name, as a replica does that lagged."""
    copy_database(pool, "lagging")
    intents = [f"i-{number}" for number in range(6)]
    repeat(intents)
    fail_over_to(pool, "lagging")

    repeat(intents)

    assert_each_was_sent_once(pool, intents)


@pytest.mark.long
@POOLS
def test_submit__after_redis_was_flushed_orders_wait_once_and_go(pool: Scenario) -> None:
    intents = [f"i-{number}" for number in range(3)]
    repeat(intents)
    pool.redis.flush()

    repeat([*intents, "new"])

    assert_each_was_sent_once(pool, [*intents, "new"])


@pytest.mark.long
@pytest.mark.parametrize("options", [THREADS], ids=["threads"])
def test_submit__with_the_database_and_redis_both_gone_the_exchange_remembers(
    scenario: Scenario, processes: ProcessFactory, options: tuple[str, ...]
) -> None:
    empty = take_backup()
    scenario.simulator.control.unfreeze()
    intents = [f"i-{number}" for number in range(4)]
    repeat(intents)
    restore_backup(empty, disconnect=False)
    scenario.redis.flush()

    repeat([*intents, "new"])

    assert {statuses()[intent_id] for intent_id in intents} == {"FILLED"}
    assert placements(scenario) == len(intents) + 1
    assert_book_equals_truth(scenario, placed=len(intents) + 1)


# -- How -----------------------------------------------------------------------------------------


def run_program(scenario: Scenario, name: str, *arguments: str) -> None:
    """Run one of PostgreSQL's own programs on this test's database."""
    folder = binaries()
    assert folder is not None
    postgres = scenario.postgres
    address = {
        "host": postgres.socket_folder,
        "port": PORT,
        "username": SUPERUSER,
        "dbname": connection.settings_dict["NAME"],
    }
    subprocess.run(
        [
            str(folder / "pginstall/bin" / name),
            *(f"--{option}={value}" for option, value in address.items()),
            *arguments,
        ],
        check=True,
        capture_output=True,
        text=True,
    )


def copy_database(scenario: Scenario, name: str) -> None:
    """Copy this test's database, which nobody may be connected to at that moment."""
    source = connection.settings_dict["NAME"]

    def is_copied() -> bool:
        disconnect_others()
        connection.close()
        try:
            administer(scenario, "CREATE DATABASE {} TEMPLATE {}", name, source)
        except errors.ObjectInUse:
            return False
        return True

    wait_for(is_copied, timeout=20, every=0.05, what="the database is copied")


def fail_over_to(scenario: Scenario, name: str) -> None:
    source = connection.settings_dict["NAME"]
    connection.close()
    administer(scenario, "DROP DATABASE {} WITH (FORCE)", source)
    administer(scenario, "ALTER DATABASE {} RENAME TO {}", name, source)


def administer(scenario: Scenario, statement: str, *names: str) -> None:
    with scenario.postgres.connect() as admin:
        admin.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
