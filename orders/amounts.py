"""An order's side, type, quantities and prices: one value from the intent to the request.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from exchanges.instrument_rules import InstrumentRules
from exchanges.types import EXACT, OrderType, Side, TimeInForce

PRICES = ("price", "stop_price")
AMOUNTS = ("quantity", "quote_quantity", *PRICES)


@dataclass(frozen=True, slots=True)
class OrderAmounts:
    """Amounts as requested, or on the exchange's grid. None where the order has no such amount."""

    side: Side
    order_type: OrderType
    quantity: Decimal | None = None
    quote_quantity: Decimal | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce | None = None

    @classmethod
    def of(cls, order: Any) -> OrderAmounts:
        """Read the requested amounts from the row of an order."""
        return cls(
            side=Side(order.side),
            order_type=OrderType(order.order_type),
            time_in_force=TimeInForce(order.time_in_force) if order.time_in_force else None,
            **{name: getattr(order, name) for name in AMOUNTS},
        )

    @property
    def by_name(self) -> dict[str, Decimal | None]:
        """Return the amounts under the names that models, messages and requests share."""
        return {name: getattr(self, name) for name in AMOUNTS}

    @property
    def given(self) -> dict[str, Decimal]:
        """Return the amounts that the order has."""
        return {name: value for name, value in self.by_name.items() if value is not None}

    def spent(self, rules: InstrumentRules) -> tuple[str, Decimal | None]:
        """Return the asset and the amount that the order may spend.

        The amount is None if it depends on the market's price.
        """
        if self.side is Side.SELL:
            return rules.base_asset, self.quantity
        if self.quote_quantity is not None:
            return rules.quote_asset, self.quote_quantity
        if self.price is not None and self.quantity is not None:
            return rules.quote_asset, EXACT.multiply(self.price, self.quantity)
        return rules.quote_asset, None
