"""Check the Celery tasks: their names, and how often beat enqueues them."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from pytest_django.fixtures import Settings

from backoffice import celery_app
from backoffice.beat import DueAtStart
from backoffice.durable_tasks import DurableTask, NotByThisQueue
from exchanges import clock
from exchanges.models import DutyRun

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = """
import django, json, os
os.environ["DJANGO_SETTINGS_MODULE"] = "backoffice.settings"
django.setup()
from backoffice import celery_app
apps = ("orders.", "exchanges.", "desk.", "people.")
ours = [name for name in celery_app.tasks if name.startswith(apps)]
print(json.dumps(sorted(ours)))
"""
# Bots and operators rely on these names, so renaming one is a breaking change.
PUBLIC = {
    "orders.submit_order",
    "orders.place_order",
    "orders.cancel_order",
    "orders.sync_open_orders",
    "orders.resolve_unconfirmed",
    "orders.reconcile_account",
    "exchanges.sync_instruments",
    "exchanges.sync_balances",
}
# Only beat and other tasks enqueue these. A rename strands the messages of a running
# installation, so it needs a line in CHANGELOG.md.
INTERNAL = {
    "orders.apply_halt_rules",
    "orders.read_history",
    "orders.reconcile_accounts",
    "orders.refresh_mids",
    "orders.refresh_mids_of",
    "orders.refresh_positions",
    "orders.refresh_positions_of",
    "orders.send_order_events",
    "orders.sweep_account",
    "orders.sync_accounts",
    "exchanges.sync_all_instruments",
    "people.anchor_journal",
    "exchanges.heartbeat",
    "exchanges.check_key",
    "exchanges.read_key",
    "desk.do_bulk",
    "desk.continue_bulk",
    "exchanges.read_keys",
    "orders.drive_cancels",
    "orders.ask_order",
    "exchanges.read_candles",
}
# Seconds between two runs, with the default settings.
BEAT = {
    "orders.resolve_unconfirmed": 2,
    "orders.send_order_events": 2,
    "orders.apply_halt_rules": 5,
    "orders.sync_accounts": 15,
    "orders.refresh_mids": 5,
    "orders.refresh_positions": 60,
    "orders.reconcile_accounts": 900,
    "exchanges.sync_all_instruments": 3600,
    "exchanges.read_keys": 3600,
    "desk.continue_bulk": 15,
    "people.anchor_journal": 60,
    "exchanges.heartbeat": 5,
}


@pytest.mark.long
def test_setup__registers_every_task_in_every_process() -> None:
    """A sweep that starts another app's task by name must find it in eager mode, too."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(json.loads(done.stdout)) == PUBLIC | INTERNAL


def test_beat__enqueues_each_duty_at_its_interval() -> None:
    scheduler = DueAtStart(celery_app, lazy=True)
    scheduler.setup_schedule()
    rows = [row for row in scheduler.schedule.values() if not row.task.startswith("celery.")]
    assert {row.task: row.schedule.run_every.total_seconds() for row in rows} == BEAT
    heartbeats = [row for row in rows if row.task == "exchanges.heartbeat"]
    assert {(row.args, row.options["queue"]) for row in heartbeats} == {
        ((name,), name) for name in ("trading", "cancel", "duties", "sync")
    }


@pytest.mark.parametrize("at_start", [True, False])
def test_beat__runs_each_duty_when_it_starts(settings: Settings, at_start: bool) -> None:
    """A beat that restarts every minute would never reach the hourly duty otherwise."""
    settings.RECONCILE_AT_START = at_start
    scheduler = DueAtStart(celery_app, lazy=True)
    scheduler.setup_schedule()
    waits = {name for name, row in scheduler.schedule.items() if not row.is_due().is_due}
    assert waits == (set() if at_start else {"reconcile-accounts"})


def test_beat__lets_no_message_expire() -> None:
    """A worker whose clock is ahead would discard every duty."""
    for name, entry in settings.CELERY_BEAT_SCHEDULE.items():
        seconds = entry["schedule"].run_every.total_seconds()
        options = {key: value for key, value in entry["options"].items() if key != "queue"}
        assert options == {"headers": {"repeated_every": seconds}}, name


@pytest.mark.parametrize("name", sorted(PUBLIC | INTERNAL))
def test_task__leaves_repeating_to_beat_and_its_queue(name: str) -> None:
    """A waiting retry would occupy a worker exactly while the exchange is away."""
    task = celery_app.tasks[name]
    assert isinstance(task, DurableTask)
    assert task.expires is None
    assert not hasattr(task, "autoretry_for")


QUEUES = {
    "orders.submit_order": "trading",
    "orders.place_order": "trading",
    "orders.cancel_order": "cancel",
    "orders.drive_cancels": "cancel",
    "exchanges.check_key": "cancel",
    "orders.resolve_unconfirmed": "duties",
    "orders.apply_halt_rules": "duties",
    "orders.send_order_events": "duties",
    "people.anchor_journal": "duties",
    "orders.sweep_account": "duties",
}


@pytest.mark.parametrize("name", sorted(PUBLIC | INTERNAL))
def test_task__goes_to_its_queue(name: str) -> None:
    route = celery_app.amqp.router.route({}, name)
    assert route["queue"].name == QUEUES.get(name, "sync")


def test_worker__without_a_choice_serves_every_queue() -> None:
    # As a new worker finds them: another test may have made the queue of a bot in this process.
    queues = celery_app.amqp.Queues(celery_app.conf.task_queues)
    assert set(queues.consume_from) == {"trading", "cancel", "duties", "sync"}


@pytest.mark.django_db
def test_duty__stamps_its_run_when_a_worker_has_done_it() -> None:
    task = celery_app.tasks["orders.reconcile_accounts"]
    task.push_request(called_directly=False, delivery_info={}, headers={"repeated_every": 900})
    try:
        task()
    finally:
        task.pop_request()
    (run,) = DutyRun.objects.all()
    assert (run.duty, run.account) == ("orders.reconcile_accounts", None)
    assert abs(clock.now() - run.ran_at) < timedelta(minutes=1)


@pytest.mark.django_db
def test_heartbeat__stamps_its_queue_and_touches_the_file(
    settings: Settings, tmp_path: Path
) -> None:
    settings.HEARTBEAT_FILE = str(tmp_path / "heartbeat")
    celery_app.tasks["exchanges.heartbeat"]("trading")
    assert DutyRun.objects.get().duty == "consume trading"
    assert (tmp_path / "heartbeat").exists()


@pytest.mark.django_db
@pytest.mark.parametrize("queue", ["trading", "cancel", "duties", "sync"])
def test_heartbeat__runs_in_the_queue_that_beat_puts_it_into(queue: str) -> None:
    """Bots may push to two of these queues, and start no other duty there."""
    run_as_worker("exchanges.heartbeat", queue, queue=queue)
    assert DutyRun.objects.get().duty == f"consume {queue}"


@pytest.mark.django_db
def test_heartbeat__of_another_queue_is_refused_where_bots_may_push() -> None:
    with pytest.raises(NotByThisQueue):
        run_as_worker("exchanges.heartbeat", "duties", queue="trading")
    assert not DutyRun.objects.exists()


def run_as_worker(name: str, *args: str, queue: str) -> None:
    """Run the task like a worker that took its message from the queue."""
    task = celery_app.tasks[name]
    task.push_request(called_directly=False, delivery_info={"routing_key": queue}, headers={})
    try:
        task(*args)
    finally:
        task.pop_request()


@pytest.mark.django_db
def test_migration__removes_the_editable_schedule_and_its_permissions() -> None:
    step = import_module("exchanges.migrations.0019_schedule_is_code")
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE django_celery_beat_periodictask (id int)")
        kind = ContentType.objects.create(app_label="django_celery_beat", model="periodictask")
        permission = Permission.objects.create(content_type=kind, codename="add_periodictask")
        group = Group.objects.create(name="Planners")
        group.permissions.add(permission)
        cursor.execute(step.DROP)
        step.forget_models(apps, None)
    assert "django_celery_beat_periodictask" not in connection.introspection.table_names()
    assert not group.permissions.exists()
    assert not ContentType.objects.filter(app_label="django_celery_beat").exists()
