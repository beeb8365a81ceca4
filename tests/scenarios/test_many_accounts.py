"""Many accounts share one address, and a bad one stops only itself. Prints the figures it asserts.

The processes are those of `make run`: two workers for orders, one for the rest, beat, the listener
and the web server, with the intervals of production where a figure depends on them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import requests
from celery.result import AsyncResult
from django.db import connection

from backoffice.celery import app
from backoffice.local import embedded
from backoffice.local.embedded import free_port
from backoffice.local.run import OTHER_WORKER_OPTIONS, WORKER_OPTIONS
from exchanges import clock
from exchanges.limits.breaker import PREFIX
from exchanges.mirror.instruments import sync_instruments
from exchanges.models import AccountSync, Environment, ExchangeAccount, StreamState
from orders.ids import client_order_id, hash_for
from orders.models import AttemptOutcome, ExchangeOrder, Order
from orders.tasks import RECONCILE_SECONDS
from tests.conftest import FAST_TIMING
from tests.harness.processes import ProcessFactory
from tests.harness.redis import TestRedis
from tests.harness.simulator import Simulator
from tests.harness.waiting import wait_for
from tests.scenarios.steps import LIMIT_BUY, send, send_cancel

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]

WEIGHT_A_MINUTE = 3000
CALM = WEIGHT_A_MINUTE // 6  # in 10 s
CONNECTIONS = 60
Accounts = Callable[[int], list[ExchangeAccount]]


@pytest.fixture
def accounts(
    account: ExchangeAccount, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> Accounts:
    """Return a function that makes so many accounts, the first of them `demo`."""

    def make(count: int) -> list[ExchangeAccount]:
        # The start of many accounts at once is not what is measured here.
        simulator.control.limits(request_weight=1_000_000, orders_10s=100_000, orders_day=1_000_000)
        simulator.control.deposit("USDT", "1000000")
        names = [f"account-{number}" for number in range(1, count)]
        for name in names:
            for variable, value in simulator.add_account(name, {"USDT": "1000000"}).items():
                monkeypatch.setenv(variable, value)
        made = [
            ExchangeAccount.objects.create(name=name, environment=Environment.SIMULATOR)
            for name in names
        ]
        sync_instruments(account)
        return [account, *made]

    return make


def start_stack(processes: ProcessFactory, env: dict[str, str], *, web: bool = False) -> None:
    for name in ("worker-1", "worker-2"):
        processes.worker(name, queues="trading", options=WORKER_OPTIONS, env=env, wait=False)
    _, queues, *options = OTHER_WORKER_OPTIONS
    processes.worker("worker-3", queues=queues, options=options, env=env, wait=False)
    for child in processes.started:
        child.wait_until_ready()
    processes.beat(env=env)
    if web:
        port = free_port()
        argv = ("uvicorn", "backoffice.asgi:application", "--host", embedded.HOST)
        processes.program(
            "web", "-m", *argv, "--port", str(port), "--lifespan", "off", ready="running on"
        )
        requests.get(f"http://{embedded.HOST}:{port}/metrics", timeout=60)
        requests.get(f"http://{embedded.HOST}:{port}/readyz", timeout=60)


def sessions() -> int:
    """Count the sessions of the back office's processes, without this one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return int(cursor.fetchone()[0])


def weight_until(redis: TestRedis, is_over: Callable[[], bool], *, timeout: float) -> int:
    """Return the weight that all processes spend until then, by the shared counts of the limits."""
    spent, seen = 0, dict[str, int]()

    def look() -> bool:
        nonlocal spent
        over = is_over()
        with redis.client() as client:
            for key in client.scan_iter(f"{PREFIX}:weight:*"):
                count = int(client.get(key) or 0)
                spent += max(0, count - seen.get(key, 0))
                seen[key] = count
        return over

    look()
    spent = 0
    wait_for(look, timeout=timeout, every=0.3, what="the measurement is over")
    return spent


def test_at_rest__a_hundred_accounts_fit_one_address_and_few_connections(
    accounts: Accounts, processes: ProcessFactory, redis_server: TestRedis
) -> None:
    """Measured on 2 cores, shared: see the printed figures and docs/benchmarks.md."""
    rows = accounts(100)
    usual = {
        "EXCHANGE_REQUEST_TIMEOUT_MS": "12000",
        "EXCHANGE_RECV_WINDOW_MS": "5000",
        "EXCHANGE_ENGINE_TIMEOUT_MS": "10000",
        "EXCHANGE_READ_LAG_MS": "5000",
        "RESOLVE_INTERVAL_SECONDS": "2",
        "EXCHANGE_STREAM_LONGEST_PAUSE_SECONDS": "30",
        "SYNC_INTERVAL_SECONDS": "15",
        "SYNC_INTERVAL_STREAMING_SECONDS": "60",
        "BREAKER_OPEN_SECONDS": "15",
        "RECONCILE_AT_START": "off",
    }
    start_stack(processes, usual, web=True)
    processes.command("listen_user_stream", ready="listener_started", env=usual)

    def are_healthy() -> bool:
        now = clock.now()
        streams = StreamState.objects.filter(in_sync_since__isnull=False)
        return sum(row.is_healthy(now) for row in streams) == len(rows)

    wait_for(are_healthy, timeout=240, every=1, what="every stream is healthy")
    orders = [send("open", account=row.name) for row in rows]
    assert {result.get(timeout=120)["status"] for result in orders} == {"NEW"}

    def is_calm() -> bool:
        until = clock.monotonic() + 10
        return weight_until(redis_server, lambda: clock.monotonic() > until, timeout=30) < CALM

    wait_for(is_calm, timeout=240, what="the second look after each connection is over")
    most, until = 0, clock.monotonic() + 60

    def minute_is_over() -> bool:
        nonlocal most
        most = max(most, sessions())
        return clock.monotonic() > until

    weight = weight_until(redis_server, minute_is_over, timeout=90)
    assert are_healthy()
    comparing = [
        app.send_task("orders.reconcile_account", (row.name,), ignore_result=False) for row in rows
    ]
    compared = weight_until(
        redis_server, lambda: all(result.ready() for result in comparing), timeout=180
    )
    average = weight + compared * 60 / RECONCILE_SECONDS
    print(
        f"100 accounts at rest, an open order each: weight {weight} a minute, {compared} for"
        f" a comparison of all every 15 minutes, so {average:.0f} a minute,"
        f" and {most} database connections"
    )
    assert 0 < average < WEIGHT_A_MINUTE
    assert 0 < most < CONNECTIONS


# -- A bad account among good ones -----------------------------------------------------------------

QUICK = {name: str(value) for name, value in FAST_TIMING.items()}


def timed(result: AsyncResult[Any], *, timeout: float = 30) -> tuple[float, dict[str, Any]]:
    began = clock.monotonic()
    answer: dict[str, Any] = result.get(timeout=timeout)
    return clock.monotonic() - began, answer


def is_new(intent_id: str) -> bool:
    return Order.objects.filter(intent_id=intent_id, status="NEW").exists()


def make_unanswered(account: ExchangeAccount, count: int) -> None:
    """Store orders whose requests have no answer, all due now."""
    long_ago = clock.now() - timedelta(minutes=10)
    orders, attempts = [], []
    for number in range(count):
        intent_id = f"unanswered-{number}"
        hashed = hash_for(
            environment=account.environment, account=account.name, intent_id=intent_id
        )
        order = Order(
            account=account,
            intent_id=intent_id,
            symbol="BTCUSDT",
            side="BUY",
            order_type="LIMIT",
            time_in_force="GTC",
            quantity="0.01",
            price="50000",
            status="PENDING_NEW",
            attempt=1,
            open_attempts=1,
            created_at=long_ago,
            next_check_at=long_ago,
        )
        orders.append(order)
        attempts.append(
            ExchangeOrder(
                order=order,
                account=account,
                attempt=1,
                client_order_id=client_order_id(hashed, 1),
                symbol="BTCUSDT",
                outcome=AttemptOutcome.UNKNOWN,
                quantity="0.01",
                price="50000",
                request_timestamp_ms=clock.now_ms() - 600_000,
                recv_window_ms=5000,
                sent_at=long_ago,
            )
        )
    Order.objects.bulk_create(orders, batch_size=1000)
    ExchangeOrder.objects.bulk_create(attempts, batch_size=1000)


def test_healthy_account__keeps_its_times_beside_a_revoked_key_and_5000_open_questions(
    accounts: Accounts, processes: ProcessFactory, simulator: Simulator
) -> None:
    healthy, revoked, mute = accounts(3)
    quiet = {**QUICK, "HALT_UNRESOLVED_ORDERS": "0"}
    start_stack(processes, quiet)
    assert timed(send("warm-up"))[1]["status"] == "NEW"
    simulator.control.revoke_key(f"{revoked.name}-key")
    simulator.control.faults.time_out(mute.name)
    make_unanswered(mute, 5000)
    make_unanswered(revoked, 100)
    time.sleep(5)  # the sweeps of the others are under way

    placing, canceling, resolving, ages = [], [], [], []
    for number in range(8):
        seconds, answer = timed(send(f"i-{number}"))
        assert answer["status"] == "NEW"
        placing.append(seconds)
        seconds, answer = timed(send_cancel(f"i-{number}"))
        assert answer["status"] == "CANCELED"
        canceling.append(seconds)
        simulator.control.faults.add(
            "reset_after", match={"account": "main", "method": "POST", "path": "/api/v3/order"}
        )
        began, lost = clock.monotonic(), f"lost-{number}"
        send(lost)
        wait_for(
            partial(is_new, lost),
            timeout=20,
            what="the lost answer is resolved",
        )
        resolving.append(clock.monotonic() - began)
        stamp = AccountSync.objects.get(account=healthy).last_synced_at
        assert stamp is not None
        ages.append((clock.now() - stamp).total_seconds())
    print(
        f"healthy account: placing {max(placing):.2f} s, canceling {max(canceling):.2f} s,"
        f" a lost answer {max(resolving):.2f} s, age of the sync {max(ages):.2f} s at most"
    )
    assert max(placing) < 2
    assert max(canceling) < 2
    assert max(resolving) < 5
    assert max(ages) < 10


def test_comparison__of_49_accounts_at_once_holds_up_no_order(
    accounts: Accounts, processes: ProcessFactory, simulator: Simulator
) -> None:
    _, *others = accounts(50)
    start_stack(processes, QUICK)
    assert timed(send("warm-up"))[1]["status"] == "NEW"
    simulator.control.faults.add(
        "delay_answer",
        match={"method": "GET", "path": "/api/v3/openOrders"},
        times=None,
        seconds=1.0,
    )
    comparing = [
        app.send_task("orders.reconcile_account", (other.name,), ignore_result=False)
        for other in others
    ]
    placing, resolving = [], []
    for number in range(5):
        seconds, answer = timed(send(f"i-{number}", LIMIT_BUY, place_within_seconds=5))
        assert answer["status"] == "NEW"
        placing.append(seconds)
        simulator.control.faults.add(
            "reset_before", match={"account": "main", "method": "POST", "path": "/api/v3/order"}
        )
        began, lost = clock.monotonic(), f"retried-{number}"
        send(lost, LIMIT_BUY, place_within_seconds=10)
        wait_for(
            partial(is_new, lost),
            timeout=20,
            what="the order is sent again by the sweep",
        )
        resolving.append(clock.monotonic() - began)
    under_way = sum(not result.ready() for result in comparing)
    for result in comparing:
        result.get(timeout=120)
    print(
        f"49 comparisons, {under_way} under way at the end: placing {max(placing):.2f} s,"
        f" sent again after {max(resolving):.2f} s at most"
    )
    assert max(placing) < 2
    assert max(resolving) < 6
    assert not Order.objects.filter(status="NOT_PLACED").exists()
