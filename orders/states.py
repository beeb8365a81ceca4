"""The states of an order, the transitions between them, and the sets that the code names.

Pure. `ARCHITECTURE.md` prints the same table.
"""

from __future__ import annotations

from enum import StrEnum


class OrderStatus(StrEnum):
    HELD = "HELD"
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


LOCAL = frozenset({OrderStatus.HELD, OrderStatus.CREATED})
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
# An order in one of these always has a next step: the database refuses a row without
# `next_check_at`. A held order has its deadline for one, and waits for a person, not for us.
UNRESOLVED = frozenset({OrderStatus.CREATED}) | IN_FLIGHT

# Our own word about an order. It is the order's status until an attempt says more
# (`orders.recording.status`): held, recorded, refused by the gate, given up, withdrawn, lost.
VERDICTS = frozenset(
    {
        OrderStatus.HELD,
        OrderStatus.CREATED,
        OrderStatus.DENIED,
        OrderStatus.NOT_PLACED,
        OrderStatus.CANCELED,
        OrderStatus.EXPIRED,
    }
)

_ENDINGS = frozenset({OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED})
_EVIDENCE = OPEN | _ENDINGS | {OrderStatus.REJECTED}

# The changes that `orders.recording.status.status_of` can make. It decides. This is a description
# for people, and a test holds the two equal.
TRANSITIONS: dict[OrderStatus, frozenset[OrderStatus]] = {
    # A second person releases or rejects it, its maker cancels it, or its deadline passes.
    OrderStatus.HELD: OPEN
    | _ENDINGS
    | {
        OrderStatus.CREATED,
        OrderStatus.DENIED,
        OrderStatus.NOT_PLACED,
    },
    # Evidence may reach a CREATED order: an attempt judged absent shows up before the next attempt.
    OrderStatus.CREATED: _EVIDENCE
    | {
        OrderStatus.HELD,
        OrderStatus.PENDING_NEW,
        OrderStatus.CANCELED,
        OrderStatus.DENIED,
        OrderStatus.NOT_PLACED,
    },
    # Back to CREATED: the send certainly didn't happen (NotSent), or is proven absent in time.
    OrderStatus.PENDING_NEW: _EVIDENCE | {OrderStatus.CREATED, OrderStatus.NOT_PLACED},
    # Open orders become unconfirmed if one attempt ends while another has no answer yet.
    OrderStatus.NEW: _ENDINGS | {OrderStatus.PARTIALLY_FILLED, OrderStatus.PENDING_NEW},
    OrderStatus.PARTIALLY_FILLED: _ENDINGS | {OrderStatus.PENDING_NEW},
    OrderStatus.FILLED: frozenset(),
    # A fill beats a cancel. And if we canceled an order as unsent, evidence overrides us.
    OrderStatus.CANCELED: _EVIDENCE - {OrderStatus.CANCELED},
    OrderStatus.EXPIRED: (OPEN | _ENDINGS) - {OrderStatus.EXPIRED},
    # A rejection is about one request. If the exchange shows the order anyway, the order exists.
    OrderStatus.REJECTED: OPEN | _ENDINGS,
    OrderStatus.DENIED: _EVIDENCE,
    OrderStatus.NOT_PLACED: _EVIDENCE,
}
