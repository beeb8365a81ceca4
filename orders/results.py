"""An order and its fills as JSON: what tasks return, and what bots are told. Figures are decimal text."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from exchanges.types import plain
from orders.models import Fill, Order


def order_result(order: Order) -> dict[str, Any]:
    """What a task returns about an order."""
    return {
        "order_id": str(order.pk),
        "intent_id": order.intent_id,
        "status": str(order.status),
        "exchange_order_id": order.exchange_order_id or None,
        "filled_quantity": plain(order.filled_quantity),
        "average_price": _figure(order.average_price),
        "reason_code": order.reason_code,
        "reason": order.reason,
    }


def order_details(order: Order) -> dict[str, Any]:
    """`order_result` and what was asked for; all but the account's name, which the order's row does not hold."""
    return {
        **order_result(order),
        "symbol": order.symbol,
        "side": str(order.side),
        "order_type": order.order_type,
        "time_in_force": order.time_in_force,
        "quantity": _figure(order.quantity),
        "quote_quantity": _figure(order.quote_quantity),
        "price": _figure(order.price),
        "stop_price": _figure(order.stop_price),
        "filled_quote_quantity": plain(order.filled_quote_quantity),
        "strategy": order.strategy,
        "is_external": order.is_external,
        "acknowledged_at": _moment(order.acknowledged_at),
        "closed_at": _moment(order.closed_at),
    }


def fill_details(fills: Iterable[Fill]) -> list[dict[str, Any]]:
    return [
        {
            "trade_id": fill.trade_id,
            "quantity": plain(fill.quantity),
            "price": plain(fill.price),
            "quote_quantity": plain(fill.quote_quantity),
            "commission": plain(fill.commission),
            "commission_asset": fill.commission_asset,
            "is_maker": fill.is_maker,
            "traded_at": _moment(fill.traded_at),
        }
        for fill in fills
    ]


def _figure(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)


def _moment(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()
