"""Refuse, place and cancel orders a second time, to compare the simulator with.

Like `naive_book`, this is written from the exchange's documentation alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from tests.exchanges.simulator.engine.naive_book import (
    AT_MARKET,
    EIGHT_PLACES,
    ZERO,
    NaiveBook,
    Order,
    Rules,
    Terms,
    affordable,
    floor,
    number,
)

_LIMIT = {"timeInForce", "quantity", "price"}
#: By order type, the parameters that it needs and the others that it takes.
PARAMETERS: dict[str, tuple[set[str], set[str]]] = {
    "LIMIT": (_LIMIT, {"icebergQty"}),
    "LIMIT_MAKER": ({"quantity", "price"}, {"icebergQty"}),
    "MARKET": (set(), {"quantity", "quoteOrderQty"}),
    "STOP_LOSS": ({"quantity", "stopPrice"}, set()),
    "TAKE_PROFIT": ({"quantity", "stopPrice"}, set()),
    "STOP_LOSS_LIMIT": (_LIMIT | {"stopPrice"}, {"icebergQty"}),
    "TAKE_PROFIT_LIMIT": (_LIMIT | {"stopPrice"}, {"icebergQty"}),
}
OPTIONAL = {"timeInForce", "quantity", "quoteOrderQty", "price", "stopPrice", "icebergQty"}
MANY = Decimal(10) ** 9


def breaks(value: Decimal, rule: Mapping[str, Any], noun: str, step: str) -> bool:
    """Check a value against a minimum, a maximum and a step, each unless it is 0."""
    low, high, size = (number(rule, name) for name in (f"min{noun}", f"max{noun}", step))
    return value < low or 0 < high < value or bool(size and value % size)


class NaiveEngine(NaiveBook):
    """Take the documented parameters of an order as text."""

    def __init__(self, rules: Mapping[str, Rules], terms: Mapping[str, Terms]) -> None:
        super().__init__(rules, terms)
        self.known: dict[tuple[str, int], Order] = {}

    def place(self, account: str, params: Mapping[str, str]) -> Order | set[str]:
        """Place an order, or return the reasons to refuse it.

        The documentation orders the stages (parameters, filters, engine), but not the rules within
        one. So these are all reasons of the first stage that refuses.
        """
        for stage in (self._bad_parameters, self._broken_filters, self._engine_refusals):
            if reasons := set(stage(account, params)):
                return reasons
        order = self._order(account, params)
        order.order_id = 1 + sum(1 for symbol, _ in self.known if symbol == order.symbol)
        self.open.append(order)
        self.known[order.symbol, order.order_id] = order
        if order.stop:
            order.where = "waiting"
        else:
            self.execute(order)
        while self.triggered:
            self.execute(self.triggered.pop(0))
        return order

    def cancel(self, account: str, symbol: str, client_id: str | None) -> list[int]:
        """Cancel the open order of that id, or all of them. Return their order ids."""
        found = [row for row in self.open if (row.account, row.symbol) == (account, symbol)]
        found = [row for row in found if client_id in (None, row.params["newClientOrderId"])]
        for order in found:
            self.close(order, "CANCELED")
        return [order.order_id for order in found]

    def _order(self, account: str, params: Mapping[str, str]) -> Order:
        rules = self.rules[params["symbol"]]
        mode = params.get("selfTradePreventionMode", rules.default_mode)
        order = Order(0, account, params, mode, number(params, "quantity"))
        if budget := number(params, "quoteOrderQty"):
            trial = self.trial(order, quantity=MANY, budget=budget)
            order.quantity = order.offered = trial.moved
            if trial.seen:  # undocumented: the rest counts at the last price
                step = number(rules.filters["LOT_SIZE"], "stepSize")
                order.quantity += affordable(budget - trial.paid, trial.seen, step)
        return order

    # -- Refusals before the engine ----------------------------------------------------------------

    def _bad_parameters(self, _account: str, params: Mapping[str, str]) -> Iterator[str]:
        needed, taken = PARAMETERS[params["type"]]
        sent = OPTIONAL & params.keys()
        if needed - sent or (params["type"] == "MARKET" and not sent & taken):
            yield "-1102"
        if sent - needed - taken or {"quantity", "quoteOrderQty"} <= sent:
            yield "-1106"
        if any(number(params, name) % EIGHT_PLACES for name in sent - {"timeInForce"}):
            yield "-1111"
        if "icebergQty" in sent & taken and params.get("timeInForce", "GTC") != "GTC":
            yield "-1014"

    def _broken_filters(self, _account: str, params: Mapping[str, str]) -> Iterator[str]:
        rules = self.rules[params["symbol"]]
        quantity, iceberg = number(params, "quantity"), number(params, "icebergQty")
        if params.get("selfTradePreventionMode", rules.default_mode) not in rules.modes:
            yield "-1013 This symbol does not allow the specified self-trade prevention mode."
        if iceberg > quantity:
            yield "-1013 IcebergQty exceeds QTY."
        if {"price", "quantity"} <= params.keys() and not floor(number(params, "price") * quantity):
            yield "-1013 Price * QTY is zero or less."
        for name, rule in rules.filters.items():
            if self._breaks(name, rule, params):
                yield f"-1013 Filter failure: {name}"

    def _breaks(self, name: str, rule: Mapping[str, Any], params: Mapping[str, str]) -> bool:
        price, quantity = number(params, "price"), number(params, "quantity")
        stop, iceberg = number(params, "stopPrice"), number(params, "icebergQty")
        at_market = params["type"] in AT_MARKET
        if name == "PRICE_FILTER":
            return any(breaks(value, rule, "Price", "tickSize") for value in (price, stop) if value)
        if name == "LOT_SIZE":
            return any(
                breaks(value, rule, "Qty", "stepSize") for value in (quantity, iceberg) if value
            )
        if name == "MARKET_LOT_SIZE":
            return at_market and quantity > 0 and breaks(quantity, rule, "Qty", "stepSize")
        if name == "ICEBERG_PARTS":
            return iceberg > 0 and quantity > iceberg * rule["limit"]
        mean = self._average(params["symbol"], rule.get("avgPriceMins", 0))
        if name == "PERCENT_PRICE_BY_SIDE":
            side = "bid" if params["side"] == "BUY" else "ask"
            low, high = (number(rule, f"{side}Multiplier{end}") for end in ("Down", "Up"))
            return price > 0 and mean > 0 and not mean * low <= price <= mean * high
        if name == "NOTIONAL":
            # The documentation names MARKET. A stop order without a price is taken for one.
            notional = number(params, "quoteOrderQty") or (price or mean or stop) * quantity
            is_low = notional < number(rule, "minNotional")
            is_high = notional > number(rule, "maxNotional")
            return notional > 0 and (
                (is_low and (not at_market or rule["applyMinToMarket"]))
                or (is_high and (not at_market or rule["applyMaxToMarket"]))
            )
        return False

    def _average(self, symbol: str, minutes: int) -> Decimal:
        """Return the average price by volume, the last price without trades, 0 without any."""
        since = self.now - minutes * 60
        recent = [trade for trade in self.trades if trade[0] == symbol and trade[1] > since]
        volume = sum((quantity for *_, quantity in recent), ZERO)
        if not minutes or not volume:
            return self.last.get(symbol, ZERO)
        return floor(sum((price * quantity for *_, price, quantity in recent), ZERO) / volume)

    # -- Refusals of the engine --------------------------------------------------------------------

    def _engine_refusals(self, account: str, params: Mapping[str, str]) -> Iterator[str]:
        order = self._order(account, params)
        mine = [row for row in self.open if row.account == account]
        if any(row.params["newClientOrderId"] == params["newClientOrderId"] for row in mine):
            yield "-2010 Duplicate order sent."
        yield from self._cap_refusals(order, [row for row in mine if row.symbol == order.symbol])
        if order.type == "LIMIT_MAKER" and self.best(order) is not None:
            yield "-2010 Order would immediately match and take."
        last = self.last.get(order.symbol)
        if order.stop and last is not None and order.is_reached_by(last):
            yield "-2010 Order would trigger immediately."
        yield from self._money_refusals(order)

    def _cap_refusals(self, order: Order, mine: list[Order]) -> Iterator[str]:
        filters = self.rules[order.symbol].filters
        for name, key, concerns in (
            ("MAX_NUM_ORDERS", "maxNumOrders", lambda _row: True),
            ("MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders", lambda row: row.stop > 0),
            ("MAX_NUM_ICEBERG_ORDERS", "maxNumIcebergOrders", lambda row: row.iceberg > 0),
        ):
            counted = [row for row in mine if concerns(row)]
            if name in filters and concerns(order) and len(counted) >= filters[name][key]:
                yield f"-2010 Filter failure: {name}"
        if order.side == "BUY" and (rule := filters.get("MAX_POSITION")):
            owned = self.owned.get((order.account, self.rules[order.symbol].base), ZERO)
            coming = sum((row.left for row in mine if row.side == "BUY"), order.quantity)
            if owned + coming > number(rule, "maxPosition"):
                yield "-2010 Filter failure: MAX_POSITION"

    def _money_refusals(self, order: Order) -> Iterator[str]:
        need = self.need(replace(order, where="waiting" if order.stop else "taking"))
        if order.type == "MARKET":
            need = self.trial(order).paid if order.side == "BUY" else order.quantity
            if quote := number(order.params, "quoteOrderQty"):
                need = max(need, quote) if order.side == "BUY" else need
                yield from self._lot_refusals(order)
        if need > self.free(order.account, self.paying(order)):
            yield "-2010 Account has insufficient balance for requested action."

    def _lot_refusals(self, order: Order) -> Iterator[str]:
        """Refuse a quoteOrderQty for too little or too much, or a book that has too little."""
        liquidity = "-2010 Order book liquidity is less than"
        if self.best(order) is None:
            yield f"{liquidity} symbol minimum quantity."
            return
        for name in ("LOT_SIZE", "MARKET_LOT_SIZE"):
            rule = self.rules[order.symbol].filters.get(name, {})
            low, high = number(rule, "minQty"), number(rule, "maxQty")
            if order.quantity < max(low, EIGHT_PLACES) or 0 < high < order.quantity:
                yield f"-1013 Filter failure: {name}"
            elif order.offered < max(low, EIGHT_PLACES):
                yield f"{liquidity} `{name}` filter minimum quantity."
