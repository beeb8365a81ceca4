"""One placement, one fault on its way: at most one order at the exchange, and our book knows it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from backoffice.celery import app
from exchanges import clock
from exchanges.models import Instrument, Lease
from orders.models import AttemptOutcome, BreakKind, EventType, ExchangeOrder, ReconciliationBreak
from tests.harness.scenario import Scenario
from tests.scenarios.asserting import assert_book_equals_truth
from tests.scenarios.steps import (
    LIMIT_BUY,
    MARKET_BUY,
    POST_ORDER,
    client_id,
    order,
    place,
    place_by_hand,
    placements,
    send,
    send_all,
    settle,
    statuses,
)

# Fourteen faults at once are no outage here, so the breaker must not open for the last ones.
WORKER_ENV = {"BREAKER_FAILURES": 100}

UNKNOWN_EXECUTION = {"code": -1007, "msg": "Timeout waiting for response from backend server."}
# Faults of a request that the exchange executes.
EXECUTED: dict[str, dict[str, Any]] = {
    "accept-then-reset": {"action": "reset_after"},
    "accept-then-close": {"action": "close_after"},
    "accept-then-503": {
        "action": "respond",
        "status": 503,
        "body": UNKNOWN_EXECUTION,
        "execute": True,
    },
    "accept-then-504": {"action": "timeout"},
    "accept-then-silence": {"action": "never_answer"},
    "accept-then-late-answer": {"action": "delay_answer", "seconds": 2.5},
    "html": {"action": "garbage", "kind": "html"},
    "truncated": {"action": "garbage", "kind": "truncated"},
    "cut": {"action": "garbage", "kind": "cut"},
    "empty": {"action": "garbage", "kind": "empty"},
    "object": {"action": "garbage", "kind": "object"},
    "list": {"action": "garbage", "kind": "list"},
    "null": {"action": "garbage", "kind": "null"},
    "text": {"action": "garbage", "kind": "text"},
}
# Faults of a request that is never executed.
UNEXECUTED: dict[str, dict[str, Any]] = {
    "reset-before-accept": {"action": "reset_before"},
    "close-before-accept": {"action": "close_before"},
    "503-unexecuted": {
        "action": "respond",
        "status": 503,
        "body": UNKNOWN_EXECUTION,
        "execute": False,
    },
    "504-unexecuted": {"action": "timeout", "execute": False},
    "never-executed-never-answered": {"action": "never_answer", "execute": False},
}


ORDER_TYPES = {"MARKET": MARKET_BUY, "LIMIT": LIMIT_BUY}


def strike(
    desk: Scenario, faults: dict[str, dict[str, Any]], *, times: int | None = 1
) -> dict[str, int]:
    """Set one fault for each intent, named after the fault, for all of its attempts."""
    return {
        name: desk.simulator.control.faults.add(
            match={**POST_ORDER, "client_order_id_prefix": client_id(name).removesuffix("1")},
            times=times,
            **fault,
        )
        for name, fault in faults.items()
    }


@pytest.mark.core
@pytest.mark.parametrize("arguments", ORDER_TYPES.values(), ids=ORDER_TYPES.keys())
def test_place__accepted_but_not_told_is_found_and_not_sent_again(
    desk: Scenario, arguments: dict[str, Any]
) -> None:
    """A MARKET order is filled by then: the exchange would take its id, and its money, again."""
    desk.simulator.control.unfreeze()
    rules = strike(desk, EXECUTED)

    answers = {
        name: result.get(timeout=20) for name, result in send_all(EXECUTED, arguments).items()
    }
    assert {name: answer["status"] for name, answer in answers.items()} == dict.fromkeys(
        EXECUTED, "PENDING_NEW"
    )
    settle()

    assert {
        name: desk.simulator.control.faults.hits(rule) for name, rule in rules.items()
    } == dict.fromkeys(rules, 1)
    assert statuses() == dict.fromkeys(EXECUTED, "FILLED" if arguments is MARKET_BUY else "NEW")
    assert placements(desk) == len(EXECUTED)
    assert_book_equals_truth(desk, placed=len(EXECUTED))


def test_place__unexecuted_is_sent_again_while_its_deadline_lasts(desk: Scenario) -> None:
    strike(desk, UNEXECUTED)

    answers = {
        name: result.get(timeout=20) for name, result in send_all(UNEXECUTED, LIMIT_BUY).items()
    }
    assert {name: answer["status"] for name, answer in answers.items()} == dict.fromkeys(
        UNEXECUTED, "PENDING_NEW"
    )
    settle()

    assert statuses() == dict.fromkeys(UNEXECUTED, "NEW")
    for name in UNEXECUTED:
        attempts = ExchangeOrder.objects.filter(order=order(name)).order_by("attempt")
        first, *_, last = attempts.values_list("outcome", flat=True)
        assert first == AttemptOutcome.ABSENT, "sent again without a proof"
        assert last == AttemptOutcome.ACKNOWLEDGED
    assert_book_equals_truth(desk, placed=len(UNEXECUTED))


def test_place__unexecuted_is_not_placed_after_its_deadline(desk: Scenario) -> None:
    strike(desk, UNEXECUTED, times=None)

    for result in send_all(UNEXECUTED, LIMIT_BUY, place_within_seconds=2.5).values():
        result.get(timeout=20)
    settle()

    assert statuses() == dict.fromkeys(UNEXECUTED, "NOT_PLACED")
    for name in UNEXECUTED:
        closed = order(name)
        assert closed.reason_code in ("NO_ANSWER", "PAST_DEADLINE")
        assert closed.reason
        assert closed.place_by is not None
        assert closed.closed_at is not None
        assert closed.closed_at >= closed.place_by
    sent = placements(desk)
    for name in UNEXECUTED:
        assert place(name, place_within_seconds=20)["status"] == "NOT_PLACED", (
            "an intent is decided once"
        )
    assert placements(desk) == sent
    assert_book_equals_truth(desk, placed=0)


def test_place__429_is_repeated_after_the_time_it_names_and_not_before(desk: Scenario) -> None:
    place("warm-up")
    before = placements(desk)
    desk.simulator.control.faults.add("rate_limited", match=POST_ORDER, retry_after=2)

    assert place("i-1")["status"] == "CREATED"
    refused_at = order("i-1").events.get(event_type=EventType.NOT_SENT).at
    assert place("i-1")["status"] == "CREATED", "the same message again changes nothing"
    ring = app.send_task(
        "orders.place_order", kwargs={"order_id": str(order("i-1").pk)}, ignore_result=False
    )
    assert ring.get(timeout=20)["status"] == "CREATED", "nor does a doorbell"
    settle()

    assert placements(desk) == before + 2
    second = ExchangeOrder.objects.get(order=order("i-1"), attempt=2)
    assert second.sent_at is not None
    assert second.sent_at - refused_at >= timedelta(seconds=2)
    assert order("i-1").status == "NEW"
    assert_book_equals_truth(desk, placed=2)


@pytest.mark.parametrize("offset_ms", [-3000, 3000], ids=["exchange-behind", "exchange-ahead"])
def test_place__1021_heals_by_measuring_the_clock_anew(desk: Scenario, offset_ms: int) -> None:
    place("warm-up")
    desk.simulator.control.set_clock_offset(offset_ms)

    assert place("i-1")["status"] == "CREATED"
    settle()

    refusal = order("i-1").events.get(event_type=EventType.NOT_SENT)
    assert refusal.details["code"] == -1021
    assert order("i-1").status == "NEW"
    assert order("i-1").attempt == 2
    assert_book_equals_truth(desk, placed=2)


def test_place__2010_for_lack_of_money_is_rejected_in_the_exchanges_words(desk: Scenario) -> None:
    """The money left after we checked the balance."""
    place("warm-up")
    control = desk.simulator.control
    control.withdraw("USDT", control.truth().balances("main")["USDT"][0])

    answer = place("i-1")
    settle()

    assert (answer["status"], answer["reason_code"]) == ("REJECTED", "-2010")
    assert answer["reason"] == "Account has insufficient balance for requested action."
    assert answer["exchange_order_id"] is None
    assert_book_equals_truth(desk, placed=1)


REFUSED: dict[str, dict[str, Any]] = {
    "PERCENT_PRICE_BY_SIDE": {**LIMIT_BUY, "price": "1000.00"},
    "PRICE_FILTER": {**LIMIT_BUY, "price": "50000.001"},
    "LOT_SIZE": {**LIMIT_BUY, "quantity": "0.000001"},
    "NOTIONAL": {**LIMIT_BUY, "quantity": "0.00001"},
}


def test_place__refusals_by_the_exchanges_filters_are_recorded_in_its_words(desk: Scenario) -> None:
    """Our gate can't know filters on the market's price, nor filters changed since we read them."""
    place("warm-up")
    answers = {}
    for name, arguments in REFUSED.items():
        # A refusal teaches the filters, so each order meets a copy that knows none.
        Instrument.objects.filter(symbol="BTCUSDT").update(filters=[], updated_at=clock.now())
        Lease.objects.filter(pk__startswith="rules").delete()  # the turns, and when they were read
        answers[name] = send(name, arguments).get(timeout=20)
    settle()

    assert {
        name: (answer["status"], answer["reason_code"]) for name, answer in answers.items()
    } == {
        "PERCENT_PRICE_BY_SIDE": ("REJECTED", "-1013"),  # by the average price: no rule of ours
        "PRICE_FILTER": ("NEW", ""),  # judged again, with the tick that the refusal taught
        "LOT_SIZE": ("DENIED", "ROUNDS_TO_ZERO"),
        "NOTIONAL": ("DENIED", "NOTIONAL"),
    }
    assert answers["PERCENT_PRICE_BY_SIDE"]["reason"] == "Filter failure: PERCENT_PRICE_BY_SIDE"
    assert_book_equals_truth(desk, placed=2)


def test_place__an_order_on_a_closed_market_waits_until_it_opens(desk: Scenario) -> None:
    place("warm-up")
    desk.simulator.control.set_symbol_status("BTCUSDT", "HALT")

    answer = place("i-1")

    assert (answer["status"], answer["reason"]) == ("CREATED", "")
    desk.simulator.control.set_symbol_status("BTCUSDT", "TRADING")
    settle()
    assert order("i-1").status == "NEW"
    assert_book_equals_truth(desk, placed=2)


def test_place__what_the_exchange_ends_by_itself_is_expired(desk: Scenario) -> None:
    answers = [
        place("ioc", time_in_force="IOC"),
        place("fok", time_in_force="FOK"),
        place("market-without-a-book", MARKET_BUY),
    ]
    settle()

    assert [answer["status"] for answer in answers] == ["EXPIRED"] * 3
    assert_book_equals_truth(desk, placed=3)


def test_place__duplicate_order_sent_on_a_first_attempt_adopts_the_order(desk: Scenario) -> None:
    place("warm-up")
    by_hand = place_by_hand(desk, client_id("i-1"))

    answer = place("i-1")
    settle()

    assert answer["status"] == "NEW"
    assert answer["exchange_order_id"] == by_hand.exchange_order_id
    assert order("i-1").events.filter(event_type=EventType.DUPLICATE).exists()
    assert placements(desk) == 3
    assert_book_equals_truth(desk, placed=2)


def test_place__duplicate_order_sent_that_differs_is_adopted_and_shown(desk: Scenario) -> None:
    """It is live under this intent's id: no second order may be placed, and people must see it."""
    place("warm-up")
    place_by_hand(desk, client_id("i-1"), quantity=Decimal("0.02"))

    assert place("i-1")["status"] == "NEW"
    settle()

    found = ReconciliationBreak.objects.get(order=order("i-1"))
    assert found.kind == BreakKind.DIFFERENT_ORDER
    assert found.details["quantity"] == {"ours": "0.01", "theirs": "0.02"}
    assert desk.simulator.control.truth().accepted_total() == 2
