"""A process or the database dies or freezes at the worst moment."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path

import celery.exceptions
import pytest
from django.conf import settings
from django.db import connections

from orders.models import AttemptOutcome, EventType, ExchangeOrder, Fill
from tests.harness.commits import held_commits
from tests.harness.processes import ProcessFactory
from tests.harness.scenario import Scenario
from tests.harness.waiting import wait_for
from tests.scenarios.asserting import assert_book_equals_truth
from tests.scenarios.steps import (
    MARKET_BUY,
    POST_ORDER,
    order,
    place,
    placements,
    send,
    settle,
    statuses,
    sweep_until,
)

CLAIMS = "orders_exchangeorder"
RECORDS = "orders_fill"  # of a MARKET order, whose fills come with the exchange's answer


@pytest.fixture
def market(pair: Scenario) -> Scenario:
    """Return a market that fills, and a trader and a sweeper that have worked before."""
    pair.simulator.control.unfreeze()
    place("warm-up", MARKET_BUY)
    return pair


def test_worker__killed_before_its_send_leaves_a_claim_that_is_proven_absent(
    market: Scenario,
) -> None:
    with held_commits(CLAIMS) as held:
        send("i-1", MARKET_BUY)
        held.wait_for_one()
        market.worker.kill()
        held.release()
        wait_for(lambda: statuses().get("i-1") == "PENDING_NEW", what="the claim is committed")
    assert placements(market) == 1
    settle()

    assert order("i-1").status == "FILLED"
    outcomes = (
        ExchangeOrder.objects.filter(order=order("i-1"))
        .order_by("attempt")
        .values_list("outcome", flat=True)
    )
    assert [*outcomes] == [AttemptOutcome.ABSENT, AttemptOutcome.ACKNOWLEDGED]
    assert_book_equals_truth(market, placed=2)


@pytest.mark.core
def test_worker__killed_after_its_send_leaves_an_order_that_is_found(market: Scenario) -> None:
    market.simulator.control.faults.add("never_answer", match=POST_ORDER)
    send("i-1", MARKET_BUY)
    wait_for(
        lambda: market.simulator.control.truth().accepted_total() == 2,
        what="the exchange has the order",
    )
    market.worker.kill()
    assert statuses()["i-1"] == "PENDING_NEW"
    settle()

    assert order("i-1").status == "FILLED"
    assert placements(market) == 2
    assert_book_equals_truth(market, placed=2)


@pytest.mark.parametrize("is_undone", [True, False], ids=["record-undone", "record-committed"])
def test_worker__killed_after_the_answer_leaves_an_order_that_is_complete(
    market: Scenario, is_undone: bool
) -> None:
    with held_commits(RECORDS) as held:
        send("i-1", MARKET_BUY)
        held.wait_for_one()
        market.worker.kill()
        if is_undone:
            held.abort()
            assert not Fill.objects.filter(order__intent_id="i-1").exists()
            assert statuses()["i-1"] == "PENDING_NEW"
        held.release()
    wait_for(lambda: is_undone or statuses()["i-1"] == "FILLED", what="the record is committed")
    settle()

    assert order("i-1").status == "FILLED"
    assert placements(market) == 2
    assert_book_equals_truth(market, placed=2)


def test_worker__that_died_is_replaced_and_the_repeated_message_finds_the_order(
    market: Scenario,
) -> None:
    market.simulator.control.faults.add("never_answer", match=POST_ORDER)
    send("i-1", MARKET_BUY)
    wait_for(
        lambda: market.simulator.control.truth().accepted_total() == 2,
        what="the exchange has the order",
    )
    market.worker.kill()
    market.worker.start()

    assert place("i-1", MARKET_BUY)["status"] in ("PENDING_NEW", "FILLED")
    settle()

    assert place("i-1", MARKET_BUY)["status"] == "FILLED"
    assert placements(market) == 2
    assert_book_equals_truth(market, placed=2)


def test_worker__paused_past_its_window_is_refused_by_the_exchange_itself(market: Scenario) -> None:
    """It freezes between its claim and its send, and sends after the order was resolved."""
    with held_commits(CLAIMS) as held:
        send("i-1", MARKET_BUY)
        held.wait_for_one()
        market.worker.pause()
        held.release()
        wait_for(lambda: statuses().get("i-1") == "PENDING_NEW", what="the claim is committed")
    settle()
    assert order("i-1").status == "FILLED"
    assert order("i-1").attempt == 2
    assert placements(market) == 2

    market.worker.resume()
    wait_for(lambda: placements(market) == 3, what="the sleeper has sent its request")
    refusals = order("i-1").events.filter(event_type=EventType.NOT_SENT)
    wait_for(refusals.exists, what="it has its answer")
    refusal = refusals.get()

    assert refusal.details["code"] == -1021
    first = ExchangeOrder.objects.get(order=order("i-1"), attempt=1)
    assert refusal.details["client_order_id"] == first.client_order_id
    assert order("i-1").status == "FILLED"
    settle()
    assert placements(market) == 3
    assert_book_equals_truth(market, placed=2)


def test_worker__paused_within_its_window_sends_once(market: Scenario) -> None:
    """It wakes while its claim is still valid, and no other worker has sent."""
    with held_commits(CLAIMS) as held:
        send("i-1", MARKET_BUY)
        held.wait_for_one()
        market.worker.pause()
        held.release()
        wait_for(lambda: statuses().get("i-1") == "PENDING_NEW", what="the claim is committed")
        market.worker.resume()
    sweep_until(lambda: statuses()["i-1"] == "FILLED")
    settle()

    assert_book_equals_truth(market, placed=2)


def test_worker__that_is_told_to_stop_finishes_its_order_first(market: Scenario) -> None:
    market.simulator.control.faults.add("delay_answer", match=POST_ORDER, seconds=1)
    send("i-1", MARKET_BUY)
    wait_for(
        lambda: market.simulator.control.truth().accepted_total() == 2,
        what="the exchange has the order",
    )
    market.worker.stop()

    assert statuses()["i-1"] == "FILLED"
    assert_book_equals_truth(market, placed=2)


@pytest.mark.parametrize("how", ["restart", "crash"])
def test_database__gone_between_send_and_record_is_waited_for(market: Scenario, how: str) -> None:
    postgres = market.postgres
    market.simulator.control.faults.add("delay_answer", match=POST_ORDER, seconds=1)
    result = send("i-1", MARKET_BUY)
    wait_for(
        lambda: market.simulator.control.truth().accepted_total() == 2,
        what="the exchange has the order",
    )
    connections.close_all()
    postgres.restart() if how == "restart" else postgres.crash()
    postgres.start()

    assert result.get(timeout=30)["status"] == "FILLED"
    settle()

    assert placements(market) == 2
    assert_book_equals_truth(market, placed=2)


@pytest.mark.long
def test_database__gone_for_longer_than_a_worker_waits_leaves_an_order_that_is_found(
    market: Scenario,
) -> None:
    postgres = market.postgres
    market.simulator.control.faults.add("delay_answer", match=POST_ORDER, seconds=1)
    result = send("i-1", MARKET_BUY)
    wait_for(
        lambda: market.simulator.control.truth().accepted_total() == 2,
        what="the exchange has the order",
    )
    connections.close_all()
    postgres.stop()
    with pytest.raises(celery.exceptions.TimeoutError):
        result.get(timeout=20)  # The worker keeps the message, because the database is away.
    postgres.start()
    settle(timeout=60)

    assert order("i-1").status == "FILLED"
    assert placements(market) == 2
    assert_book_equals_truth(market, placed=2)


@pytest.mark.long
def test_prefork__a_killed_child_has_its_message_taken_up_by_another(
    processes: ProcessFactory, pair: Scenario
) -> None:
    """With Celery's default pool the parent survives and hands out the message again at once."""
    pair.worker.stop()
    pair.simulator.control.unfreeze()
    pair.simulator.control.faults.add("never_answer", match=POST_ORDER)
    worker = processes.worker("forking", queues="trading", options=["--concurrency", "2"])
    send("i-1", MARKET_BUY)
    wait_for(
        lambda: pair.simulator.control.truth().accepted_total() == 1,
        what="the exchange has the order",
    )
    for child in children(worker.pid):
        os.kill(child, signal.SIGKILL)
    settle()

    assert place("i-1", MARKET_BUY)["status"] == "FILLED"
    assert placements(pair) == 1
    assert_book_equals_truth(pair, placed=1)


def children(pid: int) -> list[int]:
    """Return the processes forked by this one (Linux)."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_timing__a_claim_is_looked_into_only_after_its_senders_time_is_over(
    market: Scenario,
) -> None:
    """Otherwise a sweep would query an order whose sender still waits for the answer."""
    place("i-1", MARKET_BUY)
    claim = order("i-1").events.get(event_type=EventType.CLAIMED)
    market.simulator.control.faults.add("never_answer", match=POST_ORDER)
    send("i-2", MARKET_BUY)
    wait_for(lambda: statuses().get("i-2") == "PENDING_NEW", what="the claim is committed")

    due = order("i-2").next_check_at
    sent_at = ExchangeOrder.objects.get(order=order("i-2")).sent_at

    assert claim.details["recv_window_ms"] == settings.EXCHANGE_RECV_WINDOW_MS
    assert due is not None
    assert sent_at is not None
    assert due - sent_at > timedelta(milliseconds=settings.EXCHANGE_REQUEST_TIMEOUT_MS)
    settle()
    assert_book_equals_truth(market, placed=3)
