"""Write an order and its fills as JSON, for results of tasks and messages to bots.

Amounts are decimal text, times are ISO 8601.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from exchanges.types import plain
from orders.models import Fill, Order


def order_result(order: Order) -> dict[str, Any]:
    """Return the result of a task about an order."""
    return {
        "order_id": str(order.pk),
        "intent_id": order.intent_id,
        "status": str(order.status),
        "exchange_order_id": order.exchange_order_id or None,
        "filled_quantity": plain(order.filled_quantity),
        "average_price": _amount(order.average_price),
        "reason_code": order.reason_code,
        "reason": order.reason,
    }


def order_details(order: Order) -> dict[str, Any]:
    """Return `order_result` and the order's arguments, except its account's name."""
    return {
        **order_result(order),
        "symbol": order.symbol,
        "side": str(order.side),
        "order_type": order.order_type,
        "time_in_force": order.time_in_force,
        "quantity": _amount(order.quantity),
        "quote_quantity": _amount(order.quote_quantity),
        "price": _amount(order.price),
        "stop_price": _amount(order.stop_price),
        "filled_quote_quantity": plain(order.filled_quote_quantity),
        "strategy": order.strategy,
        "is_external": order.is_external,
        "acknowledged_at": _time(order.acknowledged_at),
        "closed_at": _time(order.closed_at),
    }


def fill_details(fills: Iterable[Fill]) -> list[dict[str, Any]]:
    """Return the fills, in the given order."""
    return [
        {
            "trade_id": fill.trade_id,
            "quantity": plain(fill.quantity),
            "price": plain(fill.price),
            "quote_quantity": plain(fill.quote_quantity),
            "commission": plain(fill.commission),
            "commission_asset": fill.commission_asset,
            "is_maker": fill.is_maker,
            "traded_at": _time(fill.traded_at),
        }
        for fill in fills
    ]


def _amount(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)


def _time(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()
