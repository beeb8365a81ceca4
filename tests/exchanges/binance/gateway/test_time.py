"""Check how the gateway follows the time of the exchange."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from exchanges import clock
from exchanges.binance import server_clock
from exchanges.binance.gateway import Gateway
from exchanges.binance.registry import get_gateway
from exchanges.errors import (
    NotSent,
    OutcomeUnknown,
)
from exchanges.models import ExchangeAccount
from tests.exchanges.binance import binance_answers as binance
from tests.exchanges.binance.gateway.steps import (
    CALLS,
    cancel,
    error_of,
    read,
    refusal,
)
from tests.exchanges.binance.raw_server import (
    Behavior,
    RawServer,
    answer,
    close,
)

pytestmark = pytest.mark.usefixtures("without_limits")


class Clock:
    """Our clock, in the test's hand."""

    def __init__(self) -> None:
        self.wall_ms = 1_770_000_000_000.0
        self.monotonic = 1000.0

    def advance(self, seconds: float) -> None:
        self.wall_ms += seconds * 1000
        self.monotonic += seconds


@pytest.fixture
def our_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    ours = Clock()
    monkeypatch.setattr(clock, "now_ms", lambda: int(ours.wall_ms))
    monkeypatch.setattr(clock, "monotonic", lambda: ours.monotonic)
    return ours


def test_server_clock__takes_the_middle_of_the_round_trip(our_clock: Clock) -> None:
    estimate = server_clock.ServerClock()

    def ask() -> int:
        our_clock.advance(0.4)
        return 1_770_000_005_200

    assert estimate.now_ms(ask) == 1_770_000_005_400
    our_clock.advance(10)
    assert estimate.now_ms(ask) == 1_770_000_015_400


def test_server_clock__is_measured_when_it_must_be(our_clock: Clock) -> None:
    estimate = server_clock.ServerClock()
    asked: list[float] = []

    def ask() -> int:
        asked.append(our_clock.monotonic)
        return int(our_clock.wall_ms) + 700

    def measurements_of(change: Callable[[], None]) -> int:
        before = len(asked)
        change()
        assert estimate.now_ms(ask) == int(our_clock.wall_ms) + 700
        return len(asked) - before

    def step(milliseconds: float) -> None:
        our_clock.wall_ms += milliseconds

    assert measurements_of(lambda: None) == 1
    assert measurements_of(lambda: our_clock.advance(59)) == 0
    assert measurements_of(lambda: our_clock.advance(2)) == 1
    assert measurements_of(lambda: step(3000)) == 1
    assert measurements_of(lambda: step(-3000)) == 1
    assert measurements_of(estimate.forget) == 1
    assert measurements_of(lambda: None) == 0


def test_server_clock__a_pause_of_this_process_is_no_clock_step(
    our_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimate = server_clock.ServerClock()
    asked: list[int] = []

    def ask() -> int:
        asked.append(1)
        return int(our_clock.wall_ms)

    def now_ms_and_a_pause() -> int:
        reading = int(our_clock.wall_ms)
        if len(pauses) < 3:  # the scheduler takes the processor away before the other clock is read
            pauses.append(1)
            our_clock.advance(0.2)
        return reading

    estimate.now_ms(ask)
    pauses: list[int] = []
    monkeypatch.setattr(clock, "now_ms", now_ms_and_a_pause)
    estimate.now_ms(ask)
    assert (len(asked), len(pauses)) == (1, 3)


def test_server_clock__an_old_offset_serves_while_the_exchange_does_not_answer(
    our_clock: Clock,
) -> None:
    estimate = server_clock.ServerClock()
    estimate.now_ms(lambda: int(our_clock.wall_ms) + 700)

    def fails() -> int:
        raise OutcomeUnknown("no answer")

    our_clock.advance(599)
    assert estimate.now_ms(fails) == int(our_clock.wall_ms) + 700
    our_clock.advance(2)
    with pytest.raises(NotSent, match="no answer"):
        estimate.now_ms(fails)


@pytest.mark.parametrize("distrusted", ["forgotten", "stepped"])
def test_server_clock__a_distrusted_offset_does_not_serve(
    our_clock: Clock, distrusted: str
) -> None:
    estimate = server_clock.ServerClock()
    estimate.now_ms(lambda: int(our_clock.wall_ms))

    def fails() -> int:
        raise NotSent("no connection", retry_after=3.0)

    if distrusted == "forgotten":
        estimate.forget()
    else:
        our_clock.wall_ms += 51
    with pytest.raises(NotSent, match="no connection"):
        estimate.now_ms(fails)


def test_server_clock__a_measurement_across_a_clock_step_is_not_kept(our_clock: Clock) -> None:
    estimate = server_clock.ServerClock()

    def ask() -> int:
        our_clock.wall_ms += 5000
        return 1_770_000_000_000

    with pytest.raises(NotSent):
        estimate.now_ms(ask)


def test_now_ms__is_measured_once_for_all_threads_of_a_host(
    server: RawServer, account: ExchangeAccount
) -> None:
    server.clock_offset_ms = -7000
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(get_gateway(account).now_ms()))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (len(found), server.time_requests) == (4, 1)
    assert all(abs(now_ms + 7000 - clock.now_ms()) < 2000 for now_ms in found)


def test_server_time_ms__asks_every_time(server: RawServer, exchange: Gateway) -> None:
    exchange.server_time_ms()
    exchange.server_time_ms()
    assert server.time_requests == 2


@pytest.mark.parametrize(
    "behavior", [close, answer(503), answer(200, {}), answer(200, {"serverTime": "soon"})]
)
def test_calls__without_the_exchanges_time_nothing_is_sent(
    server: RawServer, exchange: Gateway, behavior: Behavior
) -> None:
    server.time_behavior = behavior
    server.then(answer(200, binance.canceled()))
    for ask in (cancel, read):
        assert type(error_of(ask, exchange)) is NotSent
    assert server.received == []


STALE = answer(
    400, refusal(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
)


def test_reads__a_refused_timestamp_is_measured_anew_and_asked_once_more(
    server: RawServer, exchange: Gateway
) -> None:
    exchange.now_ms()
    server.clock_offset_ms = 90_000
    server.then(STALE, answer(200, binance.queried()))
    assert read(exchange).exchange_order_id == "28"
    stamps = [int(request.parameters["timestamp"]) for request in server.received]
    assert 89_000 < stamps[1] - stamps[0] < 95_000
    server.then(STALE)
    assert type(error_of(read, exchange)) is NotSent
    assert len(server.received) == 4


@pytest.mark.parametrize("call", ["place", "cancel"])
def test_place_and_cancel__a_refused_timestamp_is_not_retried_but_measured_anew(
    server: RawServer, exchange: Gateway, call: str
) -> None:
    exchange.now_ms()
    server.then(STALE)
    error = error_of(CALLS[call], exchange)
    assert (type(error), error.code, len(server.received)) == (NotSent, -1021, 1)
    exchange.now_ms()
    assert server.time_requests == 2
