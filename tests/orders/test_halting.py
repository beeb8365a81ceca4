"""A halt against a stream of claims that never breaks off."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from django.db import connection, connections, transaction

from exchanges.models import ExchangeAccount
from exchanges.services import halt_trading, mark_synced
from exchanges.types import Side
from orders.gate import GateFacts, read_facts
from tests.harness.waiting import wait_for

_WAITING = """
SELECT count(*) FROM pg_locks
 WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def waiting() -> int:
    with connection.cursor() as cursor:
        cursor.execute(_WAITING)
        return int(cursor.fetchone()[0])


def claim(account: str, *, begun: Event, go_on: Event) -> GateFacts:
    """What a claim reads and locks, until it is told to commit."""
    try:
        with transaction.atomic():
            facts = read_facts(
                account=account,
                symbol="BTCUSDT",
                side=Side.BUY,
                strategy="",
                intent_id="i",
                recovered_intent_ids=("", "", ""),
                remembered_client_order_id="",
            )
            assert facts is not None
            begun.set()
            assert go_on.wait(20)
            return facts
    finally:
        connections.close_all()


def apart(work: Callable[[], None]) -> None:
    try:
        work()
    finally:
        connections.close_all()


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite lets one transaction write at a time")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("of_everything", [True, False])
def test_halt_trading__comes_before_the_claims_that_come_later(account: ExchangeAccount, of_everything: bool) -> None:
    """The second claim overlaps the first, which the halt waits for: it must not slip in front."""
    begun, begun_late, go_on = Event(), Event(), Event()
    stopped = None if of_everything else account
    with ThreadPoolExecutor(3) as pool:
        early = pool.submit(claim, account.name, begun=begun, go_on=go_on)
        assert begun.wait(20)
        halt = pool.submit(apart, lambda: halt_trading(account=stopped, reason="drill", actor="eva"))
        wait_for(lambda: waiting() == 1, what="the halt waits for the claim that runs")
        late = pool.submit(claim, account.name, begun=begun_late, go_on=go_on)
        wait_for(lambda: waiting() == 2, what="the later claim waits for the halt")
        go_on.set()
        halt.result(20)
        halted = [
            facts.standing.everything_halted or facts.standing.trading_state == "HALTED"
            for facts in (early.result(20), late.result(20))
        ]
    assert halted == [False, True]


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite lets one transaction write at a time")
@pytest.mark.django_db(transaction=True)
def test_mark_synced__waits_for_no_later_claim(account: ExchangeAccount) -> None:
    begun, begun_late, go_on, go_on_late = Event(), Event(), Event(), Event()
    at = account.created_at
    with ThreadPoolExecutor(3) as pool:
        early = pool.submit(claim, account.name, begun=begun, go_on=go_on)
        assert begun.wait(20)
        mark = pool.submit(apart, lambda: mark_synced(account, at))
        wait_for(lambda: waiting() == 1, what="the mark waits for the claim that runs")
        late = pool.submit(claim, account.name, begun=begun_late, go_on=go_on_late)
        wait_for(lambda: waiting() == 2, what="the later claim waits for the mark")
        go_on.set()
        mark.result(20)
        early.result(20)
        go_on_late.set()
        assert late.result(20).last_synced_at == at
