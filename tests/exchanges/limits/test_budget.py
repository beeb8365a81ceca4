"""Check the shared limits on a real Redis: budgets, stops, order counts, breaker, no Redis."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import redis

from backoffice.local.embedded import RedisServer, free_port
from exchanges import clock
from exchanges.errors import NotSent
from exchanges.limits import budget as limits
from exchanges.limits import counters
from exchanges.limits import redis as shared
from exchanges.limits.breaker import force_breaker
from exchanges.limits.budget import (
    Budget,
    OrderLimit,
    Priority,
    Request,
    Response,
    acquire,
    read_budget,
    record_response,
)
from exchanges.types import CallKind
from tests.harness.redis import OF_SUITE
from tests.harness.waiting import wait_for

pytestmark = pytest.mark.usefixtures("redis_server")
LABELS = (("account", "a"), ("call", "place"), ("outcome", "ok"))
COUNTER = counters.counter("exchange_calls", **dict(LABELS))
BUDGET = Budget(weight_per_minute=100)
SOUND = Response(failed=False, succeeded=True, status=200)
TROUBLE = Response(failed=True, succeeded=False)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    # One minute, so that no window ends within a test.
    monkeypatch.setattr(clock, "now_ms", lambda: 1_700_000_000_000)
    monkeypatch.setattr(shared, "_away_until", 0.0)
    monkeypatch.setattr(shared, "_is_required", True)


def request(
    priority: Priority = Priority.STATUS,
    weight: int = 10,
    kind: CallKind = CallKind.READ,
    **changes: str,
) -> Request:
    return Request(
        **{"host": "h", "account": "a", **changes}, kind=kind, priority=priority, weight=weight
    )


def allowed(priority: Priority, **more: Any) -> int:
    """Return how many requests of weight 1 may leave before one must wait."""
    for count in range(1000):
        try:
            acquire(request(priority, 1, **more), BUDGET)
        except NotSent as refused:
            wait = refused.retry_after
        else:
            continue
        assert wait is not None
        assert 0 < wait <= 60
        return count
    raise AssertionError("nothing was ever held back")


def test_acquire__each_priority_may_use_its_share_of_one_budget() -> None:
    assert allowed(Priority.HISTORY) == 85
    assert allowed(Priority.NEW) == 8
    assert allowed(Priority.STATUS) == 3
    assert allowed(Priority.CANCEL) == 4


def test_acquire__the_budget_belongs_to_the_address_not_to_the_account() -> None:
    assert allowed(Priority.CANCEL, account="a") == 100
    assert allowed(Priority.CANCEL, account="b") == 0
    assert allowed(Priority.CANCEL, host="other") == 100


def test_acquire__never_gives_away_more_than_there_is_to_parallel_callers() -> None:
    passed: list[int] = []

    def caller() -> None:
        for _ in range(50):
            try:
                acquire(request(Priority.CANCEL, 1), BUDGET)
            except NotSent:
                return
            passed.append(1)

    threads = [threading.Thread(target=caller) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 100


def test_record_response__the_exchanges_own_count_corrects_ours_upwards_only() -> None:
    acquire(request(), BUDGET)
    record_response(
        request(),
        BUDGET,
        Response(failed=False, succeeded=True, status=200, used_weight=95),
        counter=COUNTER,
    )
    assert allowed(Priority.CANCEL) == 5
    record_response(
        request(),
        BUDGET,
        Response(failed=False, succeeded=True, status=200, used_weight=1),
        counter=COUNTER,
    )
    assert allowed(Priority.CANCEL) == 0


def test_record_response__a_successful_placement_gives_its_weight_back() -> None:
    for _ in range(300):
        acquire(request(Priority.NEW, 1, CallKind.PLACE), BUDGET)
        record_response(request(Priority.NEW, 1, CallKind.PLACE), BUDGET, SOUND, counter=COUNTER)
    assert allowed(Priority.CANCEL) == 100


@pytest.mark.parametrize(("status", "code"), [(429, None), (418, None), (403, None), (400, -1003)])
def test_record_response__a_stop_holds_everything_at_the_address(
    status: int, code: int | None
) -> None:
    record_response(
        request(),
        BUDGET,
        Response(failed=False, succeeded=False, status=status, code=code, retry_after=7),
        counter=COUNTER,
    )
    for kind, priority in (
        (CallKind.CANCEL, Priority.CANCEL),
        (CallKind.READ, Priority.STATUS),
        (CallKind.PLACE, Priority.NEW),
    ):
        with pytest.raises(NotSent, match="stopped by the exchange") as refused:
            acquire(request(priority, 1, kind, account="another"), BUDGET)
        assert refused.value.retry_after is not None
        assert 6 < refused.value.retry_after <= 7


def test_record_response__a_shorter_stop_does_not_shorten_a_longer_one() -> None:
    record_response(
        request(),
        BUDGET,
        Response(failed=False, succeeded=False, status=418, retry_after=100),
        counter=COUNTER,
    )
    record_response(
        request(),
        BUDGET,
        Response(failed=False, succeeded=False, status=429, retry_after=1),
        counter=COUNTER,
    )
    with pytest.raises(NotSent) as refused:
        acquire(request(), BUDGET)
    assert refused.value.retry_after is not None
    assert refused.value.retry_after > 90


def test_record_response__too_many_orders_stops_placing_of_the_account_alone() -> None:
    placing = request(Priority.NEW, 1, CallKind.PLACE)
    record_response(
        placing,
        BUDGET,
        Response(failed=False, succeeded=False, status=429, code=-1015, retry_after=5),
        counter=COUNTER,
    )
    with pytest.raises(NotSent, match="stopped by the exchange"):
        acquire(placing, BUDGET)
    acquire(request(Priority.CANCEL, 1, CallKind.CANCEL), BUDGET)
    acquire(request(Priority.NEW, 1, CallKind.PLACE, account="b"), BUDGET)


def another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget this process's own memory, as if it were a new one."""
    monkeypatch.setattr(limits, "_stops", {})


@pytest.mark.long
@pytest.mark.parametrize("code", [None, -1015])
def test_record_response__a_stop_holds_in_every_process_and_for_its_time_only(
    monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    placing = request(Priority.NEW, 1, CallKind.PLACE)
    record_response(
        placing,
        BUDGET,
        Response(failed=False, succeeded=False, status=429, code=code, retry_after=1),
        counter=COUNTER,
    )
    another_process(monkeypatch)
    with pytest.raises(NotSent, match="stopped by the exchange"):
        acquire(placing, BUDGET)
    wait_for(lambda: is_acquired(placing), timeout=5, what="the stop is over")


def is_acquired(wanted: Request) -> bool:
    try:
        acquire(wanted, BUDGET)
    except NotSent:
        return False
    return True


def test_record_response__a_stop_without_a_time_holds_nevertheless() -> None:
    record_response(
        request(), BUDGET, Response(failed=False, succeeded=False, status=403), counter=COUNTER
    )
    with pytest.raises(NotSent) as refused:
        acquire(request(), BUDGET)
    assert refused.value.retry_after is not None
    assert limits.WAF_STOP_SECONDS - 1 < refused.value.retry_after <= limits.WAF_STOP_SECONDS


def test_record_response__a_stop_outlives_a_restart_of_redis(
    monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path
) -> None:
    server = RedisServer(tmp_path, port=free_port(), keep_data=True)
    server.start()
    try:
        settings.REDIS_URL = server.url
        record_response(
            request(),
            BUDGET,
            Response(failed=False, succeeded=False, status=418, retry_after=60),
            counter=COUNTER,
        )
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("WAITAOF", 1, 0, 5000)
        assert server.process is not None
        server.process.kill()
        server.stop()
        server.start()
        another_process(monkeypatch)
        monkeypatch.setattr(shared, "_away_until", 0.0)
        with pytest.raises(NotSent, match="stopped by the exchange"):
            acquire(request(), BUDGET)
    finally:
        server.stop()


@pytest.mark.parametrize("code", [None, -1015])
def test_acquire__redis_that_forgot_a_stop_hears_of_it_again(
    redis_server: Any, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    placing = request(Priority.NEW, 1, CallKind.PLACE)
    refusal = Response(failed=False, succeeded=False, status=429, code=code, retry_after=60)
    record_response(placing, BUDGET, refusal, counter=COUNTER)
    redis_server.flush()
    with pytest.raises(NotSent, match="stopped by the exchange") as refused:
        acquire(placing, BUDGET)
    assert refused.value.retry_after is not None
    assert 58 < refused.value.retry_after <= 60
    another_process(monkeypatch)  # it learns of the stop from Redis, and remembers it, too
    for _ in range(2):
        assert not is_acquired(placing)
        redis_server.flush()
    assert not is_acquired(placing)


def test_acquire__a_stop_that_is_over_is_not_told_again(
    redis_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = Response(failed=False, succeeded=False, status=429, retry_after=60)
    record_response(request(), BUDGET, refusal, counter=COUNTER)
    redis_server.flush()
    later = clock.monotonic() + 61
    monkeypatch.setattr(clock, "monotonic", lambda: later)
    acquire(request(), BUDGET)


def test_acquire__a_demoted_server_is_left_for_the_new_one(
    monkeypatch: pytest.MonkeyPatch, redis_server: Any
) -> None:
    """A connection to a server that only reads is dropped. The next one may reach a primary."""
    acquire(request(), BUDGET)
    with redis_server.client() as client:
        client.replicaof("127.0.0.1", free_port())
        try:
            before = _connection_ids(client)
            with pytest.raises(NotSent, match="Redis is away"):
                acquire(request(Priority.NEW), BUDGET)
            wait_for(
                lambda: not before & _connection_ids(client),
                timeout=5,
                what="the connection is dropped",
            )
        finally:
            client.replicaof("NO", "ONE")
    monkeypatch.setattr(shared, "_away_until", 0.0)
    acquire(request(Priority.NEW), BUDGET)


def _connection_ids(client: Any) -> set[str]:
    own = str(client.client_id())
    found = (row for row in client.client_list() if row["flags"] == "N")
    return {row["id"] for row in found if row["name"] != OF_SUITE} - {own}


@pytest.mark.parametrize("is_worker", [True, False])
def test_record_response__a_stop_holds_without_redis_in_the_process_that_was_told(
    redis_server: Any, monkeypatch: pytest.MonkeyPatch, is_worker: bool
) -> None:
    monkeypatch.setattr(shared, "_is_required", is_worker)
    record_response(
        request(),
        BUDGET,
        Response(failed=False, succeeded=False, status=418, retry_after=60),
        counter=COUNTER,
    )
    redis_server.stop()
    with pytest.raises(NotSent, match="stopped by the exchange"):
        acquire(request(Priority.CANCEL, 1, CallKind.CANCEL), BUDGET)
    acquire(request(Priority.CANCEL, 1, CallKind.CANCEL, host="another"), BUDGET)
    redis_server.start()


def test_acquire__orders_are_counted_per_account_in_each_window() -> None:
    budget = Budget(1000, (OrderLimit(10, 3), OrderLimit(86_400, 5)))
    placing = request(Priority.NEW, 1, CallKind.PLACE)
    for _ in range(3):
        acquire(placing, budget)
    with pytest.raises(NotSent, match="order limit") as refused:
        acquire(placing, budget)
    assert refused.value.retry_after is not None
    assert refused.value.retry_after <= 10
    acquire(request(Priority.NEW, 1, CallKind.PLACE, account="b"), budget)
    acquire(request(Priority.CANCEL, 1, CallKind.CANCEL), budget)


def test_breaker__opens_on_trouble_and_lets_one_probe_through(settings: Any) -> None:
    settings.BREAKER_FAILURES, settings.BREAKER_OPEN_SECONDS = 3, 0.05
    for _ in range(3):
        acquire(request(), BUDGET)
        record_response(request(), BUDGET, TROUBLE, counter=COUNTER)
    with pytest.raises(NotSent, match="breaker open"):
        acquire(request(), BUDGET)
    acquire(request(Priority.CANCEL, 1, CallKind.CANCEL), BUDGET)  # other kinds go on
    probes = wait_for_probe()
    assert probes == 1
    with pytest.raises(NotSent, match="half-open"):
        acquire(request(), BUDGET)
    record_response(request(), BUDGET, SOUND, counter=COUNTER)
    acquire(request(), BUDGET)


def test_breaker__a_request_without_budget_does_not_take_the_probe(settings: Any) -> None:
    settings.BREAKER_FAILURES, settings.BREAKER_OPEN_SECONDS = 1, 0.01
    acquire(request(weight=80), BUDGET)
    record_response(request(weight=1), BUDGET, TROUBLE, counter=COUNTER)
    heavy = request(weight=20)
    wait_for(
        lambda: _refusal(heavy) == "request weight used up", what="the breaker to be half-open"
    )
    acquire(request(weight=1), BUDGET)


def _refusal(wanted: Request) -> str:
    with pytest.raises(NotSent) as refused:
        acquire(wanted, BUDGET)
    return refused.value.message


def wait_for_probe() -> int:
    def probe() -> int:
        try:
            acquire(request(), BUDGET)
        except NotSent:
            return 0
        return 1

    return wait_for(probe, what="the breaker to be half-open")


def test_breaker__refusals_are_no_trouble(settings: Any) -> None:
    settings.BREAKER_FAILURES = 2
    for _ in range(5):
        acquire(request(weight=1), BUDGET)
        record_response(
            request(weight=1),
            BUDGET,
            Response(failed=False, succeeded=False, status=400, code=-2010),
            counter=COUNTER,
        )
    acquire(request(weight=1), BUDGET)


def test_force_breaker__by_hand() -> None:
    force_breaker("a", CallKind.READ, "open")
    with pytest.raises(NotSent, match="held open"):
        acquire(request(), BUDGET)
    force_breaker("a", CallKind.READ, None)
    acquire(request(), BUDGET)


def test_force_breaker__held_closed_passes_whatever_fails(settings: Any) -> None:
    settings.BREAKER_FAILURES = 2
    force_breaker("a", CallKind.READ, "closed")
    for _ in range(5):
        acquire(request(weight=1), BUDGET)
        record_response(request(weight=1), BUDGET, TROUBLE, counter=COUNTER)
    force_breaker("a", CallKind.READ, None)
    with pytest.raises(NotSent, match="breaker open"):
        acquire(request(weight=1), BUDGET)


def test_acquire__without_redis_a_worker_places_nothing_and_goes_on_canceling_slowly(
    redis_server: Any,
) -> None:
    redis_server.stop()
    with pytest.raises(NotSent, match="Redis"):
        acquire(request(Priority.NEW, 1, CallKind.PLACE), BUDGET)
    passed = 0
    for _ in range(30):
        try:
            acquire(request(Priority.CANCEL, 1, CallKind.CANCEL), BUDGET)
        except NotSent:
            break
        passed += 1
    assert 1 <= passed <= 2 * limits.LOCAL_REQUESTS_PER_SECOND
    redis_server.start()


@pytest.mark.parametrize(
    ("priority", "weight", "passes"),
    [
        (Priority.STATUS, 4, True),
        (Priority.STATUS, 6, False),
        (Priority.STATUS, 80, False),
        (Priority.HISTORY, 1, False),
    ],
)
def test_acquire__without_redis_only_single_questions_are_asked(
    redis_server: Any, priority: Priority, weight: int, passes: bool
) -> None:
    redis_server.stop()
    wait_for(
        lambda: is_acquired(request(priority, weight)) is passes,
        what="the local limit, of this second or the next",
    )
    if not passes:
        with pytest.raises(NotSent, match="Redis is away"):
            acquire(request(priority, weight), BUDGET)
    redis_server.start()


def test_acquire__without_redis_a_process_that_is_no_worker_goes_on(
    redis_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "_is_required", False)
    redis_server.stop()
    acquire(request(Priority.NEW, 1, CallKind.PLACE), BUDGET)
    redis_server.start()


def test_read_budget__takes_the_sizes_from_exchange_info() -> None:
    rows: list[dict[str, Any]] = [
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 1200},
        {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 50},
        {"rateLimitType": "ORDERS", "interval": "DAY", "intervalNum": 1, "limit": 160000},
        {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 300000},
        {"rateLimitType": "NEW_KIND", "interval": "FORTNIGHT"},
    ]
    assert read_budget(rows) == Budget(1200, (OrderLimit(10, 50), OrderLimit(86_400, 160_000)))
    assert read_budget([]) == Budget()


@pytest.mark.parametrize(
    "bad",
    [
        {"limit": "many"},
        {"limit": [1]},
        {"limit": None},
        {"limit": -5},
        {"limit": True},
        {"intervalNum": "x"},
        {"intervalNum": 0},
        {"interval": None},
        {"interval": ["MINUTE"]},
        {"interval": "DAY", "limit": 100},  # less than one a minute
        {"rateLimitType": None},
    ],
    ids=str,
)
def test_read_budget__a_bad_row_is_ignored(bad: dict[str, Any]) -> None:
    weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1}
    orders = {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 50}
    rows = [{**weight, "limit": 1200, **bad}, orders]
    assert read_budget(rows) == Budget(orders=(OrderLimit(10, 50),))


def test_record_response__counts_the_call() -> None:
    before = counters.read_counters().get(("exchange_calls", LABELS), 0)
    acquire(request(), BUDGET)
    record_response(request(), BUDGET, SOUND, counter=COUNTER)
    assert counters.read_counters()["exchange_calls", LABELS] == before + 1


def scripts_run(redis_server: Any) -> int:
    stats = redis.Redis.from_url(redis_server.url).info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))


def test_record_response__a_sound_answer_with_nothing_new_is_not_told(redis_server: Any) -> None:
    budget = Budget(weight_per_minute=100, orders=(OrderLimit(10, 50),))
    placing = request(Priority.NEW, 1, CallKind.PLACE)
    for expected in (1, 2):
        is_probe = acquire(placing, budget)
        before = scripts_run(redis_server)
        sound = Response(failed=False, succeeded=True, status=200, order_counts={10: expected})
        record_response(placing, budget, sound, is_probe=is_probe, counter=COUNTER)
        assert scripts_run(redis_server) == before
    assert counters.read_counters()["exchange_calls", LABELS] >= 2
    more = Response(failed=False, succeeded=True, status=200, order_counts={10: 49})
    record_response(placing, budget, more, is_probe=acquire(placing, budget), counter=COUNTER)
    acquire(placing, budget)
    with pytest.raises(NotSent, match="order limit"):
        acquire(placing, budget)


def test_record_response__what_failed_costs_its_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    placing = request(Priority.NEW, 93, CallKind.PLACE)
    assert is_acquired(placing)
    assert is_acquired(placing)
    record_response(
        placing,
        BUDGET,
        Response(failed=False, succeeded=False, status=400, code=-2010),
        is_probe=False,
    )
    assert not is_acquired(placing)


def test_record_response__a_count_is_told_again_to_a_redis_that_has_forgotten_it(
    redis_server: Any,
) -> None:
    def answered(used_weight: int) -> None:
        is_probe = acquire(request(weight=1), BUDGET)
        record_response(
            request(weight=1),
            BUDGET,
            Response(failed=False, succeeded=True, used_weight=used_weight),
            is_probe=is_probe,
        )

    answered(98)
    redis_server.flush()
    answered(99)
    assert not is_acquired(request(weight=2))
