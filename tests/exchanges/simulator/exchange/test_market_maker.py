"""Check the seeded market: liquid, moving, repeatable, and silent when frozen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exchanges.simulator.engine.default_symbols import DEFAULT_SYMBOLS
from exchanges.simulator.engine.engine import Engine
from exchanges.simulator.engine.enums import OrderStatus, OrderType, Side, SymbolStatus, TimeInForce
from exchanges.simulator.engine.types import NewOrder, units
from exchanges.simulator.exchange.market_maker import DEFAULT_PRICES, MarketMaker
from tests.exchanges.simulator.engine.desk import START, audit

SYMBOLS = [spec.symbol for spec in DEFAULT_SYMBOLS]


class Scene:
    """Run the default symbols with a market maker and `alice`, who is rich."""

    def __init__(self, *, seed: int = 1, frozen: bool = False) -> None:
        self.now = START
        self.engine = Engine(clock=lambda: self.now)
        self.market = MarketMaker(self.engine, seed=seed, frozen=frozen)
        assets = {
            asset for spec in DEFAULT_SYMBOLS for asset in (spec.base_asset, spec.quote_asset)
        }
        self.engine.add_account("alice", {asset: units("10000000") for asset in assets})

    def run(self, ticks: int) -> None:
        for _ in range(ticks):
            self.now += 250_000
            self.market.tick()

    def limit(self, side: Side, quantity: str, price: int) -> NewOrder:
        return NewOrder(
            "BTCUSDT",
            side,
            OrderType.LIMIT,
            TimeInForce.GTC,
            quantity=units(quantity),
            price=price - price % 1_000_000,
        )


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("side", Side)
def test_market__a_market_order_of_a_thousand_dollars_fills_at_once(
    symbol: str, side: Side
) -> None:
    scene = Scene()
    quote = units("1000") if symbol.endswith("USDT") else units("0.0166")
    for _ in range(50):
        scene.run(1)
        placement = scene.engine.place(
            "alice", NewOrder(symbol, side, OrderType.MARKET, quote_quantity=quote)
        )
        assert placement.state.status is OrderStatus.FILLED
        assert abs(placement.state.executed_quote - quote) < quote * 2 // 100
    audit(scene.engine)


def test_market__prices_walk_but_not_away() -> None:
    scene = Scene()
    prices: dict[str, set[int]] = {symbol: set() for symbol in SYMBOLS}
    for _ in range(300):
        scene.run(1)
        for symbol in SYMBOLS:
            prices[symbol].add(scene.engine.last_price(symbol))
    for symbol, seen in prices.items():
        assert len(seen) > 10
        assert DEFAULT_PRICES[symbol] * 0.9 < min(seen) < max(seen) < DEFAULT_PRICES[symbol] * 1.1
    assert scene.engine.day_stats("BTCUSDT").trades > 300


def test_market__every_quote_and_price_passes_the_symbols_own_filters() -> None:
    scene = Scene()
    scene.run(50)
    for spec in DEFAULT_SYMBOLS:
        rules = {rule["filterType"]: rule for rule in spec.filters}
        tick, step = units(rules["PRICE_FILTER"]["tickSize"]), units(rules["LOT_SIZE"]["stepSize"])
        depth = scene.engine.depth(spec.symbol, 100)
        assert len(depth.bids) == len(depth.asks) == 20
        assert depth.bids[0][0] < scene.engine.last_price(spec.symbol) < depth.asks[0][0]
        for price, quantity in (*depth.bids, *depth.asks):
            assert price % tick == 0
            assert quantity % step == 0
            assert quantity > 0


def test_market__the_seed_decides() -> None:
    def course(seed: int) -> list[tuple[int, object]]:
        scene = Scene(seed=seed)
        scene.run(20)
        return [(scene.engine.last_price(symbol), scene.engine.depth(symbol)) for symbol in SYMBOLS]

    assert course(5) == course(5)
    assert course(5) != course(6)


def test_market__resting_orders_fill_when_the_price_comes_to_them() -> None:
    scene = Scene()
    price = scene.engine.last_price("BTCUSDT")
    orders = [
        scene.engine.place("alice", scene.limit(Side.BUY, "0.01", price * 9_997 // 10_000)).order,
        scene.engine.place("alice", scene.limit(Side.SELL, "0.01", price * 10_003 // 10_000)).order,
    ]
    for _ in range(2_000):
        scene.run(1)
        if not all(order.is_open for order in orders):
            break
    assert any(order.status is OrderStatus.FILLED for order in orders)
    audit(scene.engine)


def test_set_price__the_walk_goes_on_from_there() -> None:
    scene = Scene()
    scene.market.set_price("BTCUSDT", units("30000"))
    assert scene.engine.last_price("BTCUSDT") == scene.market.price("BTCUSDT") == units("30000")
    scene.run(50)
    assert units("29000") < scene.engine.last_price("BTCUSDT") < units("31000")
    bid, ask = scene.engine.best("BTCUSDT")
    assert bid is not None
    assert ask is not None
    assert bid[0] < scene.engine.last_price("BTCUSDT") < ask[0]


def test_frozen__prices_are_known_and_books_are_empty() -> None:
    scene = Scene(frozen=True)
    scene.run(10)
    for symbol in SYMBOLS:
        assert scene.engine.last_price(symbol) == DEFAULT_PRICES[symbol]
        assert scene.engine.best(symbol) == (None, None)
    scene.market.set_price("BTCUSDT", units("50000"))
    assert scene.engine.last_price("BTCUSDT") == units("50000")
    assert scene.engine.best("BTCUSDT") == (None, None)


def test_freeze_and_thaw__leave_and_come_back_at_the_last_price() -> None:
    scene = Scene()
    scene.market.freeze()
    scene.run(5)
    assert scene.engine.best("BTCUSDT") == (None, None)
    scene.engine.set_price("BTCUSDT", units("61000"))
    scene.market.thaw()
    scene.run(1)
    assert abs(scene.engine.last_price("BTCUSDT") - units("61000")) < units("500")
    assert scene.engine.best("BTCUSDT") != (None, None)


def test_tick__leaves_halted_symbols_alone() -> None:
    scene = Scene()
    scene.engine.set_status("BTCUSDT", SymbolStatus.HALT)
    before = scene.engine.depth("BTCUSDT"), scene.engine.last_price("BTCUSDT")
    scene.run(5)
    assert (scene.engine.depth("BTCUSDT"), scene.engine.last_price("BTCUSDT")) == before


def test_start__again_after_a_wipe() -> None:
    scene = Scene()
    scene.run(5)
    scene.engine.wipe()
    scene.market.start()
    assert scene.engine.last_price("BTCUSDT") == DEFAULT_PRICES["BTCUSDT"]
    assert scene.engine.best("BTCUSDT") != (None, None)
    audit(scene.engine)


def test_list_symbol__quotes_a_new_symbol_once_it_has_a_price() -> None:
    scene = Scene()
    scene.engine.add_symbol(replace(DEFAULT_SYMBOLS[0], symbol="NEWUSDT", base_asset="NEW"))
    scene.market.list_symbol("NEWUSDT")
    assert scene.market.price("NEWUSDT") == 0
    scene.market.set_price("NEWUSDT", units("7"))
    scene.run(1)
    assert scene.engine.best("NEWUSDT") != (None, None)
