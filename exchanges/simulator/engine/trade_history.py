"""Keep a market's trades: last price, recent and aggregate trades, candles, averages."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from exchanges.simulator.engine.types import NO_ID, AggregateTrade, Bar, DayStats, PublicTrade

SECOND = 1_000_000
MINUTE = 60 * SECOND
DAY = 24 * 60 * MINUTE
AVERAGE_MINUTES = 5

RECENT_TRADES = 5_000
SECOND_BARS = 3_600
MINUTE_BARS = 3_000


class Average:
    """Compute the volume-weighted price of the last `minutes`, in steps of one second."""

    __slots__ = ("_seconds", "_span", "_volume", "_weighted")

    def __init__(self, minutes: int) -> None:
        self._span = minutes * 60
        self._seconds: deque[list[int]] = deque()
        self._volume = 0
        self._weighted = 0

    def add(self, second: int, price: int, quantity: int) -> None:
        if self._seconds and self._seconds[-1][0] == second:
            entry = self._seconds[-1]
            entry[1] += quantity
            entry[2] += price * quantity
        else:
            self._forget(second)
            self._seconds.append([second, quantity, price * quantity])
        self._volume += quantity
        self._weighted += price * quantity

    def price(self, second: int) -> int:
        """Return the average, 0 without a trade in the window."""
        self._forget(second)
        return self._weighted // self._volume if self._volume else 0

    def _forget(self, second: int) -> None:
        while self._seconds and self._seconds[0][0] <= second - self._span:
            _, volume, weighted = self._seconds.popleft()
            self._volume -= volume
            self._weighted -= weighted


class TradeHistory:
    """Keep the public trades of one symbol and the figures made from them."""

    def __init__(self, average_minutes: Iterable[int] = ()) -> None:
        self.last_price = 0
        self.last_quantity = 0
        self.last_at = 0
        self.recent: deque[PublicTrade] = deque(maxlen=RECENT_TRADES)
        self.aggregates: deque[AggregateTrade] = deque(maxlen=RECENT_TRADES)
        self.second_bars: deque[Bar] = deque(maxlen=SECOND_BARS)
        self.minute_bars: deque[Bar] = deque(maxlen=MINUTE_BARS)
        self._minutes = {AVERAGE_MINUTES, *average_minutes} - {0}
        self._averages = {minutes: Average(minutes) for minutes in self._minutes}
        self._aggregate_id = 0
        self._aggregate_key: tuple[int, int, int] = (NO_ID, 0, 0)

    def record(self, trade: PublicTrade, taker_order_id: int) -> None:
        """Add a trade to the trades, the averages and the candles."""
        trade_id, price, quantity, quote, now, buyer_is_maker = trade
        self.last_price = price
        self.last_quantity = quantity
        self.last_at = now
        self.recent.append(trade)
        self._aggregate(trade, taker_order_id)
        second = now // SECOND
        for average in self._averages.values():
            average.add(second, price, quantity)
        taker_bought = 0 if buyer_is_maker else quantity
        taker_quote = 0 if buyer_is_maker else quote
        for bars, width in ((self.second_bars, SECOND), (self.minute_bars, MINUTE)):
            bar = _bar_at(bars, now - now % width, price)
            bar.high = max(bar.high, price)
            bar.low = min(bar.low, price)
            bar.close = price
            bar.volume += quantity
            bar.quote_volume += quote
            bar.trades += 1
            bar.taker_buy_volume += taker_bought
            bar.taker_buy_quote_volume += taker_quote
            if bar.first_trade_id == NO_ID:
                bar.first_trade_id = trade_id
            bar.last_trade_id = trade_id

    def _aggregate(self, trade: PublicTrade, taker_order_id: int) -> None:
        """Add the trade to the last aggregate trade, or start a new one."""
        key = (taker_order_id, trade.price, trade.time)
        if key == self._aggregate_key:
            last = self.aggregates[-1]
            last.quantity += trade.quantity
            last.last_trade_id = trade.trade_id
            return
        self._aggregate_key = key
        self._aggregate_id += 1
        self.aggregates.append(
            AggregateTrade(
                aggregate_id=self._aggregate_id,
                price=trade.price,
                quantity=trade.quantity,
                first_trade_id=trade.trade_id,
                last_trade_id=trade.trade_id,
                time=trade.time,
                buyer_is_maker=trade.buyer_is_maker,
            )
        )

    def forget_averages(self) -> None:
        """Start all averages again, because a price was set from outside."""
        self._averages = {minutes: Average(minutes) for minutes in self._minutes}

    def track(self, minutes: Iterable[int]) -> None:
        """Also keep the averages of so many minutes, from now on."""
        for span in {*minutes} - {0} - self._minutes:
            self._averages[span] = Average(span)
        self._minutes = {*self._averages}

    def average(self, minutes: int, now: int) -> int:
        """Return the average price of the last `minutes`.

        Returns the last price if `minutes` is 0 or nothing traded in them, and 0 before the first
        trade.
        """
        if minutes == 0:
            return self.last_price
        return self._averages[minutes].price(now // SECOND) or self.last_price

    def bars(self, seconds: int, start: int | None, end: int | None, limit: int) -> list[Bar]:
        """Return candles of `seconds`, oldest first.

        Multiples of a minute are built from one-minute candles, all others from one-second candles.
        With `start`, return the first `limit`, otherwise the last.
        """
        source = self.minute_bars if seconds % 60 == 0 else self.second_bars
        merged: list[Bar] = []
        for bar in source:
            opened_at = bar.opened_at - bar.opened_at % (seconds * SECOND)
            if (start is not None and opened_at < start) or (end is not None and opened_at > end):
                continue
            if merged and merged[-1].opened_at == opened_at:
                _merge(merged[-1], bar)
            else:
                merged.append(replace(bar, opened_at=opened_at))
        return merged[:limit] if start is not None else merged[-limit:]

    def day(self, now: int) -> DayStats:
        window = [bar for bar in self.minute_bars if bar.opened_at > now - DAY]
        before = next(
            (bar for bar in reversed(self.minute_bars) if bar.opened_at <= now - DAY), None
        )
        first = window[0] if window else None
        return DayStats(
            opened_at=now - DAY,
            closed_at=now,
            open=first.open if first else 0,
            high=max((bar.high for bar in window), default=0),
            low=min((bar.low for bar in window), default=0),
            last=self.last_price,
            previous_close=before.close if before else (first.open if first else 0),
            last_quantity=self.last_quantity,
            volume=sum(bar.volume for bar in window),
            quote_volume=sum(bar.quote_volume for bar in window),
            first_trade_id=first.first_trade_id if first else NO_ID,
            last_trade_id=window[-1].last_trade_id if window else NO_ID,
            trades=sum(bar.trades for bar in window),
        )


def _bar_at(bars: deque[Bar], opened_at: int, price: int) -> Bar:
    if bars and bars[-1].opened_at == opened_at:
        return bars[-1]
    bar = Bar(opened_at=opened_at, open=price, high=price, low=price, close=price)
    bars.append(bar)
    return bar


def _merge(into: Bar, bar: Bar) -> None:
    into.high = max(into.high, bar.high)
    into.low = min(into.low, bar.low)
    into.close = bar.close
    into.volume += bar.volume
    into.quote_volume += bar.quote_volume
    into.trades += bar.trades
    into.taker_buy_volume += bar.taker_buy_volume
    into.taker_buy_quote_volume += bar.taker_buy_quote_volume
    into.last_trade_id = bar.last_trade_id
