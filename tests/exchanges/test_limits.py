"""The shared limits on a real Redis: budgets with lanes, stops, order counts, the breaker, and Redis away."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import redis

from backoffice.embedded import RedisServer, free_port
from exchanges import clock, limits, metrics
from exchanges.errors import NotSent
from exchanges.limits import Answer, Budget, Kind, Lane, OrderLimit, Passage, admit, force_breaker, note, read_budget
from tests.harness.waiting import wait_for

pytestmark = pytest.mark.usefixtures("redis_server")
LABELS = (("account", "a"), ("call", "place"), ("outcome", "ok"))
COUNTER = metrics.counter("exchange_calls", **dict(LABELS))
BUDGET = Budget(weight_per_minute=100)
SOUND = Answer(failed=False, succeeded=True, status=200)
TROUBLE = Answer(failed=True, succeeded=False)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    # One minute, so that no window ends within a test.
    monkeypatch.setattr(clock, "now_ms", lambda: 1_700_000_000_000)
    monkeypatch.setattr(limits, "_away_until", 0.0)
    monkeypatch.setattr(limits, "_is_worker", True)


def passage(lane: Lane = Lane.STATUS, weight: int = 10, kind: Kind = Kind.READ, **changes: str) -> Passage:
    return Passage(**{"host": "h", "account": "a", **changes}, kind=kind, lane=lane, weight=weight)


def allowed(lane: Lane, **more: Any) -> int:
    """How many requests of weight 1 may go before one is held back."""
    for count in range(1000):
        try:
            admit(passage(lane, 1, **more), BUDGET)
        except NotSent as refused:
            wait = refused.retry_after
        else:
            continue
        assert wait is not None
        assert 0 < wait <= 60
        return count
    raise AssertionError("nothing was ever held back")


def test_admit__each_lane_may_use_its_share_of_one_budget() -> None:
    assert allowed(Lane.HISTORY) == 85
    assert allowed(Lane.NEW) == 8
    assert allowed(Lane.STATUS) == 3
    assert allowed(Lane.CANCEL) == 4


def test_admit__the_budget_belongs_to_the_address_not_to_the_account() -> None:
    assert allowed(Lane.CANCEL, account="a") == 100
    assert allowed(Lane.CANCEL, account="b") == 0
    assert allowed(Lane.CANCEL, host="other") == 100


def test_admit__never_gives_away_more_than_there_is_to_parallel_callers() -> None:
    passed: list[int] = []

    def caller() -> None:
        for _ in range(50):
            try:
                admit(passage(Lane.CANCEL, 1), BUDGET)
            except NotSent:
                return
            passed.append(1)

    threads = [threading.Thread(target=caller) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 100


def test_note__the_exchanges_own_count_corrects_ours_upwards_only() -> None:
    admit(passage(), BUDGET)
    note(passage(), BUDGET, Answer(failed=False, succeeded=True, status=200, used_weight=95), counter=COUNTER)
    assert allowed(Lane.CANCEL) == 5
    note(passage(), BUDGET, Answer(failed=False, succeeded=True, status=200, used_weight=1), counter=COUNTER)
    assert allowed(Lane.CANCEL) == 0


def test_note__a_successful_placement_gives_its_weight_back() -> None:
    for _ in range(300):
        admit(passage(Lane.NEW, 1, Kind.PLACE), BUDGET)
        note(passage(Lane.NEW, 1, Kind.PLACE), BUDGET, SOUND, counter=COUNTER)
    assert allowed(Lane.CANCEL) == 100


@pytest.mark.parametrize(("status", "code"), [(429, None), (418, None), (403, None), (400, -1003)])
def test_note__a_stop_holds_everything_at_the_address(status: int, code: int | None) -> None:
    note(
        passage(),
        BUDGET,
        Answer(failed=False, succeeded=False, status=status, code=code, retry_after=7),
        counter=COUNTER,
    )
    for kind, lane in ((Kind.CANCEL, Lane.CANCEL), (Kind.READ, Lane.STATUS), (Kind.PLACE, Lane.NEW)):
        with pytest.raises(NotSent, match="stopped by the exchange") as refused:
            admit(passage(lane, 1, kind, account="another"), BUDGET)
        assert refused.value.retry_after is not None
        assert 6 < refused.value.retry_after <= 7


def test_note__a_shorter_stop_does_not_shorten_a_longer_one() -> None:
    note(passage(), BUDGET, Answer(failed=False, succeeded=False, status=418, retry_after=100), counter=COUNTER)
    note(passage(), BUDGET, Answer(failed=False, succeeded=False, status=429, retry_after=1), counter=COUNTER)
    with pytest.raises(NotSent) as refused:
        admit(passage(), BUDGET)
    assert refused.value.retry_after is not None
    assert refused.value.retry_after > 90


def test_note__too_many_orders_stops_placing_of_the_account_alone() -> None:
    placing = passage(Lane.NEW, 1, Kind.PLACE)
    note(placing, BUDGET, Answer(failed=False, succeeded=False, status=429, code=-1015, retry_after=5), counter=COUNTER)
    with pytest.raises(NotSent, match="stopped by the exchange"):
        admit(placing, BUDGET)
    admit(passage(Lane.CANCEL, 1, Kind.CANCEL), BUDGET)
    admit(passage(Lane.NEW, 1, Kind.PLACE, account="b"), BUDGET)


def another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process remembers by itself is forgotten, as in one that starts now."""
    monkeypatch.setattr(limits, "_stops", {})


@pytest.mark.parametrize("code", [None, -1015])
def test_note__a_stop_holds_in_every_process_and_for_its_time_only(
    monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    placing = passage(Lane.NEW, 1, Kind.PLACE)
    note(placing, BUDGET, Answer(failed=False, succeeded=False, status=429, code=code, retry_after=1), counter=COUNTER)
    another_process(monkeypatch)
    with pytest.raises(NotSent, match="stopped by the exchange"):
        admit(placing, BUDGET)
    wait_for(lambda: is_admitted(placing), timeout=5, what="the stop is over")


def is_admitted(wanted: Passage) -> bool:
    try:
        admit(wanted, BUDGET)
    except NotSent:
        return False
    return True


def test_note__a_stop_without_a_time_holds_nevertheless() -> None:
    note(passage(), BUDGET, Answer(failed=False, succeeded=False, status=403), counter=COUNTER)
    with pytest.raises(NotSent) as refused:
        admit(passage(), BUDGET)
    assert refused.value.retry_after is not None
    assert limits.WAF_STOP_SECONDS - 1 < refused.value.retry_after <= limits.WAF_STOP_SECONDS


def test_note__a_stop_outlives_a_restart_of_redis(
    monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path
) -> None:
    server = RedisServer(tmp_path, port=free_port(), keep_data=True)
    server.start()
    try:
        settings.REDIS_URL = server.url
        note(passage(), BUDGET, Answer(failed=False, succeeded=False, status=418, retry_after=60), counter=COUNTER)
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("WAITAOF", 1, 0, 5000)
        assert server.process is not None
        server.process.kill()
        server.stop()
        server.start()
        another_process(monkeypatch)
        monkeypatch.setattr(limits, "_away_until", 0.0)
        with pytest.raises(NotSent, match="stopped by the exchange"):
            admit(passage(), BUDGET)
    finally:
        server.stop()


@pytest.mark.parametrize("is_worker", [True, False])
def test_note__a_stop_holds_without_redis_in_the_process_that_was_told(
    redis_server: Any, monkeypatch: pytest.MonkeyPatch, is_worker: bool
) -> None:
    monkeypatch.setattr(limits, "_is_worker", is_worker)
    note(passage(), BUDGET, Answer(failed=False, succeeded=False, status=418, retry_after=60), counter=COUNTER)
    redis_server.stop()
    with pytest.raises(NotSent, match="stopped by the exchange"):
        admit(passage(Lane.CANCEL, 1, Kind.CANCEL), BUDGET)
    admit(passage(Lane.CANCEL, 1, Kind.CANCEL, host="another"), BUDGET)
    redis_server.start()


def test_admit__orders_are_counted_per_account_in_each_window() -> None:
    budget = Budget(1000, (OrderLimit(10, 3), OrderLimit(86_400, 5)))
    placing = passage(Lane.NEW, 1, Kind.PLACE)
    for _ in range(3):
        admit(placing, budget)
    with pytest.raises(NotSent, match="order limit") as refused:
        admit(placing, budget)
    assert refused.value.retry_after is not None
    assert refused.value.retry_after <= 10
    admit(passage(Lane.NEW, 1, Kind.PLACE, account="b"), budget)
    admit(passage(Lane.CANCEL, 1, Kind.CANCEL), budget)


def test_breaker__opens_on_trouble_and_lets_one_probe_through(settings: Any) -> None:
    settings.BREAKER_FAILURES, settings.BREAKER_OPEN_SECONDS = 3, 0.05
    for _ in range(3):
        admit(passage(), BUDGET)
        note(passage(), BUDGET, TROUBLE, counter=COUNTER)
    with pytest.raises(NotSent, match="breaker open"):
        admit(passage(), BUDGET)
    admit(passage(Lane.CANCEL, 1, Kind.CANCEL), BUDGET)  # other kinds go on
    probes = wait_for_probe()
    assert probes == 1
    with pytest.raises(NotSent, match="half-open"):
        admit(passage(), BUDGET)
    note(passage(), BUDGET, SOUND, counter=COUNTER)
    admit(passage(), BUDGET)


def test_breaker__a_request_without_budget_does_not_take_the_probe(settings: Any) -> None:
    settings.BREAKER_FAILURES, settings.BREAKER_OPEN_SECONDS = 1, 0.01
    admit(passage(weight=80), BUDGET)
    note(passage(weight=1), BUDGET, TROUBLE, counter=COUNTER)
    heavy = passage(weight=20)
    wait_for(lambda: _refusal(heavy) == "request weight used up", what="the breaker to be half-open")
    admit(passage(weight=1), BUDGET)


def _refusal(wanted: Passage) -> str:
    with pytest.raises(NotSent) as refused:
        admit(wanted, BUDGET)
    return refused.value.message


def wait_for_probe() -> int:
    def probe() -> int:
        try:
            admit(passage(), BUDGET)
        except NotSent:
            return 0
        return 1

    return wait_for(probe, what="the breaker to be half-open")


def test_breaker__refusals_are_no_trouble(settings: Any) -> None:
    settings.BREAKER_FAILURES = 2
    for _ in range(5):
        admit(passage(weight=1), BUDGET)
        note(passage(weight=1), BUDGET, Answer(failed=False, succeeded=False, status=400, code=-2010), counter=COUNTER)
    admit(passage(weight=1), BUDGET)


def test_force_breaker__by_hand() -> None:
    force_breaker("a", Kind.READ, "open")
    with pytest.raises(NotSent, match="held open"):
        admit(passage(), BUDGET)
    force_breaker("a", Kind.READ, None)
    admit(passage(), BUDGET)


def test_force_breaker__held_closed_passes_whatever_fails(settings: Any) -> None:
    settings.BREAKER_FAILURES = 2
    force_breaker("a", Kind.READ, "closed")
    for _ in range(5):
        admit(passage(weight=1), BUDGET)
        note(passage(weight=1), BUDGET, TROUBLE, counter=COUNTER)
    force_breaker("a", Kind.READ, None)
    with pytest.raises(NotSent, match="breaker open"):
        admit(passage(weight=1), BUDGET)


def test_admit__without_redis_a_worker_places_nothing_and_goes_on_cancelling_slowly(redis_server: Any) -> None:
    redis_server.stop()
    with pytest.raises(NotSent, match="Redis"):
        admit(passage(Lane.NEW, 1, Kind.PLACE), BUDGET)
    passed = 0
    for _ in range(30):
        try:
            admit(passage(Lane.CANCEL, 1, Kind.CANCEL), BUDGET)
        except NotSent:
            break
        passed += 1
    assert 1 <= passed <= 2 * limits.LOCAL_REQUESTS_PER_SECOND
    redis_server.start()


@pytest.mark.parametrize(
    ("lane", "weight", "passes"),
    [(Lane.STATUS, 4, True), (Lane.STATUS, 6, False), (Lane.STATUS, 80, False), (Lane.HISTORY, 1, False)],
)
def test_admit__without_redis_only_single_questions_are_asked(
    redis_server: Any, lane: Lane, weight: int, passes: bool
) -> None:
    redis_server.stop()
    wait_for(lambda: is_admitted(passage(lane, weight)) is passes, what="the local limit, of this second or the next")
    if not passes:
        with pytest.raises(NotSent, match="Redis is away"):
            admit(passage(lane, weight), BUDGET)
    redis_server.start()


def test_admit__without_redis_a_process_that_is_no_worker_goes_on(
    redis_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_is_worker", False)
    redis_server.stop()
    admit(passage(Lane.NEW, 1, Kind.PLACE), BUDGET)
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


def test_note__counts_the_call() -> None:
    before = metrics.read_counters().get(("exchange_calls", LABELS), 0)
    admit(passage(), BUDGET)
    note(passage(), BUDGET, SOUND, counter=COUNTER)
    assert metrics.read_counters()["exchange_calls", LABELS] == before + 1


def scripts_run(redis_server: Any) -> int:
    stats = redis.Redis.from_url(redis_server.url).info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))


def test_note__a_sound_answer_with_nothing_new_is_not_told(redis_server: Any) -> None:
    budget = Budget(weight_per_minute=100, orders=(OrderLimit(10, 50),))
    placing = passage(Lane.NEW, 1, Kind.PLACE)
    for expected in (1, 2):
        is_probe = admit(placing, budget)
        before = scripts_run(redis_server)
        sound = Answer(failed=False, succeeded=True, status=200, order_counts={10: expected})
        note(placing, budget, sound, is_probe=is_probe, counter=COUNTER)
        assert scripts_run(redis_server) == before
    assert metrics.read_counters()["exchange_calls", LABELS] >= 2
    more = Answer(failed=False, succeeded=True, status=200, order_counts={10: 49})
    note(placing, budget, more, is_probe=admit(placing, budget), counter=COUNTER)
    admit(placing, budget)
    with pytest.raises(NotSent, match="order limit"):
        admit(placing, budget)


def test_note__what_failed_costs_its_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    placing = passage(Lane.NEW, 93, Kind.PLACE)
    assert is_admitted(placing)
    assert is_admitted(placing)
    note(placing, BUDGET, Answer(failed=False, succeeded=False, status=400, code=-2010), is_probe=False)
    assert not is_admitted(placing)


def test_note__a_count_is_told_again_to_a_redis_that_has_forgotten_it(redis_server: Any) -> None:
    def answered(used_weight: int) -> None:
        is_probe = admit(passage(weight=1), BUDGET)
        note(
            passage(weight=1), BUDGET, Answer(failed=False, succeeded=True, used_weight=used_weight), is_probe=is_probe
        )

    answered(98)
    redis_server.flush()
    answered(99)
    assert not is_admitted(passage(weight=2))
