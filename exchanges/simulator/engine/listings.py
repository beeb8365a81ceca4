"""List, change, halt and delist the symbols of the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from exchanges.simulator.engine import house_account
from exchanges.simulator.engine.enums import ExpiryReason, SymbolStatus
from exchanges.simulator.engine.market import Market
from exchanges.simulator.engine.past import Past
from exchanges.simulator.engine.queries import Queries
from exchanges.simulator.engine.symbol_spec import SymbolSpec


class Listings(Queries):
    """Keep the markets. A delisted one waits aside, with its numbers, until it comes back."""

    _delisted: dict[str, Market]

    def add_symbol(self, spec: SymbolSpec) -> None:
        if spec.symbol in self._markets or spec.symbol in self._delisted:
            raise ValueError(f"Symbol {spec.symbol} exists.")
        self._markets[spec.symbol] = Market(spec, self._context)

    def give_past(
        self, symbol: str, *, price: int, days: int, seed: int, quote_worth: int = 1
    ) -> None:
        """Give a symbol that has no trades yet a past of so many days that ends at `price`.

        `quote_worth` is the value of its quote asset in dollars, for quantities like the market's.
        """
        market = self._begin(symbol)
        if market.last_trade_id:
            raise ValueError(f"Symbol {symbol} has trades.")
        market.begin_after(
            Past(
                seed=seed,
                symbol=symbol,
                start=self._context.now,
                price=price,
                days=days,
                filters=market.filters,
                quote_worth=quote_worth,
            )
        )

    def set_status(self, symbol: str, status: SymbolStatus) -> None:
        self._market(symbol).status = status

    def change_symbol(
        self,
        symbol: str,
        *,
        filters: Mapping[str, Mapping[str, Any]] | None = None,
        **fields: Any,
    ) -> None:
        """Change the rules of a symbol while orders are open.

        `filters` has new values by filter type and key, and `fields` are fields of `SymbolSpec`.
        Raises ValueError if a value is not a number.
        """
        market = self._market(symbol)
        rules = {str(rule["filterType"]): dict(rule) for rule in market.spec.filters}
        for name, values in (filters or {}).items():
            rules.setdefault(name, {"filterType": name}).update(values)
        try:
            market.change(replace(market.spec, filters=tuple(rules.values()), **fields))
        except (ArithmeticError, KeyError, TypeError) as error:
            raise ValueError(f"filters: {error!r}") from error

    def delist(self, symbol: str, *, archive: bool = False) -> None:
        """Remove a symbol. Every request for it is then -1121.

        Its open orders expire. With `archive`, the stream stays silent about them, and the orders
        without fills are archived.
        """
        market = self._begin(symbol)
        events = self._context.events
        before = len(events)
        for store in self._context.stores.values():
            for order in store.open_on(symbol):
                market.expire(order, ExpiryReason.EXCHANGE_CANCELED)
                order.archived = archive and not order.executed_quantity
        house_account.withdraw(market)
        self._end(market)
        if archive:
            del events[before:]
        self._delisted[symbol] = self._markets.pop(symbol)

    def relist(self, symbol: str, status: SymbolStatus = SymbolStatus.TRADING) -> None:
        """Bring a delisted symbol back. Its numbers continue. Raise KeyError if there is none."""
        market = self._delisted.pop(symbol)
        market.status = status
        self._markets[symbol] = market

    def _begin(self, symbol: str) -> Market:
        market = self._market(symbol)
        self._context.now = self._clock()
        market.begin()
        return market

    def _end(self, market: Market) -> None:
        self._context.flush()
        if market.stops.triggered:
            market.run_triggers()
