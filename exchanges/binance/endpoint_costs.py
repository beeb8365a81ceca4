"""Describe our calls to the shared limits: the cost and urgency of each, and its result."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from exchanges.binance.error_table import Transport
from exchanges.binance.http import HttpResult
from exchanges.errors import GatewayError, OutcomeUnknown
from exchanges.limits.budget import Priority, Request, Response
from exchanges.types import CallKind


@dataclass(frozen=True, slots=True)
class _Cost:
    """The documented weight, and the weight if the parameter `narrowed_by` narrows the query."""

    priority: Priority
    weight: int
    narrow_weight: int = 0
    narrowed_by: str = ""


# A placement or cancel costs its weight only if it fails.
_COSTS = {
    "place": _Cost(Priority.NEW, 1),
    "cancel": _Cost(Priority.CANCEL, 1),
    "cancel_open_orders": _Cost(Priority.CANCEL, 1),
    "fetch_order": _Cost(Priority.STATUS, 4),
    "fetch_open_orders": _Cost(Priority.STATUS, 80, 6, "symbol"),
    "fetch_all_orders": _Cost(Priority.HISTORY, 20),
    "fetch_amendments": _Cost(Priority.STATUS, 4),
    "fetch_trades": _Cost(Priority.HISTORY, 20, 5, "orderId"),
    "fetch_account": _Cost(Priority.STATUS, 20),
    "fetch_bids_and_asks": _Cost(Priority.HISTORY, 4),
    "fetch_candles": _Cost(Priority.HISTORY, 2),
    "fetch_instruments": _Cost(Priority.HISTORY, 20),
    "fetch_key_permissions": _Cost(Priority.STATUS, 1),
    "fetch_last_prices": _Cost(Priority.HISTORY, 4),
    "fetch_last_trade": _Cost(Priority.NEW, 4),
    # A cancel may need the time first, so this must get through whenever the cancel would.
    "fetch_time": _Cost(Priority.CANCEL, 1),
}


def limits_request(
    name: str, kind: CallKind, *, host: str, account: str, parameters: Container[str]
) -> Request:
    """Describe the call `name` for the limits."""
    cost = _COSTS[name]
    return Request(
        host=host,
        account=account,
        kind=kind,
        priority=cost.priority,
        weight=cost.narrow_weight if cost.narrowed_by in parameters else cost.weight,
    )


def limits_response(result: HttpResult, error: GatewayError | None) -> Response:
    """Describe a result for the limits. Only infrastructure trouble counts as a failure."""
    is_answered = result.transport is Transport.ANSWERED
    is_trouble = not is_answered or (result.status or 0) >= 500 or isinstance(error, OutcomeUnknown)
    return Response(
        failed=is_trouble,
        succeeded=error is None,
        status=result.status,
        code=result.code,
        retry_after=result.retry_after,
        used_weight=result.counts.get("x-mbx-used-weight-1m", 0),
        order_counts={
            seconds: result.counts[header]
            for header, seconds in (("x-mbx-order-count-10s", 10), ("x-mbx-order-count-1d", 86_400))
            if header in result.counts
        },
    )
