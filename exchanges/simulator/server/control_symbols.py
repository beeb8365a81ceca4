"""Let symbols come, change, close and go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from exchanges.simulator.engine.enums import SymbolStatus
from exchanges.simulator.engine.types import text
from exchanges.simulator.exchange.exchange import Exchange
from exchanges.simulator.server.control_fields import (
    Body,
    ControlError,
    optional_units,
    read_boolean,
    read_text,
)

ORDERS = ("expire", "archive")
# Which keys of which filters a short name sets.
SHORT_NAMES: dict[str, tuple[tuple[str, str], ...]] = {
    "tick": (("PRICE_FILTER", "tickSize"), ("PRICE_FILTER", "minPrice")),
    "step": (("LOT_SIZE", "stepSize"), ("LOT_SIZE", "minQty")),
    "min_notional": (("NOTIONAL", "minNotional"),),
}


class SymbolControl:
    """Answer requests about symbols."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    def handlers(self) -> dict[tuple[str, str], Callable[[Body], Any]]:
        return {
            ("POST", "symbol"): self.set_status,
            ("POST", "symbols/list"): self.list_symbol,
            ("POST", "symbols/delist"): self.delist,
            ("POST", "symbols/change"): self.change,
            ("POST", "symbols/permit"): self.permit,
        }

    def set_status(self, body: Body) -> Any:
        self.exchange.engine.set_status(read_text(body, "symbol"), _status(body))
        return {}

    def list_symbol(self, body: Body) -> Any:
        """List a new symbol with the rules of another, or bring a delisted one back.

        A new symbol has `base`, `quote` and `like`, and optionally `price`, `status` and the fields
        of `change`. One that comes back has only its `symbol`, and optionally `status`.
        """
        exchange, symbol = self.exchange, read_text(body, "symbol")
        status = _status({"status": "TRADING"} | dict(body))
        if "like" not in body:
            exchange.engine.relist(symbol, status)
            price = exchange.engine.last_price(symbol)
            if price:
                exchange.market.set_price(symbol, price)
            return {}
        price = optional_units(body, "price") or 0
        spec = replace(
            exchange.engine.spec(read_text(body, "like")),
            symbol=symbol,
            base_asset=read_text(body, "base"),
            quote_asset=read_text(body, "quote"),
            status=status,
        )
        exchange.engine.add_symbol(spec)
        self.change(body)
        if price:
            exchange.market.set_price(symbol, price)
        return {}

    def delist(self, body: Body) -> Any:
        """Remove a symbol. `orders` says whether its open orders `expire`, or are archived."""
        symbol, orders = read_text(body, "symbol"), body.get("orders", "expire")
        if orders not in ORDERS:
            raise ControlError(f"orders: must be one of {', '.join(ORDERS)}")
        self.exchange.engine.delist(symbol, archive=orders == "archive")
        self.exchange.market.delist(symbol)
        return {}

    def change(self, body: Body) -> Any:
        """Change rules of a live symbol: `tick`, `step`, `min_notional`, `permission_sets`.

        `filters` has any other values, by filter type and key. Open orders stay as they are.
        """
        filters: dict[str, dict[str, Any]] = {}
        for name, targets in SHORT_NAMES.items():
            value = optional_units(body, name)
            for kind, key in targets if value is not None else ():
                filters.setdefault(kind, {})[key] = text(value or 0)
        for kind, values in _object(body, "filters").items():
            filters.setdefault(kind, {}).update(_object({kind: values}, kind))
        fields = {}
        if "permission_sets" in body:
            fields["permission_sets"] = _permission_sets(body["permission_sets"])
        symbol = read_text(body, "symbol")
        self.exchange.engine.change_symbol(symbol, filters=filters, **fields)
        self.exchange.market.learn(symbol)
        return {}

    def permit(self, body: Body) -> Any:
        """Permit a symbol to an account, or forbid it."""
        symbol = self.exchange.engine.spec(read_text(body, "symbol")).symbol
        account = self.exchange.engine.account(read_text(body, "account"))
        if read_boolean(body, "permitted"):
            account.forbidden_symbols.discard(symbol)
        else:
            account.forbidden_symbols.add(symbol)
        return {}


def _status(body: Body) -> SymbolStatus:
    try:
        return SymbolStatus(read_text(body, "status"))
    except ValueError as error:
        raise ControlError(f"status: {error}") from error


def _object(body: Body, name: str) -> Mapping[str, Any]:
    value = body.get(name, {})
    if not isinstance(value, Mapping):
        raise ControlError(f"{name}: must be an object")
    return value


def _permission_sets(value: Any) -> tuple[tuple[str, ...], ...]:
    if not isinstance(value, list) or not all(isinstance(names, list) for names in value):
        raise ControlError("permission_sets: must be a list of lists")
    return tuple(tuple(str(name) for name in names) for names in value)
