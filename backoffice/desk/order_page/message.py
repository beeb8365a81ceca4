"""Write an order as the message that a bot would send for it."""

from __future__ import annotations

import json
from typing import Any

from exchanges.types import plain
from orders.amounts import AMOUNTS
from orders.models import Order


def message_of(order: Order) -> str:
    """Return the arguments of `orders.submit_order` as JSON, with every digit as requested."""
    given: dict[str, Any] = {
        "intent_id": order.intent_id,
        "account": order.account.name,
        "symbol": order.symbol,
        "side": order.side,
        "order_type": order.order_type,
    }
    for name in AMOUNTS:
        value = getattr(order, name)
        if value is not None:
            given[name] = plain(value)
    if order.time_in_force:
        given["time_in_force"] = order.time_in_force
    if order.strategy:
        given["strategy"] = order.strategy
    return json.dumps(given, indent=2, ensure_ascii=False)
