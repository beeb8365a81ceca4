"""A slow reading that one order needs holds up no other order, whichever thread it came to."""

from __future__ import annotations

import time

from tests.harness.scenario import Scenario
from tests.scenarios.asserting import assert_book_equals_truth
from tests.scenarios.steps import LIMIT_BUY, order, place, send, settle

ALL_ORDERS = {"method": "GET", "path": "/api/v3/allOrders"}
ETHER = {**LIMIT_BUY, "symbol": "ETHUSDT", "price": "2000.00"}
SLOW_SECONDS = 4.0


def test_submit_order__a_fresh_symbol_waits_for_its_own_reading_alone(pair: Scenario) -> None:
    """The trading worker has four threads, and eight orders need a reading that takes long."""
    place("warm-up")
    pair.simulator.control.faults.add("delay_answer", match=ALL_ORDERS, seconds=SLOW_SECONDS)
    began = time.monotonic()
    slow = [send(f"eth-{number}", ETHER) for number in range(8)]

    quick = [place(f"btc-{number}") for number in range(4)]

    assert time.monotonic() - began < SLOW_SECONDS / 2
    assert {answer["status"] for answer in quick} == {"NEW"}
    # The bot's own message gets the answer, whichever worker gives it.
    answers = [result.get(timeout=20) for result in slow]
    assert time.monotonic() - began < SLOW_SECONDS + 3
    settle()
    assert {order(f"eth-{number}").status for number in range(8)} == {"NEW"}
    assert "NEW" in {answer["status"] for answer in answers}
    assert_book_equals_truth(pair, placed=13)
    assert "prerequisite_fetched" not in pair.worker.output().partition("warm-up")[2]
