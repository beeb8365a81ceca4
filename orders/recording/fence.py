"""Compute the times between which the exchange can have accepted a request."""

from __future__ import annotations

from django.conf import settings

from exchanges.types import to_ms
from orders.models import ExchangeOrder

# The exchange may stamp an order up to a second before its signed timestamp. One more to be safe.
EARLIER_MS = 2_000


def signed_ms(attempt: ExchangeOrder) -> int:
    """Return the request's signed time. A recovered attempt has only the time of its row."""
    if attempt.request_timestamp_ms is not None:
        return attempt.request_timestamp_ms
    return to_ms(attempt.sent_at or attempt.order.created_at)


def last_accepted_ms(attempt: ExchangeOrder) -> int:
    """Return the exchange time after which it no longer accepts the request."""
    return (
        signed_ms(attempt)
        + int(attempt.recv_window_ms or settings.EXCHANGE_RECV_WINDOW_MS)
        + int(settings.EXCHANGE_ENGINE_TIMEOUT_MS)
    )


def fence_ms(attempt: ExchangeOrder) -> int:
    """Return the exchange time after which the request can't be accepted or still be invisible."""
    return last_accepted_ms(attempt) + int(settings.EXCHANGE_READ_LAG_MS)
