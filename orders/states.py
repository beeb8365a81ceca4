"""The order's life: its statuses, which may follow which, and the sets that the rest of the code names.

Pure. `ARCHITECTURE.md` prints the same table.
"""

from __future__ import annotations

from enum import StrEnum


class OrderStatus(StrEnum):
    CREATED = "CREATED"
    PENDING_NEW = "PENDING_NEW"
    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    DENIED = "DENIED"
    NOT_PLACED = "NOT_PLACED"


LOCAL = frozenset({OrderStatus.CREATED})
IN_FLIGHT = frozenset({OrderStatus.PENDING_NEW})
OPEN = frozenset({OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED})
CLOSED = frozenset(
    {
        OrderStatus.FILLED,
        OrderStatus.CANCELED,
        OrderStatus.REJECTED,
        OrderStatus.EXPIRED,
        OrderStatus.DENIED,
        OrderStatus.NOT_PLACED,
    }
)
# An order in one of these has a next step of its own, always: the database refuses a row without `next_check_at`.
UNSETTLED = LOCAL | IN_FLIGHT

# What evidence from the exchange can make of an order that it had not shown us before.
_EVIDENCE = OPEN | {OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED}

TRANSITIONS: dict[OrderStatus, frozenset[OrderStatus]] = {
    # Evidence may reach a CREATED order: an attempt held absent turns up before the next one is made.
    OrderStatus.CREATED: _EVIDENCE | {OrderStatus.PENDING_NEW, OrderStatus.DENIED, OrderStatus.NOT_PLACED},
    # Back to CREATED: the send certainly did not happen (NotSent), or is proven absent while there is time left.
    OrderStatus.PENDING_NEW: _EVIDENCE | {OrderStatus.CREATED, OrderStatus.NOT_PLACED},
    OrderStatus.NEW: frozenset(
        {OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED}
    ),
    OrderStatus.PARTIALLY_FILLED: frozenset({OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED}),
    OrderStatus.FILLED: frozenset(),
    # A fill beats a cancel; and a CANCELED that only withdrew an unsent order is our verdict, which evidence overrides.
    OrderStatus.CANCELED: OPEN | {OrderStatus.FILLED, OrderStatus.EXPIRED},
    OrderStatus.EXPIRED: OPEN | {OrderStatus.FILLED, OrderStatus.CANCELED},
    # A refusal is an answer about one request; an order that the exchange shows nevertheless is there.
    OrderStatus.REJECTED: _EVIDENCE - {OrderStatus.REJECTED},
    OrderStatus.DENIED: _EVIDENCE,
    OrderStatus.NOT_PLACED: _EVIDENCE,
}


class ImpossibleTransition(ValueError):
    """No row of the state table leads from the one status to the other."""

    def __init__(self, previous: str, new: str) -> None:
        super().__init__(f"an order cannot go from {previous} to {new}")


def next_status(previous: OrderStatus, new: OrderStatus) -> OrderStatus:
    """`new`, if the table allows it from `previous` (or nothing changes); raises `ImpossibleTransition`."""
    if new != previous and new not in TRANSITIONS[previous]:
        raise ImpossibleTransition(previous, new)
    return new
