"""Read the exchange's own truth: the answer to `GET /control/truth`."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, TypedDict, cast


class OrderTruth(TypedDict):
    """Show an order as the engine has it. Amounts are decimal text."""

    account: str
    symbol: str
    order_id: int
    client_order_id: str
    side: str
    type: str
    time_in_force: str
    status: str
    quantity: str
    quote_quantity: str
    price: str
    stop_price: str
    executed_quantity: str
    executed_quote: str


class Truth:
    """Show the real state of the exchange. `raw` is all of `GET /control/truth`."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw

    @property
    def requests(self) -> dict[str, int]:
        """Return the number of requests by name.

        Names are REST calls (`POST /api/v3/order`) and WebSocket API methods (`order.place`).
        """
        return dict(self.raw["requests"])

    def orders(self, account: str | None = None) -> list[OrderTruth]:
        """Return the accepted orders, oldest first within an account.

        Closed orders are included as far as the history reaches.
        """
        return [
            cast(OrderTruth, {"account": name, **row})
            for name, rows in self.raw["accounts"].items()
            if account in (None, name)
            for row in rows["orders"]
        ]

    def order(self, client_order_id: str, account: str | None = None) -> OrderTruth | None:
        """Return the newest order with this client order id, or None."""
        found = [row for row in self.orders(account) if row["client_order_id"] == client_order_id]
        return found[-1] if found else None

    def accepted(self, client_order_id: str, account: str | None = None) -> int:
        """Return the number of orders ever accepted under this id.

        The exchange counts only the last ids, as many as its history limit.
        """
        return sum(
            int(rows["accepted_by_client_order_id"].get(client_order_id, 0))
            for name, rows in self.raw["accounts"].items()
            if account in (None, name)
        )

    def accepted_total(self, account: str | None = None) -> int:
        return sum(
            int(rows["accepted"])
            for name, rows in self.raw["accounts"].items()
            if account in (None, name)
        )

    def trades(self, account: str | None = None) -> list[dict[str, Any]]:
        return [
            {"account": name, **row}
            for name, rows in self.raw["accounts"].items()
            if account in (None, name)
            for row in rows["trades"]
        ]

    def balances(self, account: str = "main") -> dict[str, tuple[Decimal, Decimal]]:
        """Return (free, locked) by asset."""
        rows = self.raw["accounts"][account]["balances"]
        return {
            asset: (Decimal(row["free"]), Decimal(row["locked"])) for asset, row in rows.items()
        }
