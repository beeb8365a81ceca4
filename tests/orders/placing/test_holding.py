"""Orders that wait for a second person: held with their money, released, rejected or expired."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from threading import Barrier
from typing import Any

import pytest
from django.db import connection
from pytest_django.fixtures import Settings

from backoffice.people.models import JournalEntry
from exchanges import clock, trading_state
from exchanges.models import Balance, ExchangeAccount, Reservation
from orders import services, sweep
from orders.gate.review import ReviewThreshold, review_reason
from orders.models import EventType, Order, ReviewRule
from orders.placing.holding import expire_held, reject_held, release_held
from orders.placing.submit import place_order
from tests.harness.simulator import Simulator
from tests.steps import make_intent, record, submit


@pytest.fixture(autouse=True)
def _market(request: pytest.FixtureRequest) -> None:
    if "account" in request.fixturenames:
        request.getfixturevalue("simulator").control.set_price("BTCUSDT", "60000")


def rule(**fields: Any) -> ReviewRule:
    return ReviewRule.objects.create(kind="order", **fields)


def reserved(asset: str = "USDT") -> Decimal:
    found: Decimal = Balance.objects.get(asset=asset).reserved
    return found


def event_types(order: Order) -> list[str]:
    return [event.event_type for event in order.events.order_by("id")]


def release(order: Order, by: str = "carl") -> bool:
    return release_held(order, released_by=by, reason="looks right", seen_version=order.version)


# -- the rule -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("above", "is_held"), [(None, True), ("499.99", True), ("500", False), ("501", False)]
)
def test_review_reason__compares_the_value(above: str | None, is_held: bool) -> None:
    amounts = make_intent().amounts  # 0.01 at 50,000
    found = ReviewThreshold(1, None if above is None else Decimal(above))
    assert bool(review_reason([found], amounts, None)) is is_held


def test_review_reason__holds_an_order_of_unknown_value() -> None:
    amounts = make_intent(order_type="MARKET", price=None).amounts
    assert "unknown" in review_reason([ReviewThreshold(1, Decimal(10**9))], amounts, None)
    assert review_reason([], amounts, None) == ""


# -- held -----------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_held__is_recorded_with_its_money_and_sent_nowhere(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    rule(account=account, symbol="BTCUSDT", notional_above=Decimal(100))
    order = submit()
    order.refresh_from_db()
    assert (order.status, order.verdict, order.attempt) == ("HELD", "HELD", 0)
    assert order.reason == f"rule {ReviewRule.objects.get().pk}: 500 is above 100"
    assert order.next_check_at == order.place_by
    assert reserved() == Decimal(500)
    assert event_types(order) == ["CREATED", "HELD"]
    assert simulator.control.truth().orders() == []
    assert submit().pk == order.pk  # the same intent again is the same order
    assert place_order(order.pk, is_due=True).status == "HELD"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "fields", [{"symbol": "ETHUSDT"}, {"strategy": "other"}, {"notional_above": Decimal(500)}]
)
def test_held__is_no_order_that_the_rule_does_not_name(
    account: ExchangeAccount, fields: dict[str, Any]
) -> None:
    rule(**fields)
    assert submit().status == "NEW"


@pytest.mark.django_db
def test_held__is_a_recorded_order_too(account: ExchangeAccount) -> None:
    order = record()
    rule()
    assert place_order(order.pk, is_due=True).status == "HELD"
    assert reserved() == Decimal(500)


# -- the ways out ---------------------------------------------------------------------------------


@pytest.mark.django_db
def test_release__sends_exactly_this_order_after_the_gate(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    rule()
    order = submit()
    assert release(order)
    order.refresh_from_db()
    assert (order.status, reserved()) == ("CREATED", Decimal(0))
    assert place_order(order.pk, is_due=True).status == "NEW"
    assert event_types(order)[:4] == ["CREATED", "HELD", "RELEASED", "CLAIMED"]
    entry = JournalEntry.objects.get(verb="release_order")
    assert (entry.person, entry.reason, entry.before["price"]) == ("carl", "looks right", "50000")
    assert len(simulator.control.truth().orders()) == 1


@pytest.mark.django_db
def test_release__lets_the_gate_run_again(account: ExchangeAccount, simulator: Simulator) -> None:
    rule()
    order = submit()
    trading_state.halt_trading(account=account, reason="wild", actor="exchange")
    assert release(order)
    after = place_order(order.pk, is_due=True)
    assert (after.status, reserved()) == ("DENIED", Decimal(0))
    assert simulator.control.truth().orders() == []


@pytest.mark.django_db
def test_release__is_bound_to_the_order_that_was_seen(account: ExchangeAccount) -> None:
    rule()
    order = submit()
    assert not release_held(order, released_by="carl", reason="r", seen_version=order.version + 1)
    assert not reject_held(order, rejected_by="carl", reason="r", seen_version=order.version + 1)
    with pytest.raises(ValueError, match="reason"):
        release_held(order, released_by="carl", reason=" ", seen_version=order.version)
    order.refresh_from_db()
    assert (order.status, reserved()) == ("HELD", Decimal(500))


@pytest.mark.django_db
def test_reject__closes_the_order_and_frees_its_money(account: ExchangeAccount) -> None:
    rule()
    order = submit()
    assert reject_held(order, rejected_by="carl", reason="too big", seen_version=order.version)
    order.refresh_from_db()
    assert (order.status, order.reason_code, order.reason) == (
        "DENIED",
        "REVIEW_REJECTED",
        "too big",
    )
    assert reserved() == 0
    assert not Reservation.objects.exists()
    assert JournalEntry.objects.filter(verb="reject_order").count() == 1


@pytest.mark.django_db
def test_cancel__withdraws_a_held_order(account: ExchangeAccount) -> None:
    rule()
    first, second = submit("i-1"), submit("i-2", price="49000")
    services.cancel_order(account="demo", intent_id="i-1", requested_by="bot", reason="r")
    services.cancel_orders([second.pk], requested_by="bot", reason="r", give_up_at=0.0)
    assert set(Order.objects.values_list("status", flat=True)) == {"CANCELED"}
    assert reserved() == 0
    first.refresh_from_db()
    assert not release(first)


@pytest.mark.django_db
def test_deadline__closes_a_held_order(
    account: ExchangeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule()
    order = submit()
    assert expire_held(order).status == "HELD"  # too early
    assert order.place_by is not None
    late = order.place_by + timedelta(seconds=1)
    monkeypatch.setattr(clock, "now", lambda: late)
    assert not release(order)
    sweep.resolve_unconfirmed()
    order.refresh_from_db()
    assert (order.status, order.reason_code) == ("NOT_PLACED", "PAST_DEADLINE")
    assert order.next_check_at is None
    assert reserved() == 0


@pytest.mark.django_db
def test_a_released_order__does_not_wait_again(account: ExchangeAccount) -> None:
    rule()
    order = submit()
    assert release(order)
    rule(symbol="BTCUSDT")
    assert place_order(order.pk, is_due=True).status == "NEW"


@pytest.mark.django_db
def test_strategy_of_a_person__is_refused_from_a_bot() -> None:
    from orders.intents import InvalidIntent

    with pytest.raises(InvalidIntent, match="strategy: person:"):
        make_intent(strategy="person:anna")


# -- races ----------------------------------------------------------------------------------------


def cancel(order: Order) -> bool:
    after = services.cancel_order(
        account="demo", intent_id=order.intent_id, requested_by="bot", reason="r"
    )
    return after.status == "CANCELED"


def reject(order: Order) -> bool:
    return reject_held(order, rejected_by="rita", reason="no", seen_version=order.version)


def halt(order: Order) -> bool:
    trading_state.halt_trading(account=order.account, reason="wild", actor="exchange")
    return False


def expire(order: Order) -> bool:
    return expire_held(order).status == "NOT_PLACED"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("rival", [release, cancel, reject, halt, expire])
def test_race__has_one_outcome_and_gives_the_money_back(
    account: ExchangeAccount,
    simulator: Simulator,
    settings: Settings,
    rival: Callable[[Order], bool],
) -> None:
    rule()
    barrier = Barrier(2)

    def run(act: Callable[[Order], bool], order: Order) -> bool:
        mine = Order.objects.select_related("account").get(pk=order.pk)
        barrier.wait(timeout=10)
        try:
            return act(mine)
        finally:
            connection.close()

    for number in range(6):
        order = submit(f"race-{number}")
        if order.status == "DENIED":  # halted by the round before
            break
        with ThreadPoolExecutor(2) as pool:
            done = [
                future.result(20)
                for future in (pool.submit(run, release, order), pool.submit(run, rival, order))
            ]
        order.refresh_from_db()
        types = event_types(order)
        ways_out = {"RELEASED", "REVIEW_REJECTED", "WITHDRAWN", "NOT_PLACED"}
        if rival is cancel and "RELEASED" in types:
            # The cancel came after the release and withdrew the released order.
            assert [name for name in types if name in ways_out] in (
                ["RELEASED"],
                ["RELEASED", "WITHDRAWN"],
            )
        else:
            assert sum(name in ways_out for name in types) == 1, types
            assert sum(done) == 1
        assert not Reservation.objects.filter(reference=f"held-{order.pk}").exists()
        assert reserved() == 0


def test_event_types__name_every_way_out() -> None:
    assert {"HELD", "RELEASED", "REVIEW_REJECTED"} <= set(EventType.values)


@pytest.mark.django_db
def test_cancel__of_a_held_order_is_finished_by_the_sweep(account: ExchangeAccount) -> None:
    """The stop page records the cancels of all orders, and its person may close it then."""
    rule()
    order = submit(place_within_seconds=3600)
    services.request_cancels([order.pk], requested_by="eva", reason="stop everything")
    assert not release(order), "it is not the order that the second person saw"

    sweep.resolve_unconfirmed()

    order.refresh_from_db()
    assert (order.status, reserved()) == ("CANCELED", Decimal(0))
