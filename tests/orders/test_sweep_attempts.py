"""The sweep resolves every open attempt, and looks in every source before one counts as absent."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from exchanges import clock
from exchanges.binance.registry import get_gateway
from exchanges.models import AccountSync, ExchangeAccount, Lease, Reservation
from orders.models import ExchangeOrder, Fill, Order, ReconciliationBreak
from orders.reconciliation.open_orders import sync_open_orders
from orders.sweep import resolve_unconfirmed
from tests import steps
from tests.factories import ExchangeAccountFactory
from tests.fakes import FakeExchange

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("without_limits")]
D = Decimal


@pytest.fixture
def exchange() -> Iterator[FakeExchange]:
    with FakeExchange().installed() as exchange:
        yield exchange


@pytest.fixture
def owner(exchange: FakeExchange) -> ExchangeAccount:
    account: ExchangeAccount = ExchangeAccountFactory(name="demo")
    return account


class Time:
    """Our clock, which a test moves on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = timedelta()
        now, now_ms = clock.now, clock.now_ms
        monkeypatch.setattr(clock, "now", lambda: now() + self.ahead)
        monkeypatch.setattr(
            clock, "now_ms", lambda: now_ms() + int(self.ahead.total_seconds() * 1000)
        )

    def pass_by(self, seconds: float) -> None:
        self.ahead += timedelta(seconds=seconds)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


FENCE = 21.0  # recvWindow, engine time-out and read lag, and one second


def submit(intent_id: str = "i-1", **changes: Any) -> Order:
    return steps.submit(intent_id, **{"place_within_seconds": 600, **changes})


def sweep(order: Order) -> Order:
    Order.objects.filter(next_check_at__isnull=False).update(next_check_at=clock.now())
    Lease.objects.all().delete()  # An account rests after a failed run.
    AccountSync.objects.update(last_synced_at=clock.now(), balances_synced_at=clock.now())
    resolve_unconfirmed()
    order.refresh_from_db()
    return order


def attempts(order: Order) -> list[ExchangeOrder]:
    return list(ExchangeOrder.objects.filter(order=order).order_by("attempt"))


def kinds() -> set[str]:
    return set(ReconciliationBreak.objects.values_list("kind", flat=True))


def held_absent_with_a_second_attempt(exchange: FakeExchange, time: Time) -> Order:
    """Leave attempt 1 at the exchange, hidden and held absent, and attempt 2 without an answer."""
    exchange.lose_answer("place", executed=True)
    exchange.hide_next(3600)
    order = submit()
    time.pass_by(FENCE)
    exchange.lose_answer("place", executed=True)
    exchange.hide_next(3600)
    order = sweep(order)
    first, second = attempts(order)
    assert (first.outcome, second.outcome, order.status) == ("ABSENT", "UNKNOWN", "PENDING_NEW")
    return order


def show(exchange: FakeExchange, attempt: ExchangeOrder) -> None:
    exchange.hide(attempt.client_order_id, 0)


@pytest.mark.usefixtures("owner")
def test_sweep__the_first_attempt_filled_while_the_second_has_no_answer(
    exchange: FakeExchange, owner: ExchangeAccount, time: Time
) -> None:
    """The second one is found, canceled, and a break stands. No sync stumbles over it."""
    order = held_absent_with_a_second_attempt(exchange, time)
    first, second = attempts(order)
    show(exchange, first)
    exchange.fill(first.client_order_id)
    sync_and_ask(owner, first)
    order.refresh_from_db()
    assert (order.status, order.open_attempts) == ("FILLED", 1)
    assert order.next_check_at is not None
    show(exchange, second)
    sync_open_orders(owner)
    order = sweep(order)
    assert exchange.status(second.client_order_id) == "CANCELED"
    assert (order.status, order.open_attempts, order.next_check_at) == ("FILLED", 0, None)
    assert order.filled_quantity == D("0.01") == sum(fill.quantity for fill in Fill.objects.all())
    assert {"LATE_EVIDENCE", "DOUBLE_PLACEMENT"} <= kinds()
    assert sync_open_orders(owner)["asked"] == 0


def sync_and_ask(owner: ExchangeAccount, attempt: ExchangeOrder) -> None:
    """Record what a query says of the attempt, as the history or the stream would."""
    from orders.reconciliation.adopt import apply_reports
    from orders.reconciliation.counts import RunCounts

    report = get_gateway(owner).fetch_order(
        symbol=attempt.symbol, client_order_id=attempt.client_order_id
    )
    apply_reports(owner, [report], RunCounts())


@pytest.mark.usefixtures("owner")
def test_sweep__the_first_attempt_canceled_while_the_second_has_no_answer(
    exchange: FakeExchange, owner: ExchangeAccount, time: Time
) -> None:
    """The order waits for the second one. Proven absent, it releases its money."""
    exchange.lose_answer("place", executed=True)
    exchange.hide_next(3600)
    order = submit()
    time.pass_by(FENCE)
    exchange.lose_answer("place", executed=False)
    order = sweep(order)
    first, second = attempts(order)
    show(exchange, first)
    sync_and_ask(owner, first)
    order.refresh_from_db()
    assert (order.status, order.open_attempts) == ("NEW", 1)
    exchange.cancel(first.client_order_id)
    sync_and_ask(owner, first)
    order.refresh_from_db()
    assert (order.status, order.open_attempts) == ("PENDING_NEW", 1)
    time.pass_by(FENCE)
    order = sweep(order)
    assert (order.status, order.open_attempts, order.next_check_at) == ("CANCELED", 0, None)
    assert attempts(order)[1].outcome == "ABSENT"
    assert not Reservation.objects.filter(reference=second.client_order_id).exists()
    assert not Reservation.objects.filter(due_at=None).exists()


@pytest.mark.usefixtures("owner")
def test_sweep__two_live_attempts_end_with_the_younger_one_canceled(
    exchange: FakeExchange, owner: ExchangeAccount, time: Time
) -> None:
    order = held_absent_with_a_second_attempt(exchange, time)
    first, second = attempts(order)
    show(exchange, first)
    show(exchange, second)
    sync_open_orders(owner)
    order = sweep(order)
    assert exchange.status(first.client_order_id) == "NEW"
    assert exchange.status(second.client_order_id) == "CANCELED"
    assert (order.status, order.open_attempts) == ("NEW", 0)
    assert "DOUBLE_PLACEMENT" in kinds()


# -- amended by hand while unconfirmed ------------------------------------------------------------


@pytest.mark.usefixtures("owner")
@pytest.mark.parametrize("is_seen_before", [False, True])
def test_sweep__an_order_amended_while_unconfirmed_is_found_and_not_sent_again(
    exchange: FakeExchange, owner: ExchangeAccount, time: Time, is_seen_before: bool
) -> None:
    exchange.lose_answer("place", executed=True)
    order = submit()
    name = steps.client_id(order)
    exchange.amend_by_hand(name, "0.004", "web_1")
    if is_seen_before:
        ExchangeOrder.objects.update(outcome="IN_FLIGHT")  # the sender was killed
        sync_open_orders(owner)
        assert Order.objects.filter(is_external=True).count() == 1
    time.pass_by(FENCE)
    order = sweep(order)
    assert exchange.status("web_1") == "NEW"
    assert len(exchange.calls_of("place")) == 1
    attempt = steps.attempt_of(order)
    assert (order.status, Order.objects.count()) == ("NEW", 1)
    assert (attempt.client_order_id, attempt.amended_client_order_id) == (name, "web_1")
    exchange.fill("web_1")
    sync_open_orders(owner)
    order = sweep(order)
    assert (order.status, order.filled_quantity) == ("FILLED", D("0.004"))
    assert sum(fill.quantity for fill in Fill.objects.filter(order=order)) == D("0.004")


@pytest.mark.usefixtures("owner")
@pytest.mark.parametrize(
    "changes", [{"price": "49000"}, {"quantity": "0.01"}, {"side": "SELL", "price": "70000"}]
)
def test_sweep__a_strangers_order_with_other_figures_is_not_taken_for_ours(
    exchange: FakeExchange, owner: ExchangeAccount, time: Time, changes: dict[str, str]
) -> None:
    exchange.lose_answer("place", executed=False)
    order = submit()
    exchange.place_by_hand(owner, "web_1", **{"quantity": "0.004", **changes})
    time.pass_by(FENCE)
    order = sweep(order)
    assert [attempt.outcome for attempt in attempts(order)] == ["ABSENT", "ACKNOWLEDGED"]


@pytest.mark.usefixtures("owner")
def test_sync__an_order_amended_while_unconfirmed_is_ours_at_once(
    exchange: FakeExchange, owner: ExchangeAccount
) -> None:
    exchange.lose_answer("place", executed=True)
    order = submit()
    exchange.amend_by_hand(steps.client_id(order), "0.004", "web_1")
    sync_open_orders(owner)
    order.refresh_from_db()
    assert (order.status, Order.objects.count()) == ("NEW", 1)
    assert "DIFFERENT_ORDER" in kinds()


# -- queries that lag longer than we allow for ---------------------------------------------------


@pytest.mark.usefixtures("owner")
def test_sweep__an_order_that_only_the_list_of_open_orders_shows_is_not_absent(
    exchange: FakeExchange, time: Time
) -> None:
    exchange.lose_answer("place", executed=True)
    order = submit()
    lag(exchange, order=60, allOrders=60)
    time.pass_by(FENCE)
    order = sweep(order)
    assert (order.status, len(exchange.calls_of("place"))) == ("NEW", 1)


@pytest.mark.usefixtures("owner")
def test_sweep__an_order_of_which_only_a_trade_shows_is_not_absent(
    exchange: FakeExchange, time: Time
) -> None:
    exchange.lose_answer("place", executed=True)
    order = submit(order_type="MARKET", price=None, time_in_force=None)
    lag(exchange, order=60, allOrders=60, openOrders=60)
    time.pass_by(FENCE)
    order = sweep(order)
    assert (order.status, len(exchange.calls_of("place"))) == ("PENDING_NEW", 1)
    time.pass_by(600)
    order = sweep(order)
    assert (order.status, len(exchange.calls_of("place"))) == ("FILLED", 1)


def lag(exchange: FakeExchange, **seconds: float) -> None:
    exchange.simulator.set_lags(seconds)


def test_sync__fresh_orders_that_no_query_shows_do_not_halt_the_account(
    exchange: FakeExchange, owner: ExchangeAccount, time: Time
) -> None:
    """With 20 s of lag, two orders of 8 s are asked for again before anyone calls it a reset."""
    submit("i-1"), submit("i-2")
    lag(exchange, order=20, openOrders=20, allOrders=20)
    time.pass_by(8)
    sync_open_orders(owner)
    owner.refresh_from_db()
    assert owner.trading_state == "ACTIVE"
    time.pass_by(13)
    assert sync_open_orders(owner)["asked"] == 0
    exchange.wipe()
    exchange.gateway(owner)
    lag(exchange, order=0, openOrders=0, allOrders=0)
    sync_open_orders(owner)
    owner.refresh_from_db()
    assert owner.trading_state == "HALTED"


# -- many checks ----------------------------------------------------------------------------------


def test_sweep__a_weekend_without_an_answer_ends_nothing(
    exchange: FakeExchange, owner: ExchangeAccount, time: Time
) -> None:
    exchange.lose_answer("place", executed=True)
    order = submit()
    Order.objects.update(check_count=32_767)
    exchange.answer("fetch_order", 503)
    order = sweep(order)
    assert order.check_count == 32_768
    Order.objects.update(check_count=10**9)
    exchange.answer("fetch_order", 503)
    assert sweep(order).check_count == 1_000_000
    assert sweep(order).status == "NEW"
