"""Check reservations against stored balances: taken orders and new balances in every order."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connections, transaction

from exchanges import clock
from exchanges.db import batch_writes
from exchanges.mirror import reservations
from exchanges.mirror.balances import apply_account, apply_balances
from exchanges.models import Balance, ExchangeAccount, Reservation
from exchanges.types import AccountReport, BalanceReport
from tests.factories import BalanceFactory, ExchangeAccountFactory
from tests.fakes import FakeExchange
from tests.harness.locks import is_anybody_blocked
from tests.harness.waiting import wait_for

pytestmark = pytest.mark.django_db
D = Decimal
TAKEN_AT = clock.now().replace(microsecond=0)


@pytest.fixture
def owner() -> ExchangeAccount:
    owner = ExchangeAccountFactory()
    BalanceFactory(
        account=owner, asset="USDT", free=D(100), updated_at=TAKEN_AT - timedelta(hours=1)
    )
    return owner


def reserve(
    owner: ExchangeAccount, amount: str, reference: str = "bo-1", asset: str = "USDT"
) -> bool:
    with transaction.atomic():
        writes = reservations.reserve(
            account_id=owner.pk,
            asset=asset,
            reference=reference,
            amount=D(amount),
            after=None,
        )
        written = batch_writes.write(*writes)
    assert written in ([0, 0], [1, 1])
    return bool(written[0])


def reserved(owner: ExchangeAccount) -> Decimal:
    """Return the reserved amount, which must be the sum of the reservations."""
    row = Balance.objects.get(account=owner, asset="USDT")
    total = sum((r.amount for r in Reservation.objects.filter(account=owner)), D(0))
    assert row.reserved == total
    return total


def figure(owner: ExchangeAccount, free: str, at: datetime, locked: str = "0") -> None:
    apply_balances(owner, [BalanceReport("USDT", D(free), D(locked), at)])


def test_reserve__up_to_the_last_digit_of_what_is_free(owner: ExchangeAccount) -> None:
    assert reserve(owner, "60")
    assert not reserve(owner, "40.000000000000000001", "bo-2")
    assert reserve(owner, "40", "bo-3")
    assert not reserve(owner, "0.000000000000000001", "bo-4")
    assert reserved(owner) == 100


def test_reserve__nothing_of_an_asset_that_is_not_known(owner: ExchangeAccount) -> None:
    assert not reserve(owner, "1", asset="BTC")


def test_release__gives_back_once(owner: ExchangeAccount) -> None:
    reserve(owner, "60")
    reserve(owner, "10", "bo-2")
    for _ in range(2):
        reservations.release(account_id=owner.pk, reference="bo-1")
    assert reserved(owner) == 10


def taken(owner: ExchangeAccount) -> None:
    with transaction.atomic():
        batch_writes.write(
            reservations.hand_over(account_id=owner.pk, reference="bo-1", at=TAKEN_AT)
        )


def canceled(owner: ExchangeAccount) -> None:
    reservations.release(account_id=owner.pk, reference="bo-1")


def old_figure(owner: ExchangeAccount) -> None:
    figure(owner, "90", TAKEN_AT - timedelta(milliseconds=1))


def new_figure(owner: ExchangeAccount) -> None:
    figure(owner, "40", TAKEN_AT, locked="60")


def sweep(_: ExchangeAccount) -> None:
    reservations.release_shown_everywhere()


Step = Callable[[ExchangeAccount], None]


@pytest.mark.parametrize(
    ("steps", "left"),
    [
        ([taken], 60),
        ([old_figure], 60),
        ([new_figure], 60),  # it may or may not show an order that we have heard nothing of
        ([taken, old_figure], 60),
        ([old_figure, taken], 60),
        ([taken, new_figure], 0),
        ([new_figure, taken], 60),  # the figure was there first: the sweep drops it
        ([new_figure, taken, sweep], 0),
        ([taken, sweep], 60),
        ([taken, old_figure, sweep], 60),
        ([new_figure, sweep], 60),
        ([taken, new_figure, taken], 0),
        ([taken, canceled], 0),
        ([canceled], 0),
        ([old_figure, canceled], 0),
        *(
            ([*steps, sweep], 0)
            for steps in itertools.permutations([taken, old_figure, new_figure])
        ),
        *(
            (list(steps), 0)
            for steps in itertools.permutations([taken, canceled, new_figure, old_figure])
        ),
    ],
)
def test_hand_over__only_a_figure_since_the_order_was_taken_frees_the_money(
    owner: ExchangeAccount, steps: list[Step], left: int
) -> None:
    reserve(owner, "60")
    for step in steps:
        step(owner)
    assert reserved(owner) == left


def test_hand_over__an_unchanged_but_newer_figure_counts(owner: ExchangeAccount) -> None:
    """A sale may leave the balance of another asset unchanged, so its time decides."""
    reserve(owner, "60")
    taken(owner)
    figure(owner, "100", TAKEN_AT + timedelta(seconds=1))
    assert reserved(owner) == 0


def test_release_shown_everywhere__names_the_accounts_that_still_wait(
    owner: ExchangeAccount,
) -> None:
    reserve(owner, "60")
    assert reservations.release_shown_everywhere() == set()
    taken(owner)
    assert reservations.release_shown_everywhere() == {owner.pk}
    Balance.objects.filter(account=owner).update(
        updated_at=TAKEN_AT
    )  # as if both had happened in the same moment
    assert reservations.release_shown_everywhere() == set()
    assert reserved(owner) == 0


@pytest.mark.django_db(transaction=True)
def test_reserve__of_two_hundred_at_once_as_many_as_the_balance_pays_for() -> None:
    owner = ExchangeAccountFactory()
    BalanceFactory(account=owner, asset="USDT", free=D(100))
    held: list[Decimal] = []

    def caller(number: int) -> int:
        try:
            won = 0
            for i in range(25):
                won += reserve(owner, "0.9", f"bo-{number}-{i}")
                held.append(Balance.objects.get(account=owner, asset="USDT").reserved)
            return won
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(caller, range(8))) == 111
    assert max(held) <= 100
    assert reserved(owner) == D("99.9")


# -- locks -----------------------------------------------------------------------------------------


def apply_message(owner: ExchangeAccount) -> None:
    apply_balances(owner, [BalanceReport(asset, D(5), D(0), clock.now()) for asset in ASSETS])


def apply_reading(owner: ExchangeAccount) -> None:
    """Store a reading that lists one asset. The other one becomes zero."""
    listed = BalanceReport("USDT", D(5), D(0), clock.now())
    apply_account(owner, AccountReport((listed,), clock.now()), asked_at=clock.now())


def release_both(owner: ExchangeAccount) -> None:
    reservations.release_all(account_id=owner.pk, references=ASSETS)


ASSETS = ["USDT", "BTC"]  # in the order of their keys, and against that of their names


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("change", [apply_message, apply_reading, release_both])
def test_balances__are_locked_in_the_order_of_their_assets(
    change: Callable[[ExchangeAccount], None],
) -> None:
    """Whoever waits for one balance holds none that another waits for, so no two block each other.

    Claims lock them in this order, too.
    """
    owner = ExchangeAccountFactory(name="demo")
    earlier = clock.now() - timedelta(hours=1)
    for asset in ASSETS:
        BalanceFactory(account=owner, asset=asset, free=D(9), updated_at=earlier)
        assert reserve(owner, "1", reference=asset, asset=asset)

    def run() -> None:
        try:
            change(owner)
        finally:
            connections.close_all()

    with FakeExchange().installed(), ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            Balance.objects.select_for_update().get(account=owner, asset="BTC")
            done = pool.submit(run)
            wait_for(lambda: done.done() or is_anybody_blocked())
            Balance.objects.select_for_update(nowait=True).get(account=owner, asset="USDT")
        done.result()
