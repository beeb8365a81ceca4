"""Test claims and records that share a transaction: each is decided as if it were alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, connections, transaction

from exchanges import clock
from exchanges.models import Balance, Environment, ExchangeAccount, Reservation
from exchanges.trading_state import halt_trading
from orders import services
from orders.gate.decide import ClaimContext
from orders.models import EventType, ExchangeOrder, Order, OrderEvent, ReviewRule, RiskLimit
from orders.placing import claim_together
from orders.placing.claim import Claim
from orders.placing.claim_together import Wanted, claim_with_others
from orders.recording import changes
from orders.recording.changes import Change
from tests.fakes import FakeExchange
from tests.steps import make_intent, submit

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def two(exchange: FakeExchange) -> tuple[ExchangeAccount, ExchangeAccount]:
    """Return two accounts that have traded, so their next orders need nothing fetched."""
    names = ("demo", "other")
    accounts = [
        ExchangeAccount.objects.create(name=name, environment=Environment.SIMULATOR)
        for name in names
    ]
    for name in names:
        assert submit("before", account=name).status == "NEW"
    return accounts[0], accounts[1]


def wanted(account: ExchangeAccount, intent_id: str, **changes: Any) -> Wanted:
    context = ClaimContext(
        account_id=account.pk,
        environment=account.environment,
        exchange_now_ms=clock.now_ms(),
        signed_at=clock.monotonic(),
        started_at=clock.now(),
        fetched=frozenset(),
    )
    return Wanted(make_intent(intent_id, account=account.name, **changes), context, None)


def claim_all(*group: Wanted) -> list[str | None]:
    """Claim as one. Return the intents of the claims, None for each that was left out."""
    found: list[str | None] = []
    for claimed in claim_together._claim_together(group):
        assert claimed is None or isinstance(claimed, Claim)
        found.append(claimed.order.intent_id if claimed else None)
    return found


def alone(one: Wanted) -> Claim | Order:
    return claim_with_others(one.intent, one.context, None)


def transactions(table: str) -> int:
    """Return how many transactions have written the rows that this test is about."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(DISTINCT xmin::text) FROM {table}")
        return int(cursor.fetchone()[0])


def test_claims__of_several_accounts_share_one_transaction(
    two: tuple[ExchangeAccount, ExchangeAccount],
) -> None:
    demo, other = two
    before = transactions("orders_order")
    group = [wanted(other, "i-1"), wanted(demo, "i-1"), wanted(demo, "i-2", side="SELL")]
    assert claim_all(*group) == ["i-1", "i-1", "i-2"]
    assert transactions("orders_order") == before + 1
    stored = Order.objects.exclude(intent_id="before")
    assert set(stored.values_list("status", "attempt", "version")) == {("PENDING_NEW", 1, 0)}
    assert ExchangeOrder.objects.filter(order__in=stored, stage_us__len=1).count() == 3
    assert Reservation.objects.filter(reference__in=client_ids(stored)).count() == 3
    for order in stored:
        kinds = [event.event_type for event in order.events.all()]
        assert kinds == [EventType.CREATED, EventType.CLAIMED]
        assert order.next_check_at is not None, "the sweep would continue if the sender died"


def client_ids(orders: Any) -> list[str]:
    rows = ExchangeOrder.objects.filter(order__in=orders)
    return list(rows.values_list("client_order_id", flat=True))


@pytest.mark.parametrize(
    "changes",
    [
        {"quantity": "50"},
        {"quantity": "0.0000001"},
        {"symbol": "NOPEUSDT"},
        {"submitted_at": "2020-01-01T00:00:00Z"},
        {"symbol": "ETHUSDT", "price": "2000"},
    ],
    ids=["too dear", "rounds to zero", "unknown symbol", "too late", "history is not read"],
)
def test_claims__one_that_is_not_plain_is_left_out(
    two: tuple[ExchangeAccount, ExchangeAccount], changes: dict[str, str]
) -> None:
    demo, other = two
    group = [wanted(demo, "i-1"), wanted(demo, "odd", **changes), wanted(other, "i-2")]
    assert claim_all(*group) == ["i-1", None, "i-2"]
    assert not Order.objects.filter(intent_id="odd").exists()


def test_claims__known_and_early_canceled_intents_are_left_out(
    two: tuple[ExchangeAccount, ExchangeAccount],
) -> None:
    demo, _ = two
    services.remember_cancel(account=demo, intent_id="early", requested_by="bot", reason="")
    group = [wanted(demo, "before"), wanted(demo, "early"), wanted(demo, "i-1")]
    assert claim_all(*group) == [None, None, "i-1"]
    known = alone(group[0])
    assert isinstance(known, Order)
    assert known.status == "NEW"
    early = alone(group[1])
    assert isinstance(early, Order)
    assert early.status == "CANCELED"


def test_claims__a_halt_closes_the_gate_for_its_account_only(
    two: tuple[ExchangeAccount, ExchangeAccount],
) -> None:
    demo, other = two
    halt_trading(account=demo, reason="drill", actor="eva")
    assert claim_all(wanted(demo, "i-1"), wanted(other, "i-1")) == [None, "i-1"]
    halt_trading(account=None, reason="drill", actor="eva")
    assert claim_all(wanted(demo, "i-2"), wanted(other, "i-2")) == [None, None]


def test_claims__one_that_needs_a_second_person_is_left_out_and_held(
    two: tuple[ExchangeAccount, ExchangeAccount],
) -> None:
    demo, other = two
    ReviewRule.objects.create(kind="order", account=demo, notional_above=Decimal(100))
    dear = wanted(demo, "dear")  # 0.01 at 50,000
    assert claim_all(dear, wanted(other, "i-1")) == [None, "i-1"]
    held = alone(dear)
    assert isinstance(held, Order)
    assert held.status == "HELD"
    assert not ExchangeOrder.objects.filter(order=held).exists()


def test_claims__the_same_intent_twice_is_claimed_once(
    two: tuple[ExchangeAccount, ExchangeAccount],
) -> None:
    """The unique intent fails the group, so nothing of it is stored, and each goes alone."""
    demo, other = two
    group = [wanted(demo, "i-1"), wanted(demo, "i-1"), wanted(other, "i-2")]
    assert claim_all(*group) == [None, None, None]
    assert Order.objects.exclude(intent_id="before").count() == 0
    first, second, third = [alone(one) for one in group]
    assert isinstance(first, Claim)
    assert isinstance(second, Order)
    assert second.pk == first.order.pk
    assert isinstance(third, Claim)


def test_claims__money_for_one_is_not_spent_by_two(
    two: tuple[ExchangeAccount, ExchangeAccount],
) -> None:
    demo, other = two
    Balance.objects.filter(account=demo, asset="USDT").update(free=Decimal(800), reserved=0)
    group = [wanted(demo, "i-1"), wanted(demo, "i-2"), wanted(other, "i-3")]
    assert claim_all(*group) == ["i-1", None, "i-3"]
    assert Balance.objects.get(account=demo, asset="USDT").reserved == Decimal(500)
    assert not Order.objects.filter(intent_id="i-2").exists()


def test_claims__a_limit_that_counts_sees_the_orders_one_after_the_other(
    two: tuple[ExchangeAccount, ExchangeAccount],
) -> None:
    demo, other = two
    RiskLimit.objects.create(account=demo, max_open_orders=2)  # one of them is open
    group = [wanted(demo, "i-1"), wanted(demo, "i-2"), wanted(other, "i-3")]
    assert claim_all(*group) == ["i-1", None, "i-3"]
    denied = alone(group[1])
    assert isinstance(denied, Order)
    assert (denied.status, denied.reason_code) == ("DENIED", "LIMIT_OPEN_ORDERS")


def test_claims__a_locked_balance_holds_up_the_others_for_a_moment_only(
    two: tuple[ExchangeAccount, ExchangeAccount],
) -> None:
    demo, other = two
    locked, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                Balance.objects.select_for_update().get(account=demo, asset="USDT")
                locked.set()
                assert go_on.wait(20)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(hold)
        assert locked.wait(20)
        began = clock.monotonic()
        assert claim_all(wanted(demo, "i-1"), wanted(other, "i-2")) == [None, None]
        assert clock.monotonic() - began < 4, "the session's own limit is 5 s"
        assert isinstance(alone(wanted(other, "i-2")), Claim)
        go_on.set()
        held.result(20)


@pytest.mark.long
def test_claims__many_threads_place_every_order_once(
    two: tuple[ExchangeAccount, ExchangeAccount], exchange: FakeExchange
) -> None:
    def place(number: int) -> str:
        try:
            account = two[number % 2].name
            return str(submit(f"i-{number % 60}", account=account, quantity="0.001").status)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(place, range(120)))
    assert set(statuses) <= {"NEW", "PENDING_NEW"}, "known intents may be on their way"
    orders = Order.objects.exclude(intent_id="before")
    assert set(orders.values_list("status", flat=True)) == {"NEW"}
    assert orders.count() == 60
    assert all(exchange.accepted(name) == 1 for name in client_ids(orders))


# -- records ---------------------------------------------------------------------------------------


def note(order: Order, details: str) -> changes.WantedChange:
    change = Change(
        fields={"reason": details},
        event_type=EventType.WAITING,
        actor="test",
        details={"note": details},
    )
    return changes.wanted_change(order, change)


def test_records__share_one_transaction_and_a_stale_one_is_left_out(
    two: tuple[ExchangeAccount, ExchangeAccount],
) -> None:
    fresh = submit("i-1")
    stale = submit("i-2")
    third = submit("i-3", account="other")
    Order.objects.filter(pk=stale.pk).update(version=stale.version + 1)
    before = transactions("orders_orderevent")
    group = [note(fresh, "a"), note(stale, "b"), note(third, "c")]
    assert changes._store_together(group) == [True, False, True]
    assert transactions("orders_orderevent") == before + 1
    notes = OrderEvent.objects.filter(event_type=EventType.WAITING)
    assert sorted(event.details["note"] for event in notes) == ["a", "c"]
    assert (fresh.reason, stale.reason, third.reason) == ("a", "", "c")
    assert Order.objects.get(pk=fresh.pk).version == fresh.version


def test_records__one_that_can_not_be_stored_leaves_all_to_be_stored_alone(
    two: tuple[ExchangeAccount, ExchangeAccount],
) -> None:
    good, bad = submit("i-1"), submit("i-2")
    version = good.version
    group = [note(good, "a"), note(bad, "b")]
    broken = Change(fields={"status": "NONE"}, event_type=EventType.WAITING, actor="test")
    group[1] = changes.wanted_change(bad, broken)
    assert changes._store_together(group) == [None, None]
    assert (good.version, good.reason) == (version, ""), "as stored, for the next try"
    assert Order.objects.get(pk=good.pk).version == version
    assert changes.change_order(good, lambda _: group[0].change).reason == "a"
