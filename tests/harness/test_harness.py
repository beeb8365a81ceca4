"""Check that the suite's servers and processes are real and do what their names say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.db import connection, connections
from playwright.sync_api import Page
from pytest_django.fixtures import Settings
from pytest_django.live_server_helper import LiveServer

from backoffice.local.postgres import PostgresServer
from exchanges.models import ExchangeAccount, TradingHalt
from tests.harness import migrated
from tests.harness.processes import ProcessFactory, database_url
from tests.harness.redis import TestRedis
from tests.harness.scenario import Scenario
from tests.harness.simulator import Simulator
from tests.harness.tables import put_back_rows
from tests.harness.waiting import wait_for


@pytest.mark.django_db
def test_database__is_the_one_the_settings_name() -> None:
    User.objects.create(username="kept")
    assert User.objects.get().username == "kept"
    assert connection.vendor == "postgresql"
    assert "test" in str(connection.settings_dict["NAME"])


@pytest.mark.django_db
def test_database__has_the_tables_of_every_migration() -> None:
    call_command("migrate", "--check", verbosity=0)  # exits with a status if one is missing
    assert connection.settings_dict["NAME"] == migrated.DATABASE


def test_kept_cluster__is_another_one_after_any_change_of_our_code(tmp_path: Path) -> None:
    counted = migrated.files()
    ours = {"exchanges/fields.py", "orders/ids.py", "orders/migrations/0001_initial.py"}
    assert ours <= {
        str(path.relative_to(migrated.ROOT))
        for path in counted
        if path.is_relative_to(migrated.ROOT)
    }
    assert any("django_otp_webauthn/migrations" in str(path) for path in counted)

    first, second = tmp_path / "0001_first.py", tmp_path / "0002_second.py"
    first.write_text("a")
    names = {migrated.hash_of([first])}
    second.write_text("")
    names.add(migrated.hash_of([first, second]))
    first.write_text("b")
    names |= {migrated.hash_of([first, second]), migrated.hash_of([first, second], "django 6.1")}
    first.rename(tmp_path / "0003_first.py")
    names.add(migrated.hash_of(tmp_path.iterdir()))
    assert len(names) == 5


@pytest.mark.django_db(transaction=True)
def test_postgres__restart_keeps_committed_rows(postgres: PostgresServer) -> None:
    User.objects.create(username="kept")
    pid = postgres.process.pid if postgres.process else 0

    connections.close_all()
    postgres.restart()

    assert postgres.process is not None
    assert postgres.process.pid != pid
    assert User.objects.get().username == "kept"


@pytest.mark.django_db(transaction=True)
def test_postgres__crash_keeps_committed_rows(postgres: PostgresServer) -> None:
    User.objects.create(username="kept")

    connections.close_all()
    postgres.crash()
    postgres.start()

    assert User.objects.get().username == "kept"


def test_redis__is_empty_after_flush_and_at_the_same_address_after_restart(
    redis_server: TestRedis,
) -> None:
    with redis_server.client() as client:
        client.set("key", "value")
        redis_server.flush()
        assert client.get("key") is None

    redis_server.stop()
    redis_server.start()

    with redis_server.client() as client:
        assert client.ping()


def test_worker__is_killed_paused_and_started_again(processes: ProcessFactory) -> None:
    worker = processes.worker(queues="trading")
    first_pid = worker.pid
    worker.kill()
    worker.start()
    assert worker.pid != first_pid

    worker.pause()
    wait_for(lambda: process_state(worker.pid) == "T", what="the worker is stopped")
    worker.resume()
    wait_for(lambda: process_state(worker.pid) != "T", what="the worker runs again")


def test_worker__that_is_paused_is_stopped_too(processes: ProcessFactory) -> None:
    worker = processes.worker()
    worker.pause()
    worker.stop()
    assert not Path(f"/proc/{worker.pid}").exists()


def test_worker__that_cannot_start_says_why(processes: ProcessFactory) -> None:
    with pytest.raises(RuntimeError, match="no-such-option"):
        processes.worker(options=["--no-such-option"])


def test_command__runs_on_the_database_of_the_test(processes: ProcessFactory) -> None:
    User.objects.create(username="seen-by-the-child")
    child = processes.command("dumpdata", "auth.user", ready="seen-by-the-child")
    assert child.env["DATABASE_URL"] == database_url()


def process_state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_simulator__has_several_accounts(simulator: Simulator) -> None:
    found = simulator.add_account("other-desk", {"USDT": "7"})
    assert found["EXCHANGE_OTHER_DESK_REST_URL"] == simulator.url
    assert found["EXCHANGE_OTHER_DESK_API_KEY"] != simulator.api_key
    simulator.control.revoke_key(found["EXCHANGE_OTHER_DESK_API_KEY"])
    assert set(simulator.control.truth().raw["accounts"]) == {"main", "other-desk"}


def test_simulator__starts_anew_for_each_test(simulator: Simulator) -> None:
    simulator.control.deposit("USDT", "10")
    with_deposit = simulator.control.truth().balances("main")["USDT"]
    simulator.control.reset()
    assert simulator.control.truth().balances("main")["USDT"] != with_deposit


def test_account__finds_its_exchange_in_the_environment(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    assert account.name == "demo"
    assert os.environ["EXCHANGE_DEMO_REST_URL"] == simulator.url
    assert os.environ["EXCHANGE_DEMO_WS_URL"].startswith("ws://")


def test_scenario__worker_has_short_waits_and_so_have_we(
    scenario: Scenario, settings: Settings
) -> None:
    assert scenario.worker.is_alive
    assert (
        int(scenario.worker.env["EXCHANGE_RECV_WINDOW_MS"])
        == settings.EXCHANGE_RECV_WINDOW_MS
        == 800
    )
    assert scenario.worker.env["EXCHANGE_DEMO_REST_URL"] == scenario.simulator.url


@pytest.mark.core
@pytest.mark.browser
def test_page__shows_the_login(live_server: LiveServer, page: Page) -> None:
    page.goto(f"{live_server.url}/admin/")
    assert page.locator("input[name=username]").is_visible()


@pytest.mark.django_db(transaction=True)
def test_put_back_rows__leaves_what_the_migrations_left() -> None:
    """After changes of every kind, all rows are as before, with the same keys."""
    before = _everything()
    user = User.objects.create_user("pat")
    user.groups.add(Group.objects.get(name="Viewer"))
    ExchangeAccount.objects.create(name="demo", environment="simulator")
    Group.objects.exclude(name="Viewer").delete()
    Permission.objects.filter(codename="add_user").update(name="Changed")
    TradingHalt.objects.update(is_halted=True, reason="a test")
    assert _everything() != before

    put_back_rows()

    assert _everything() == before
    assert TradingHalt.objects.get().is_halted is False


def _everything() -> dict[str, list[str]]:
    """Return every row of every table as text."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        found = {}
        for (table,) in cursor.fetchall():
            cursor.execute(f'SELECT t::text FROM "{table}" t')
            found[table] = sorted(row[0] for row in cursor.fetchall())
    return found
