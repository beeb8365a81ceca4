"""Keep a market's trades: last price, recent and aggregate trades, candles, averages."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain

from exchanges.simulator.engine.past import DAY, MINUTE, SECOND, Past
from exchanges.simulator.engine.types import NO_ID, AggregateTrade, Bar, DayStats, PublicTrade

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

    # State files of exchanges without a past have no such field.
    past: Past | None = None

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

    def begin_after(self, past: Past) -> None:
        """Let the market have this past. The averages begin with the first live trade."""
        self.past = past
        self._aggregate_id = past.count

    def record(self, trade: PublicTrade, taker_order_id: int) -> None:
        """Add a trade to the trades, the averages and the candles."""
        price, quantity, now = trade.price, trade.quantity, trade.time
        self.last_price = price
        self.last_quantity = quantity
        self.last_at = now
        self.recent.append(trade)
        self._aggregate(trade, taker_order_id)
        second = now // SECOND
        for average in self._averages.values():
            average.add(second, price, quantity)
        for bars, width in ((self.second_bars, SECOND), (self.minute_bars, MINUTE)):
            _bar_at(bars, now - now % width, price).add(trade)

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

    def trades(self, limit: int, from_id: int | None) -> list[PublicTrade]:
        """Return trades by ascending id: the first `limit` from `from_id`, otherwise the last."""
        if from_id is None:
            live = list(self.recent)[-limit:]
        else:
            live = [trade for trade in self.recent if trade.trade_id >= from_id][:limit]
        past = self.past
        if past is None:
            return live
        connected = not self.recent or self.recent[0].trade_id == past.count + 1
        if from_id is not None:
            earlier = past.trades(from_id, limit)
            # A page ends where trades are forgotten, so that it has no gap.
            return (earlier + (live if connected or not earlier else []))[:limit]
        missing = limit - len(live) if connected else 0
        return past.trades(past.count + 1 - missing, missing) + live

    def aggregate_trades(
        self, limit: int, from_id: int | None, start: int | None, end: int | None
    ) -> list[AggregateTrade]:
        """Return aggregate trades by ascending id.

        With `from_id` or `start`, return the first `limit` from there, otherwise the last.
        """
        live = [
            trade
            for trade in self.aggregates
            if (from_id is None or trade.aggregate_id >= from_id)
            and (start is None or trade.time >= start)
            and (end is None or trade.time <= end)
        ]
        ascending = from_id is not None or start is not None
        live = live[:limit] if ascending else live[-limit:]
        past = self.past
        if past is None:
            return live
        connected = not self.aggregates or self.aggregates[0].aggregate_id == past.count + 1
        last_id = past.count if end is None else past.first_id_from(end + 1) - 1
        if ascending:
            first_id = max(1, from_id or 1, 1 if start is None else past.first_id_from(start))
            earlier = past.aggregates(first_id, min(limit, last_id + 1 - first_id))
            return (earlier + (live if connected or not earlier else []))[:limit]
        missing = limit - len(live) if connected or not live else 0
        first_id = max(1, last_id + 1 - missing)
        return past.aggregates(first_id, last_id + 1 - first_id) + live

    def bars(self, seconds: int, start: int | None, end: int | None, limit: int) -> list[Bar]:
        """Return candles of `seconds`, oldest first.

        Multiples of a minute are built from one-minute candles, all others from one-second candles.
        With `start`, return the first `limit`, otherwise the last.
        """
        is_minutes = seconds % 60 == 0
        live = self.minute_bars if is_minutes else self.second_bars
        width, span = MINUTE if is_minutes else SECOND, seconds * SECOND
        # The last candle needs all of its shorter ones.
        until = None if end is None else end - end % span + span - 1
        past = self.past
        if start is not None:
            source = live if past is None else chain(past.bars(width, start, until), live)
            return _merged(source, seconds, start, end, most=limit)
        merged = _merged(live, seconds, start, end)
        if past is not None and len(merged) <= limit:
            newest = past.start if end is None else min(end, past.start)
            since = max(0, newest - newest % span - limit * span)
            merged = _merged(chain(past.bars(width, since, until), live), seconds, start, end)
        return merged[-limit:]

    def day(self, now: int) -> DayStats:
        begin = now - DAY
        bars: list[Bar] = []
        if self.past is not None:
            bars += self.past.bars(MINUTE, begin - begin % MINUTE)
        bars += self.minute_bars
        window = [bar for bar in bars if bar.trades and bar.opened_at > begin]
        before = next((bar for bar in reversed(bars) if bar.opened_at <= begin), None)
        first = window[0] if window else None
        return DayStats(
            opened_at=begin,
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
    bar = Bar.opening(opened_at, price)
    bars.append(bar)
    return bar


def _merged(
    bars: Iterable[Bar],
    seconds: int,
    start: int | None,
    end: int | None,
    *,
    most: int | None = None,
) -> list[Bar]:
    """Return candles of `seconds` that open from `start` to `end`, made from shorter ones.

    With `most`, stop after so many.
    """
    merged: list[Bar] = []
    for bar in bars:
        opened_at = bar.opened_at - bar.opened_at % (seconds * SECOND)
        if (start is not None and opened_at < start) or (end is not None and opened_at > end):
            continue
        if merged and merged[-1].opened_at == opened_at:
            _merge(merged[-1], bar)
        elif len(merged) == most:
            break
        else:
            merged.append(replace(bar, opened_at=opened_at))
    return merged


def _merge(into: Bar, bar: Bar) -> None:
    into.high = max(into.high, bar.high)
    into.low = min(into.low, bar.low)
    into.close = bar.close
    into.volume += bar.volume
    into.quote_volume += bar.quote_volume
    into.trades += bar.trades
    into.taker_buy_volume += bar.taker_buy_volume
    into.taker_buy_quote_volume += bar.taker_buy_quote_volume
    if into.first_trade_id == NO_ID:
        into.first_trade_id = bar.first_trade_id
    into.last_trade_id = max(into.last_trade_id, bar.last_trade_id)
