"""Make a market from a seed: a price that walks and a house that quotes around it.

Ticks from outside drive it. The same seed, ticks and orders give the same market.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from exchanges.simulator.engine.engine import Engine
from exchanges.simulator.engine.enums import SymbolStatus
from exchanges.simulator.engine.filters import SymbolFilters, compile_filters
from exchanges.simulator.engine.types import BASIS_POINTS, SCALE, units

Rows = list[tuple[int, int]]

DEFAULT_PRICES: dict[str, int] = {
    "BTCUSDT": units("60000"),
    "ETHUSDT": units("2400"),
    "BNBUSDT": units("520"),
    "SOLUSDT": units("140"),
    "XRPUSDT": units("0.55"),
    "DOGEUSDT": units("0.1"),
    "ETHBTC": units("0.04"),
}
# The rough value of a quote asset in dollars, so that all books are equally deep.
_QUOTE_WORTH = {"BTC": 60_000, "ETH": 2_400, "BNB": 520}

LEVELS = 20
LEVEL_WORTH = 2_500  # dollars at the best price, more further away
HALF_SPREAD_BP = 1
STEP_BP = 3
# A pull back to its start keeps the walk inside the price filters for hours.
PULL = 0.002


@dataclass(slots=True)
class _Quoted:
    """Keep one symbol's walk. Prices are in units."""

    filters: SymbolFilters
    anchor: int
    price: int
    worth: int


class MarketMaker:
    """Quote and move the prices of all symbols.

    If `frozen`, the test owns the book: no quotes and no walk, but `set_price` still sets the last
    price.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        seed: int = 0,
        frozen: bool = False,
        prices: Mapping[str, int] | None = None,
        past_days: int = 0,
    ) -> None:
        self.engine = engine
        self.frozen = frozen
        self._random = Random(seed)
        self._prices = {**DEFAULT_PRICES, **(prices or {})}
        self._quoted: dict[str, _Quoted] = {}
        if past_days:
            self._give_pasts(past_days, seed)
        self.start()

    def _give_pasts(self, days: int, seed: int) -> None:
        """Give a past to every symbol whose first price is known."""
        for symbol, spec in self.engine.symbols.items():
            if price := self._prices.get(symbol):
                worth = _QUOTE_WORTH.get(spec.quote_asset, 1)
                self.engine.give_past(symbol, price=price, days=days, seed=seed, quote_worth=worth)

    def start(self) -> None:
        """Set every symbol's first price and quote around it, at first and after a wipe."""
        self._quoted.clear()
        for symbol in self.engine.symbols:
            self.list_symbol(symbol)

    def list_symbol(self, symbol: str) -> None:
        """Start to quote a symbol. Without a known price it waits for `set_price`."""
        price = self._prices.get(symbol, 0)
        if price:
            self.set_price(symbol, price)

    def delist(self, symbol: str) -> None:
        """Stop to quote a symbol that is going to be delisted."""
        self._quoted.pop(symbol, None)

    def learn(self, symbol: str) -> None:
        """Read the symbol's rules again after they changed, and quote by them."""
        quoted = self._quoted.get(symbol)
        if quoted is not None:
            quoted.filters = compile_filters(self.engine.spec(symbol).filters)
            if not self.frozen:
                self.engine.quote(symbol, *self._ladder(quoted))

    def price(self, symbol: str) -> int:
        """Return the current price of the walk, 0 before there is one."""
        quoted = self._quoted.get(symbol)
        return quoted.price if quoted else 0

    def set_price(self, symbol: str, price: int) -> None:
        """Continue the walk from here and make `price` the last price, see `Engine.set_price`."""
        quoted = self._quoted.get(symbol)
        if quoted is None:
            spec = self.engine.spec(symbol)
            worth = _QUOTE_WORTH.get(spec.quote_asset, 1)
            quoted = self._quoted[symbol] = _Quoted(
                compile_filters(spec.filters), price, price, worth
            )
        quoted.anchor = quoted.price = price
        bids, asks = ([], []) if self.frozen else self._ladder(quoted)
        self.engine.set_price(symbol, price, bids=bids, asks=asks)

    def freeze(self) -> None:
        """Stop, and remove the house's quotes from every book."""
        self.frozen = True
        for symbol in self._quoted:
            self.engine.quote(symbol, [], [])

    def thaw(self) -> None:
        """Quote and walk again, starting from the last prices."""
        self.frozen = False
        for symbol, quoted in self._quoted.items():
            quoted.anchor = quoted.price = self.engine.last_price(symbol) or quoted.price
            self.engine.quote(symbol, *self._ladder(quoted))

    def tick(self) -> None:
        """Move every symbol one step: quote again and trade with the house at the new price."""
        if self.frozen:
            return
        for symbol, quoted in self._quoted.items():
            if self.engine.status(symbol) is not SymbolStatus.TRADING:
                continue
            quoted.price = self._walk(quoted)
            self.engine.quote(symbol, *self._ladder(quoted))
            quantity = self._quantity(quoted, quoted.price, self._random.uniform(0.02, 0.4))
            self.engine.print_trade(
                symbol, quoted.price, quantity, buyer_is_maker=self._random.random() < 0.5
            )

    def _walk(self, quoted: _Quoted) -> int:
        drift = (quoted.anchor - quoted.price) * PULL
        step = self._random.gauss(0.0, STEP_BP) * quoted.price / BASIS_POINTS
        tick = quoted.filters.price.step or 1
        price = round((quoted.price + drift + step) / tick) * tick
        return max(tick, quoted.filters.price.minimum, price)

    def _ladder(self, quoted: _Quoted) -> tuple[Rows, Rows]:
        """Return bids and asks, best first.

        They start at least a tick from the price, with even gaps, and get deeper further out.
        """
        tick = quoted.filters.price.step or 1
        gap = max(tick, quoted.price * HALF_SPREAD_BP // BASIS_POINTS // tick * tick)
        bids: Rows = []
        asks: Rows = []
        for level in range(LEVELS):
            distance = gap * (level + 1)
            if quoted.price > distance:
                bids.append(
                    (quoted.price - distance, self._depth(quoted, quoted.price - distance, level))
                )
            asks.append(
                (quoted.price + distance, self._depth(quoted, quoted.price + distance, level))
            )
        return bids, asks

    def _depth(self, quoted: _Quoted, price: int, level: int) -> int:
        return self._quantity(quoted, price, self._random.uniform(0.6, 1.4) * (1 + level / 4))

    def _quantity(self, quoted: _Quoted, price: int, share: float) -> int:
        """Return a quantity worth `share` of a level, rounded to the symbol's lot size."""
        step = quoted.filters.lot.step or 1
        quantity = int(LEVEL_WORTH * share) * SCALE * SCALE // (price * quoted.worth)
        return max(quantity - quantity % step, quoted.filters.lot.minimum, step)
