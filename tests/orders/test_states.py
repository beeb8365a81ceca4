from __future__ import annotations

from orders.models import Status
from orders.states import (
    CLOSED,
    IN_FLIGHT,
    LOCAL,
    OPEN,
    TRANSITIONS,
    OrderStatus,
)


def test_transitions__name_every_status() -> None:
    assert set(TRANSITIONS) == set(OrderStatus)
    assert set(Status.values) == set(OrderStatus)


def test_groups__part_the_statuses() -> None:
    groups = [LOCAL, IN_FLIGHT, OPEN, CLOSED]
    assert set().union(*groups) == set(OrderStatus)
    assert sum(len(group) for group in groups) == len(OrderStatus)


def test_transitions__filled_is_final() -> None:
    assert TRANSITIONS[OrderStatus.FILLED] == frozenset()


def test_transitions__a_fill_beats_every_other_ending() -> None:
    for status in CLOSED - {OrderStatus.FILLED}:
        assert OrderStatus.FILLED in TRANSITIONS[status]


def test_transitions__nothing_open_goes_back_to_unsent() -> None:
    for status in OPEN | CLOSED:
        assert not TRANSITIONS[status] & LOCAL


def test_transitions__nothing_closed_becomes_unconfirmed() -> None:
    for status in CLOSED:
        assert not TRANSITIONS[status] & IN_FLIGHT


def test_transitions__evidence_overrides_each_of_our_own_verdicts() -> None:
    for verdict in (OrderStatus.DENIED, OrderStatus.NOT_PLACED, OrderStatus.CANCELED):
        assert {OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED} <= TRANSITIONS[
            verdict
        ]
