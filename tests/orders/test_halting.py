"""Test a halt against a stream of claims that never ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from subprocess import PIPE, Popen
from threading import Event
from time import monotonic, sleep

import pytest
from django.db import connection, connections, transaction

from backoffice.local.postgres import PostgresServer
from exchanges.account_writes import mark_synced
from exchanges.models import Environment, ExchangeAccount, TradingHalt
from exchanges.scoped_halts import halt_scope
from exchanges.trading_state import NewerHalt, halt_trading, resume_trading, seen_state
from orders.gate.facts import GateSnapshot, facts_for
from tests.harness.waiting import wait_for
from tests.steps import make_intent

_WAITING = """
SELECT count(*) FROM pg_locks
 WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def waiting() -> int:
    with connection.cursor() as cursor:
        cursor.execute(_WAITING)
        return int(cursor.fetchone()[0])


def claim(account: str, *, begun: Event, go_on: Event) -> GateSnapshot:
    """Read and lock like a claim, until the test lets it commit."""
    try:
        with transaction.atomic():
            facts = facts_for(make_intent("i", account=account), Environment.SIMULATOR)
            begun.set()
            assert go_on.wait(20)
            return facts
    finally:
        connections.close_all()


def apart(work: Callable[[], object]) -> None:
    try:
        work()
    finally:
        connections.close_all()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("of_everything", [True, False])
def test_halt_trading__comes_before_the_claims_that_come_later(
    account: ExchangeAccount, of_everything: bool
) -> None:
    """The halt waits for the first claim, and an overlapping second claim must not overtake it."""
    begun, begun_late, go_on = Event(), Event(), Event()
    stopped = None if of_everything else account
    with ThreadPoolExecutor(3) as pool:
        early = pool.submit(claim, account.name, begun=begun, go_on=go_on)
        assert begun.wait(20)
        halt = pool.submit(
            apart, lambda: halt_trading(account=stopped, reason="drill", actor="eva")
        )
        wait_for(lambda: waiting() == 1, what="the halt waits for the claim that runs")
        late = pool.submit(claim, account.name, begun=begun_late, go_on=go_on)
        wait_for(lambda: waiting() == 2, what="the later claim waits for the halt")
        go_on.set()
        halt.result(20)
        halted = [
            facts.permission.everything_halted or facts.permission.trading_state == "HALTED"
            for facts in (early.result(20), late.result(20))
        ]
    assert halted == [False, True]


@pytest.mark.django_db(transaction=True)
def test_halt_scope__is_seen_by_the_claims_that_come_later(account: ExchangeAccount) -> None:
    """A claim that waits for the halt must read the halt's row, though it began to wait before."""
    begun, begun_late, go_on = Event(), Event(), Event()
    with ThreadPoolExecutor(3) as pool:
        early = pool.submit(claim, account.name, begun=begun, go_on=go_on)
        assert begun.wait(20)
        halt = pool.submit(
            apart,
            lambda: halt_scope(
                account=None, symbol="BTCUSDT", strategy="", reason="drill", actor="eva"
            ),
        )
        wait_for(lambda: waiting() == 1, what="the halt waits for the claim that runs")
        late = pool.submit(claim, account.name, begun=begun_late, go_on=go_on)
        wait_for(lambda: waiting() == 2, what="the later claim waits for the halt")
        go_on.set()
        halt.result(20)
        seen = [facts.permission.scoped_halt for facts in (early.result(20), late.result(20))]
    assert seen[0] == ""
    assert seen[1].startswith("BTCUSDT is halted by eva since ")
    assert seen[1].endswith(" UTC: drill")


@pytest.mark.django_db(transaction=True)
def test_mark_synced__waits_for_no_claim_and_holds_none_up(account: ExchangeAccount) -> None:
    begun, begun_late, go_on = Event(), Event(), Event()
    at = account.created_at
    with ThreadPoolExecutor(3) as pool:
        early = pool.submit(claim, account.name, begun=begun, go_on=go_on)
        assert begun.wait(20)
        try:
            pool.submit(apart, lambda: mark_synced(account, at)).result(5)
            late = pool.submit(claim, account.name, begun=begun_late, go_on=go_on)
            assert begun_late.wait(5)
        finally:
            go_on.set()
        early.result(20)
        assert late.result(20).last_synced_at == at


STOPS_INSIDE_A_CLAIM = """
import os, signal, django
django.setup()
from django.db import connection, transaction
with transaction.atomic(), connection.cursor() as cursor:
    cursor.execute(
        "SELECT 1 FROM exchanges_tradinghalt h, exchanges_exchangeaccount a"
        " WHERE a.name = %s FOR SHARE OF h, a", [os.environ["STOPPED"]]
    )
    print("stops", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    cursor.execute("SELECT 1")
"""


@pytest.fixture
def stopped_worker(account: ExchangeAccount, postgres: PostgresServer) -> Iterator[Popen[str]]:
    """A process of its own that was stopped while its claim holds its locks."""
    url = postgres.url(connections["default"].settings_dict["NAME"])
    environment = {**os.environ, "STOPPED": account.name, "DATABASE_URL": url}
    process = Popen(
        [sys.executable, "-c", STOPS_INSIDE_A_CLAIM], env=environment, stdout=PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "stops\n"
    yield process
    process.kill()
    process.wait()


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("of_everything", [True, False])
def test_halt_trading__passes_a_worker_that_was_stopped_inside_a_claim(
    account: ExchangeAccount, stopped_worker: Popen[str], of_everything: bool
) -> None:
    other = ExchangeAccount.objects.create(name="other", environment="simulator")
    begun, go_on = Event(), Event()
    go_on.set()
    stopped = None if of_everything else account
    with ThreadPoolExecutor(3) as pool:
        mark_synced(account, account.created_at)  # a sync waits for nothing
        began_at = monotonic()
        halt = pool.submit(
            apart, lambda: halt_trading(account=stopped, reason="drill", actor="eva")
        )
        wait_for(lambda: waiting() == 1, what="the halt waits for the claim that stands still")
        facts = pool.submit(claim, other.name, begun=begun, go_on=go_on).result(20)
        assert monotonic() - began_at < 3
        halt.result(20)
        assert monotonic() - began_at < 5
    assert facts.account_id == other.pk
    after = claim(account.name, begun=begun, go_on=go_on).permission
    assert after.everything_halted if of_everything else after.trading_state == "HALTED"


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_halt_trading__ends_no_claim_that_only_waits_for_it(account: ExchangeAccount) -> None:
    """A claim that runs for a second is waited for, and so is the halt by a later claim."""
    begun, begun_late, go_on = Event(), Event(), Event()
    with ThreadPoolExecutor(3) as pool:
        early = pool.submit(claim, account.name, begun=begun, go_on=go_on)
        assert begun.wait(20)
        halt = pool.submit(apart, lambda: halt_trading(account=None, reason="drill", actor="eva"))
        wait_for(lambda: waiting() == 1, what="the halt waits for the claim that runs")
        late = pool.submit(claim, account.name, begun=begun_late, go_on=go_on)
        sleep(1)
        go_on.set()
        early.result(20)
        halt.result(20)
        assert late.result(20).permission.everything_halted


# -- Resuming ------------------------------------------------------------------------------------


def halted_again(account: ExchangeAccount | None, reason: str) -> None:
    fresh = account and ExchangeAccount.objects.get(pk=account.pk)
    halt_trading(account=fresh, reason=reason, actor="max")


@pytest.mark.django_db
@pytest.mark.parametrize("of_everything", [True, False])
@pytest.mark.parametrize("reason", ["first", "second"])
def test_resume_trading__lifts_no_newer_halt(
    account: ExchangeAccount, of_everything: bool, reason: str
) -> None:
    halted = None if of_everything else account
    halt_trading(account=halted, reason="first", actor="eva")
    seen = seen_state(halted)
    halted_again(halted, reason)
    with pytest.raises(NewerHalt, match=reason):
        resume_trading(account=halted, reason="over", actor="eva", seen=seen)
    account.refresh_from_db()
    if of_everything:
        assert TradingHalt.objects.get().is_halted
        return
    assert (account.trading_state, account.trading_state_reason) == ("HALTED", reason)
    resume_trading(account=account, reason="over", actor="eva", seen=seen_state(account))
    account.refresh_from_db()
    assert account.trading_state == "ACTIVE"


@pytest.mark.django_db
def test_resume_trading__a_halt_during_the_check_of_the_key_stays(
    account: ExchangeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.environment = "live"
    account.save()
    halt_trading(account=account, reason="first", actor="eva")
    monkeypatch.setattr(
        "exchanges.trading_state.require_safe_key", lambda _: halted_again(account, "second")
    )
    with pytest.raises(NewerHalt, match="second"):
        resume_trading(account=account, reason="over", actor="eva")
    account.refresh_from_db()
    assert account.trading_state == "HALTED"
