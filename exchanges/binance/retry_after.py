"""Read how long the exchange wants us to wait, within sound bounds. Pure.

A figure that is absurd must neither stop an account forever nor be ignored.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

BANNED = 418
TOO_MANY_ORDERS = -1015
# The exchange bans an address for two minutes to three days.
SHORTEST_BAN_SECONDS = 120.0
LONGEST_BAN_SECONDS = 3 * 86_400.0
# The longest window in which the exchange counts orders, and far more than that of the weight.
LONGEST_ORDER_WINDOW_SECONDS = 86_400.0
LONGEST_WAIT_SECONDS = 3_600.0


def seconds_of(value: str, now: datetime) -> float | None:
    """Return the seconds of a Retry-After header. None if it names no moment to come."""
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,30}(\.[0-9]{1,9})?", value):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = (moment - now).total_seconds()
    return seconds if seconds > 0 else None


def bounded(seconds: float | None, *, status: int | None, code: int | None) -> float | None:
    """Return the seconds to wait after this refusal. None if the exchange named none."""
    if status == BANNED:
        return min(seconds or SHORTEST_BAN_SECONDS, LONGEST_BAN_SECONDS)
    if seconds is None:
        return None
    is_order_count = code == TOO_MANY_ORDERS
    return min(seconds, LONGEST_ORDER_WINDOW_SECONDS if is_order_count else LONGEST_WAIT_SECONDS)
