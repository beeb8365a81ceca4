"""Make up the trades of the days before an exchange started, from its seed.

No state file holds them. Trade `k` of `count` lies in the slot of `SLOT` that is `count - k` slots
before the start, and the last one has the price at which the market starts. Prices walk backward
from there. A past is the same for the same seed, symbol, price and number of days, whenever it
starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from math import exp
from random import Random
from sys import maxsize
from typing import Any

from exchanges.simulator.engine.filters import Range, SymbolFilters
from exchanges.simulator.engine.types import (
    BASIS_POINTS,
    SCALE,
    AggregateTrade,
    Bar,
    PublicTrade,
)

SECOND = 1_000_000
MINUTE = 60 * SECOND
DAY = 24 * 60 * MINUTE

#: One trade each. A minute has at least three whole slots, so that no minute is without a trade.
SLOT = 15 * SECOND
LONGEST_PAST_DAYS = 7

STEP_BP = 8.0
# A pull back to the first price keeps the walk within some percent of it.
PULL = 0.0005
# In dollars. A live market trades about as much in a slot.
LEAST_WORTH, MOST_WORTH = 3_000, 60_000


class Past:
    """Answer for the trades before `start` (microseconds).

    Trades are made when they are first asked for, newest first, and kept in memory.
    """

    def __init__(
        self,
        *,
        seed: int,
        symbol: str,
        start: int,
        price: int,
        days: int,
        filters: SymbolFilters,
        quote_worth: int = 1,
    ) -> None:
        self.start = start
        self.count = days * DAY // SLOT
        self._arguments: dict[str, Any] = {
            "seed": seed,
            "symbol": symbol,
            "start": start,
            "price": price,
            "days": days,
            "filters": filters,
            "quote_worth": quote_worth,
        }
        self._price = price
        self._tick = filters.price.step or 1
        self._least_price, self._most_price = _limits(filters.price)
        self._step = filters.lot.step or 1
        self._least_quantity, self._most_quantity = _limits(filters.lot)
        self._worth = quote_worth
        # A text as seed gives the same numbers in every process.
        self._random = Random(f"{seed} {symbol}")
        self._offset = 0.0
        self._newest_first: list[PublicTrade] = []
        self._minutes: dict[int, Bar] = {}

    def __reduce__(self) -> tuple[Callable[[], Past], tuple[()]]:
        """Save the arguments alone, because all else follows from them."""
        return partial(Past, **self._arguments), ()

    # --------------------------------------------------------------------------------------- trades

    def trades(self, first_id: int, limit: int) -> list[PublicTrade]:
        """Return at most `limit` trades from `first_id` on, oldest first."""
        first_id = max(first_id, 1)
        last_id = min(first_id + limit - 1, self.count)
        return [self._trade(number) for number in range(first_id, last_id + 1)]

    def aggregates(self, first_id: int, limit: int) -> list[AggregateTrade]:
        """Return the same trades as aggregate trades. Each is one, so that the ids are equal."""
        return [
            AggregateTrade(
                aggregate_id=trade.trade_id,
                price=trade.price,
                quantity=trade.quantity,
                first_trade_id=trade.trade_id,
                last_trade_id=trade.trade_id,
                time=trade.time,
                buyer_is_maker=trade.buyer_is_maker,
            )
            for trade in self.trades(first_id, limit)
        ]

    def first_id_from(self, moment: int) -> int:
        """Return the id of the first trade at or after `moment`. It is `count` + 1 if none is."""
        slot = (self.start - 1 - moment) // SLOT
        if slot < 0:
            return self.count + 1
        number = max(self.count - slot, 1)
        return number if self._trade(number).time >= moment else number + 1

    def _trade(self, number: int) -> PublicTrade:
        index = self.count - number
        if index >= len(self._newest_first):
            self._make_until(index)
        return self._newest_first[index]

    def _make_until(self, index: int) -> None:
        """Make the trades before the oldest one, from the numbers that follow in the sequence."""
        made, draw, gauss = self._newest_first, self._random.random, self._random.gauss
        tick, step, offset = self._tick, self._step, self._offset
        least, most = self._least_price, self._most_price
        for slot in range(len(made), index + 1):
            price = round(self._price * exp(offset / BASIS_POINTS) / tick) * tick
            price = min(max(price, least), most) if slot else self._price
            worth = LEAST_WORTH + int(draw() * (MOST_WORTH - LEAST_WORTH))
            quantity = worth * SCALE * SCALE // (price * self._worth)
            quantity = max(quantity - quantity % step, self._least_quantity)
            quantity = min(quantity, self._most_quantity)
            time = self.start - slot * SLOT - 1 - int(draw() * SLOT)
            quote = price * quantity // SCALE
            # By position, because a day has thousands of trades and keywords are slower.
            made.append(PublicTrade(self.count - slot, price, quantity, quote, time, draw() < 0.5))
            offset += gauss(0.0, STEP_BP) - offset * PULL
        self._offset = offset

    # ----------------------------------------------------------------------------------------- bars

    def bars(self, width: int, since: int = 0, until: int | None = None) -> Iterator[Bar]:
        """Yield the bars of `width` that open from `since` to `until`, oldest first.

        There is one for each `width` from the first trade to the start. One without a trade stays
        at the price before it. The last may be the first part of a live one.
        """
        last = self.start - self.start % width
        if until is not None:
            last = min(last, until)
        opened_at = since + -since % width
        if opened_at > last:
            return
        number = self.first_id_from(opened_at)
        if number == 1:
            first_at = self._trade(1).time
            opened_at = max(opened_at, first_at - first_at % width)
        while opened_at <= last:
            bar = self._bar(opened_at, width, number)
            number += bar.trades
            yield bar
            opened_at += width

    def _bar(self, opened_at: int, width: int, number: int) -> Bar:
        """Return the bar that opens then. `number` is its first trade, or a later one if none."""
        if width == MINUTE and opened_at in self._minutes:
            return self._minutes[opened_at]
        ends_at = opened_at + width
        inside: list[PublicTrade] = []
        while number <= self.count and (trade := self._trade(number)).time < ends_at:
            inside.append(trade)
            number += 1
        first = inside[0] if inside else self._trade(number - 1)
        bar = Bar.opening(opened_at, first.price)
        for trade in inside:
            bar.add(trade)
        if width == MINUTE:
            self._minutes[opened_at] = bar
        return bar


def _limits(allowed: Range) -> tuple[int, int]:
    """Return the least and the largest positive value on the step that the filter allows."""
    step = allowed.step or 1
    least = max(step, allowed.minimum)
    most = allowed.maximum or maxsize
    return least + -least % step, most - most % step
