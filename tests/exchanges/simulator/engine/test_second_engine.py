"""Give the same random orders to the simulator and to a second, naive engine, and compare.

A seed makes each story. One that ends in a difference is shortened and printed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from exchanges.simulator.api.endpoints.trading import read_order
from exchanges.simulator.api.params import Params
from exchanges.simulator.engine import funds
from exchanges.simulator.engine.engine import Engine
from exchanges.simulator.engine.enums import STOP_TYPES, StpMode
from exchanges.simulator.engine.estimate import Estimate
from exchanges.simulator.engine.events import ExecutionEvent
from exchanges.simulator.engine.filters import Notional, OpenOrderCaps, PercentPrice, Range
from exchanges.simulator.engine.order_book import BookSide
from exchanges.simulator.engine.stop_orders import StopQueue
from exchanges.simulator.engine.symbol_spec import SymbolSpec
from exchanges.simulator.engine.types import (
    Commission,
    EngineError,
    Order,
    Rates,
    to_decimal,
    units,
)
from exchanges.simulator.errors import ApiError
from tests.exchanges.simulator.engine.naive_book import Fill, Rules, Terms, floor
from tests.exchanges.simulator.engine.naive_engine import PARAMETERS, NaiveEngine

LENGTH = 250
START = 1_700_000_000
WITHOUT_TRANSFER = tuple(mode for mode in StpMode if mode is not StpMode.TRANSFER)
ALL_CAPS: tuple[dict[str, Any], ...] = (
    {"filterType": "ICEBERG_PARTS", "limit": 6},
    {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 6},
    {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 3},
    {"filterType": "MAX_NUM_ICEBERG_ORDERS", "maxNumIcebergOrders": 2},
    {"filterType": "MAX_POSITION", "maxPosition": "215"},
)


def _filters(
    tick: str, step: str, market_maximum: str, notional: tuple[str, str], minutes: int
) -> tuple[dict[str, Any], ...]:
    return (
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000", "tickSize": tick},
        {"filterType": "LOT_SIZE", "minQty": "0.03", "maxQty": "30", "stepSize": step},
        {
            "filterType": "MARKET_LOT_SIZE",
            "minQty": "0",
            "maxQty": market_maximum,
            "stepSize": "0",
        },
        {
            "filterType": "PERCENT_PRICE_BY_SIDE",
            "bidMultiplierUp": "1.06",
            "bidMultiplierDown": "0.9",
            "askMultiplierUp": "1.1",
            "askMultiplierDown": "0.94",
            "avgPriceMins": minutes,
        },
        {
            "filterType": "NOTIONAL",
            "minNotional": notional[0],
            "applyMinToMarket": True,
            "maxNotional": notional[1],
            "applyMaxToMarket": bool(minutes),
            "avgPriceMins": minutes,
        },
        *ALL_CAPS,
    )


#: The products of the second symbol's ticks and steps have more than eight decimals.
SYMBOLS = (
    SymbolSpec(
        symbol="AAABBB",
        base_asset="AAA",
        quote_asset="BBB",
        filters=_filters("0.01", "0.001", "15", ("20", "2000"), 0),
        default_stp_mode=StpMode.NONE,
        allowed_stp_modes=tuple(StpMode),
    ),
    SymbolSpec(
        symbol="BNBBBB",
        base_asset="BNB",
        quote_asset="BBB",
        filters=_filters("0.00000007", "0.00000003", "0", ("10", "1500"), 1),
        allowed_stp_modes=WITHOUT_TRANSFER,
    ),
    SymbolSpec(
        symbol="AAABNB",
        base_asset="AAA",
        quote_asset="BNB",
        filters=_filters("0.0001", "0.01", "0", ("0.2", "20"), 2),
        default_stp_mode=StpMode.DECREMENT,
        allowed_stp_modes=tuple(StpMode),
    ),
)
CENTERS = {"AAABBB": 100.0, "BNBBBB": 100.0, "AAABNB": 1.0}
TICKS = {"AAABBB": "0.01", "BNBBBB": "0.00000007", "AAABNB": "0.0001"}
GRIDS = {"AAABBB": "1", "BNBBBB": "0.7", "AAABNB": "0.01"}
STEPS = {"AAABBB": "0.001", "BNBBBB": "0.00000003", "AAABNB": "0.01"}


def _rates(maker: str, taker: str, buyer: str = "0", seller: str = "0") -> dict[str, Decimal]:
    names = ("maker", "taker", "buyer", "seller")
    return dict(zip(names, map(Decimal, (maker, taker, buyer, seller)), strict=True))


FREE = _rates("0", "0")
TERMS = {
    "alice": Terms(_rates("0.001", "0.001"), FREE),
    "bob": Terms(_rates("0.0002", "0.0007", "0.0003", "0.0001"), _rates("0", "0.00031"), group=7),
    "carol": Terms(
        _rates("0.001", "0.0012", "0.0001"),
        _rates("0.00011", "0", "0", "0.00023"),
        Decimal("0.75"),
        7,
    ),
    "dave": Terms(_rates("0.001", "0.001"), FREE, Decimal("0.25")),
}
BALANCES = {
    "alice": {"AAA": "200", "BBB": "20000", "BNB": "200"},
    "bob": {"AAA": "60", "BBB": "6000", "BNB": "60"},
    "carol": {"AAA": "60", "BBB": "6000", "BNB": "60"},
    "dave": {"AAA": "4", "BBB": "500", "BNB": "0.01"},
}
ASSETS = ("AAA", "BBB", "BNB")


# -- Stories -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """Place an order, or cancel one or all, so many seconds after the step before."""

    seconds: int
    account: str
    verb: str
    params: dict[str, str]

    def __str__(self) -> str:
        values = " ".join(f"{name}={value}" for name, value in self.params.items())
        return f"{self.seconds:>3} s later {self.account} {self.verb} {values}"


class Author:
    """Write the steps of a story. They don't depend on the answers, so any of them can be cut."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.centers = dict(CENTERS)
        self.ids: list[tuple[str, str, str]] = []

    def steps(self) -> list[Step]:
        return [self._step() for _ in range(LENGTH)]

    def _step(self) -> Step:
        random = self.random
        for symbol in self.centers:
            self.centers[symbol] *= random.uniform(0.99, 1.01)
        account = random.choices(tuple(TERMS), (4, 3, 3, 2))[0]
        symbol = random.choices(tuple(self.centers), (5, 3, 2))[0]
        seconds = random.choices((0, 1, 7, 50), (20, 6, 3, 1))[0]
        verb = random.choices(("places", "cancels", "cancels all"), (80, 18, 2))[0]
        if verb == "cancels all":
            return Step(seconds, account, verb, {"symbol": symbol})
        if verb == "cancels" and self.ids:
            account, symbol, name = random.choice(self.ids[-25:])
            return Step(seconds, account, verb, {"symbol": symbol, "origClientOrderId": name})
        return Step(seconds, account, "places", self._order(account, symbol))

    def _order(self, account: str, symbol: str) -> dict[str, str]:
        random = self.random
        kind = random.choices(tuple(PARAMETERS), (40, 8, 22, 4, 4, 8, 8))[0]
        needed, taken = PARAMETERS[kind]
        names = {*needed}
        if kind == "MARKET":
            names |= {random.choice(("quantity", "quoteOrderQty"))}
        elif taken and random.random() < 0.15:
            names |= taken
        if random.random() < 0.04:  # a missing or a superfluous parameter
            names ^= {random.choice(("timeInForce", "quantity", "price", "quoteOrderQty"))}
        values = {
            "timeInForce": random.choices(("GTC", "IOC", "FOK"), (8, 2, 2))[0],
            "quantity": self._quantity(symbol, 0.01, 12),
            "price": self._price(symbol),
            "stopPrice": self._price(symbol),
            "icebergQty": self._quantity(symbol, 0.1, 3),
            "quoteOrderQty": self._quote(symbol),
        }
        if "icebergQty" in names and random.random() < 0.9:
            values["timeInForce"] = "GTC"
        params = {"symbol": symbol, "side": random.choice(("BUY", "SELL")), "type": kind}
        params |= {name: value for name, value in values.items() if name in names}
        if random.random() < 0.5:
            params["selfTradePreventionMode"] = random.choice(tuple(StpMode)).value
        mine = [name for owner, _, name in self.ids[-30:] if owner == account]
        name = f"c{len(self.ids)}"
        if mine and random.random() < 0.03:
            name = random.choice(mine)
        self.ids.append((account, symbol, name))
        return params | {"newClientOrderId": name}

    def _price(self, symbol: str) -> str:
        """Return a price near the market. Most are coarse, so that many orders have the same."""
        spread = 0.15 if self.random.random() < 0.02 else 0.012
        step = Decimal((GRIDS if self.random.random() < 0.8 else TICKS)[symbol])
        price = Decimal(self.centers[symbol] * self.random.gauss(1, spread))
        return self._text(floor(price, step), Decimal(TICKS[symbol]))

    def _quantity(self, symbol: str, low: float, high: float) -> str:
        step = Decimal(STEPS[symbol])
        most = 60 if self.random.random() < 0.02 else high
        quantity = floor(Decimal(self.random.uniform(low, most)), step)
        return self._text(max(quantity, step), step)

    def _quote(self, symbol: str) -> str:
        worth = 0.1 + self.centers[symbol] * self.random.uniform(0, 8)
        return f"{worth:.{self.random.choice((1, 4, 8))}f}"

    def _text(self, value: Decimal, step: Decimal) -> str:
        """Print a value, now and then one that isn't a multiple of the step."""
        return f"{value + step / 2 if self.random.random() < 0.01 else value:f}"[:18].rstrip(".")


# -- The two engines -----------------------------------------------------------------------------


def _commission(terms: Terms) -> Commission:
    standard, extra = (
        Rates(**{name: units(rate) for name, rate in rates.items()})
        for rates in (terms.standard, terms.extra)
    )
    discount = terms.discount
    return Commission(
        standard=standard,
        tax=extra,
        discount_enabled_for_account=discount is not None,
        discount=units(discount or 0),
    )


def _rules(spec: SymbolSpec) -> Rules:
    filters = {rule["filterType"]: rule for rule in spec.filters}
    modes = tuple(mode.value for mode in spec.allowed_stp_modes)
    return Rules(spec.base_asset, spec.quote_asset, filters, spec.default_stp_mode.value, modes)


@dataclass
class Both:
    """Give each step to both engines and compare. A difference is an AssertionError."""

    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.now = START
        self.engine = Engine(SYMBOLS, clock=lambda: self.now * 1_000_000)
        self.naive = NaiveEngine({spec.symbol: _rules(spec) for spec in SYMBOLS}, TERMS)
        for name, terms in TERMS.items():
            self.engine.add_account(
                name,
                {asset: units(amount) for asset, amount in BALANCES[name].items()},
                commission=_commission(terms),
                trade_group_id=terms.group,
            )
            for asset, amount in BALANCES[name].items():
                self.naive.owned[name, asset] = Decimal(amount)

    def play(self, steps: list[Step]) -> None:
        for index, step in enumerate(steps):
            self.now += step.seconds
            self.naive.now = self.now
            self.naive.fills.clear()
            if step.verb == "places":
                self._place(step)
            else:
                self._cancel(step)
            self._compare_fills()
            if index % 10 == 0:
                self._compare_everything()
        self._compare_everything()

    def _place(self, step: Step) -> None:
        mine = self.naive.place(step.account, step.params)
        try:
            order = self.engine.place(step.account, read_order(Params(dict(step.params)))).order
        except (ApiError, EngineError) as error:
            theirs = f"{error.code} {error.message}"
            assert isinstance(mine, set), f"only the simulator refuses: {theirs}"
            assert theirs.startswith(tuple(mine)), f"{theirs}, in place of {sorted(mine)}"
            self.seen[theirs] += 1
        else:
            assert not isinstance(mine, set), f"only the naive engine refuses: {sorted(mine)}"
            assert order.order_id == mine.order_id
            self._compare_order(order)
            self.seen["accepted"] += 1

    def _cancel(self, step: Step) -> None:
        symbol, name = step.params["symbol"], step.params.get("origClientOrderId")
        mine = self.naive.cancel(step.account, symbol, name)
        try:
            if name is None:
                done = self.engine.cancel_all(step.account, symbol)
            else:
                done = [self.engine.cancel(step.account, symbol, orig_client_order_id=name)]
        except EngineError as error:
            assert (error.code, mine) == (-2011, []), f"only the naive engine cancels {mine}"  # noqa: PT017
            self.seen["nothing to cancel"] += 1
        else:
            assert sorted(row.order.order_id for row in done) == sorted(mine)
            self.seen["canceled"] += len(done)

    def _compare_fills(self) -> None:
        events = [row for row in self.engine.drain_events() if isinstance(row, ExecutionEvent)]
        theirs = [
            Fill(
                trade.symbol,
                trade.trade_id,
                trade.is_maker,
                trade.order_id,
                to_decimal(trade.price),
                to_decimal(trade.quantity),
                to_decimal(trade.commission),
                trade.commission_asset,
            )
            for event in events
            if (trade := event.trade)
        ]
        mine = sorted(self.naive.fills)
        assert sorted(theirs) == mine, f"fills: {sorted(theirs)} are not {mine}"
        for event in events:
            self._compare_order(event.order)
            if event.prevention:
                self.seen[f"prevented: {event.prevention.match.stp_mode}"] += 1
            if event.state.status == "EXPIRED":
                self.seen[f"expired: {event.state.expiry_reason}"] += 1
            if event.trade and event.order.order_type in STOP_TYPES:
                self.seen["fills of stop orders"] += 1
            if event.trade and event.order.iceberg_quantity:
                self.seen["fills of icebergs"] += 1
        self.seen["fills"] += len(theirs)
        self.seen["fills paid in BNB"] += sum(1 for fill in theirs if fill.asset == "BNB")

    def _compare_order(self, order: Order) -> None:
        mine = self.naive.known[order.symbol, order.order_id]
        theirs = (
            order.status.value,
            to_decimal(order.quantity),
            to_decimal(order.executed_quantity),
            to_decimal(order.executed_quote),
            to_decimal(order.prevented_quantity),
        )
        ours = (mine.status, mine.quantity, mine.executed, mine.quote, mine.prevented)
        assert theirs == ours, f"order {order.order_id} of {order.symbol}: {theirs} is not {ours}"

    def _compare_everything(self) -> None:
        engine, naive = self.engine, self.naive
        for name in TERMS:
            balances = engine.balances(name)
            for asset in ASSETS:
                free, locked = map(to_decimal, balances.get(asset, (0, 0)))
                mine = (naive.free(name, asset), naive.locked(name, asset))
                assert (free, locked) == mine, f"{asset} of {name}: {(free, locked)} is not {mine}"
            theirs = {(order.symbol, order.order_id) for order in engine.open_orders(name)}
            assert theirs == {
                (row.symbol, row.order_id) for row in naive.open if row.account == name
            }
        for spec in SYMBOLS:
            depth = engine.depth(spec.symbol, 1000)
            for rows, side in ((depth.bids, "BUY"), (depth.asks, "SELL")):
                levels: Counter[Decimal] = Counter()
                for row in naive.open:
                    if (row.where, row.symbol, row.side) == ("book", spec.symbol, side):
                        levels[row.price] += row.shown  # type: ignore[assignment]
                shown = {to_decimal(price): to_decimal(quantity) for price, quantity in rows}
                assert shown == levels, f"{side} of {spec.symbol}: {shown} is not {levels}"


def difference(steps: list[Step], seen: Counter[str] | None = None) -> str:
    """Return the difference that a story ends with, or an empty text."""
    try:
        Both(Counter() if seen is None else seen).play(steps)
    except AssertionError as error:
        return str(error) or "they differ"
    return ""


def shortened(steps: list[Step]) -> list[Step]:
    """Leave out whatever the difference doesn't need: halves, quarters, down to single steps."""
    size = len(steps) // 2
    while size:
        start = 0
        while start < len(steps):
            rest = steps[:start] + steps[start + size :]
            if difference(rest):
                steps = rest
            else:
                start += size
        size //= 2
    return steps


def compare(seeds: range) -> Counter[str]:
    seen: Counter[str] = Counter()
    for seed in seeds:
        steps = Author(seed).steps()
        if difference(steps, seen):
            short = shortened(steps)
            story = "\n".join(map(str, short))
            pytest.fail(f"seed {seed}, shortened to:\n{story}\n=> {difference(short)}")
    return seen


# -- Faults that the comparison must find --------------------------------------------------------

Method = Callable[..., Any]


def newest_first(add: Method) -> Method:
    def changed(side: BookSide, order: Order) -> None:
        add(side, order)
        side.levels[order.price].orders.move_to_end(order.order_id, last=False)

    return changed


def one_unit_more(charge: Method) -> Method:
    def changed(context: Any, order: Order, asset: str, balance: Any, **options: Any) -> Any:
        options["received"] += 1_000
        return charge(context, order, asset, balance, **options)

    return changed


def never(_method: Method) -> Method:
    return lambda *_args, **_options: None


def not_at_the_price(is_reached: Method) -> Method:
    return lambda queue, stop, price: stop != price and is_reached(queue, stop, price)


def always_complete(cost: Method) -> Method:
    return lambda estimate, quantity: (cost(estimate, quantity)[0], True)


PLANTED: dict[str, tuple[Any, str, Callable[[Method], Method]]] = {
    "the newest order of a price first": (BookSide, "add", newest_first),
    "commission on too much": (funds, "charge", one_unit_more),
    "money that stays locked": (funds.Funds, "release_surplus", never),
    "stop orders that wait for a price beyond theirs": (
        StopQueue,
        "is_reached",
        not_at_the_price,
    ),
    "FOK orders that fill in part": (Estimate, "cost", always_complete),
    "no limit of open orders": (OpenOrderCaps, "check", never),
    "no steps, minima and maxima": (Range, "check", never),
    "no limit of prices": (PercentPrice, "check", never),
    "no limit of the notional": (Notional, "check", never),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_comparison__finds_a_planted_fault(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, change = PLANTED[fault]
    monkeypatch.setattr(owner, name, change(getattr(owner, name)))
    assert any(difference(Author(seed).steps()) for seed in range(20))


def test_comparison__shortens_a_story(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BookSide, "add", newest_first(BookSide.add))
    steps = next(steps for seed in range(20) if difference(steps := Author(seed).steps()))
    short = shortened(steps)
    assert (
        len(short) <= 6
    )  # two makers at one price and a taker, and perhaps what makes their price
    assert difference(short)


# -- Tests ---------------------------------------------------------------------------------------

#: Everything that must happen in the stories, or they prove less than they seem to.
MUST_HAPPEN = (
    "accepted",
    "canceled",
    "nothing to cancel",
    "fills",
    "fills paid in BNB",
    "fills of stop orders",
    "fills of icebergs",
    *(f"prevented: {mode}" for mode in StpMode if mode is not StpMode.NONE),
    "expired: INSUFFICIENT_LIQUIDITY",
    "expired: UNFILLED_IOC_QUANTITY_EXPIRED",
    "expired: UNFILLED_FOK_ORDER_EXPIRED",
    "-2010 Duplicate order sent.",
    "-2010 Order would immediately match and take.",
    "-2010 Order would trigger immediately.",
    "-2010 Account has insufficient balance for requested action.",
    "-2010 Filter failure: MAX_NUM_ORDERS",
    "-2010 Filter failure: MAX_NUM_ALGO_ORDERS",
    "-2010 Filter failure: MAX_NUM_ICEBERG_ORDERS",
    "-2010 Filter failure: MAX_POSITION",
    "-1013 Filter failure: PRICE_FILTER",
    "-1013 Filter failure: LOT_SIZE",
    "-1013 Filter failure: MARKET_LOT_SIZE",
    "-1013 Filter failure: PERCENT_PRICE_BY_SIDE",
    "-1013 Filter failure: NOTIONAL",
    "-1013 Filter failure: ICEBERG_PARTS",
    "-1013 IcebergQty exceeds QTY.",
    "-1013 This symbol does not allow the specified self-trade prevention mode.",
)


def test_engine__agrees_with_the_naive_engine() -> None:
    seen = compare(range(20))
    assert [name for name in MUST_HAPPEN if not seen[name]] == []


@pytest.mark.long
@pytest.mark.parametrize("first", range(0, 520, 26))
def test_engine__agrees_with_the_naive_engine_on_a_hundred_thousand_orders(first: int) -> None:
    seen = compare(range(1000 + first, 1000 + first + 26))
    placed = seen["accepted"] + sum(count for name, count in seen.items() if name[0] == "-")
    assert placed >= 5_000
