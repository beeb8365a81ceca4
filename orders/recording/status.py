"""Derive the status of an order from its attempts and our own verdict. Pure.

The exchange's word about any attempt comes first, so evidence may arrive about any attempt in any
order. Only if no attempt says anything does our verdict decide. `orders.states.TRANSITIONS` lists
the changes that this rule can make.
"""

from __future__ import annotations

from collections.abc import Sequence

from exchanges.types import ExchangeStatus
from orders.recording.merge import AttemptState
from orders.states import OrderStatus


def status_of(attempts: Sequence[AttemptState], verdict: OrderStatus) -> OrderStatus:
    """Return the order's status. `attempts` are the states of all its attempts, oldest first."""
    if _is_filled(attempts):
        return OrderStatus.FILLED
    if any(attempt.is_alive for attempt in attempts):
        has_fills = any(attempt.filled_quantity for attempt in attempts)
        return OrderStatus.PARTIALLY_FILLED if has_fills else OrderStatus.NEW
    if any(attempt.is_pending for attempt in attempts):
        return OrderStatus.PENDING_NEW
    ended = [attempt for attempt in attempts if attempt.is_ended]
    if ended:
        was_canceled = ended[-1].exchange_status == ExchangeStatus.CANCELED
        return OrderStatus.CANCELED if was_canceled else OrderStatus.EXPIRED
    was_shown = any(attempt.is_shown for attempt in attempts)
    if attempts and attempts[-1].is_refused and not was_shown:
        return OrderStatus.REJECTED
    return verdict


def open_fates(attempts: Sequence[AttemptState]) -> int:
    """Return how many attempts the sweep must still end: unanswered ones, and surplus live ones."""
    return sum(attempt.is_pending for attempt in attempts) + len(surplus(attempts))


def surplus(attempts: Sequence[AttemptState]) -> list[AttemptState]:
    """Return the live attempts to cancel: all but the oldest, and all once the order is filled."""
    alive = [attempt for attempt in attempts if attempt.is_alive]
    return alive if _is_filled(attempts) else alive[1:]


def _is_filled(attempts: Sequence[AttemptState]) -> bool:
    return any(attempt.exchange_status == ExchangeStatus.FILLED for attempt in attempts)
