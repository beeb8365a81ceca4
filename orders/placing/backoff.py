"""Compute the pause before an order gets its next step."""

from __future__ import annotations

import random

from exchanges.errors import GatewayError
from orders.models import Order
from orders.states import UNRESOLVED

# Pause before the next check of an order, by the number of checks so far.
_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_LONGEST_UNRESOLVED_PAUSE = 4.0


_MOST_CHECKS = 1_000_000


def one_more(order: Order) -> int:
    """Return the order's next `check_count`. It stops growing long before its column ends."""
    return min(order.check_count + 1, _MOST_CHECKS)


def pause_after(order: Order, error: GatewayError) -> float:
    """Return the seconds until the order's next step.

    That is the error's `retry_after`, and growing pauses if the exchange itself failed. A shared
    limit or breaker of ours names the moment from which it lets requests pass, so a longer pause
    would only cost the order its deadline.
    """
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None and error.http_status is None:
        return float(retry_after) * random.uniform(1.0, 1.2)
    return max(retry_after or 0.0, back_off(order))


def back_off(order: Order) -> float:
    """Return the seconds to wait, by the number of checks so far.

    The pause stays short while the order has a deadline or an unknown outcome.
    """
    pause = _PAUSES[min(order.check_count, len(_PAUSES) - 1)]
    return min(pause, _LONGEST_UNRESOLVED_PAUSE) if order.status in UNRESOLVED else pause
