"""Build candles of all documented intervals and time zones from the engine's bars."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from exchanges.simulator import errors
from exchanges.simulator.engine.types import Bar, DayStats

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
DAY_US = 24 * 60 * MINUTE_US
# The epoch was a Thursday, and weeks begin on Monday.
_MONDAY_US = 4 * DAY_US

INTERVAL_SECONDS = {
    "1s": 1, "1m": 60, "3m": 180, "5m": 300, "15m": 900, "30m": 1800,
    "1h": 3600, "2h": 7200, "4h": 14400, "6h": 21600, "8h": 28800, "12h": 43200,
    "1d": 86400, "3d": 3 * 86400, "1w": 7 * 86400, "1M": 0,
}  # fmt: skip

_ZONE = re.compile(r"([+-]?)([0-9]{1,2})(?::([0-9]{2}))?")
_WINDOW = re.compile(r"([0-9]{1,2})([mhd])")
_WINDOW_LIMITS = {"m": (59, 60), "h": (23, 3600), "d": (7, 86400)}


def read_time_zone(value: str | None) -> int:
    """Read `-1:00`, `05:45` or `8` as microseconds east of UTC, from -12:00 to +14:00."""
    if value is None:
        return 0
    match = _ZONE.fullmatch(value)
    if match is None:
        raise errors.invalid_data("timeZone")
    hours, minutes = int(match[2]), int(match[3] or 0)
    offset = (hours * 60 + minutes) * (-1 if match[1] == "-" else 1)
    if minutes > 59 or not -12 * 60 <= offset <= 14 * 60:
        raise errors.invalid_data("timeZone")
    return offset * MINUTE_US


def read_window(value: str | None) -> int:
    """Read `1m`..`59m`, `1h`..`23h` or `1d`..`7d` as microseconds. The default is a day."""
    if value is None:
        return DAY_US
    match = _WINDOW.fullmatch(value)
    if match is None:
        raise errors.invalid_data("windowSize")
    most, seconds = _WINDOW_LIMITS[match[2]]
    number = int(match[1])
    if not 1 <= number <= most:
        raise errors.invalid_data("windowSize")
    return number * seconds * SECOND_US


def period_start(interval: str, zone_us: int) -> Callable[[int], int]:
    """Return a function from a moment to the start of its candle."""
    if interval == "1M":
        return lambda moment: _month_start(moment + zone_us) - zone_us
    length = INTERVAL_SECONDS[interval] * SECOND_US
    shift = zone_us - _MONDAY_US if interval == "1w" else zone_us
    return lambda moment: moment - (moment + shift) % length


def period_end(interval: str, opened_at: int, zone_us: int) -> int:
    """Return the last microsecond of the candle that opened at that moment."""
    if interval != "1M":
        return opened_at + INTERVAL_SECONDS[interval] * SECOND_US - 1
    month = datetime.fromtimestamp((opened_at + zone_us) / SECOND_US, UTC).replace(day=1)
    following = (month + timedelta(days=32)).replace(day=1)
    return int(following.timestamp()) * SECOND_US - zone_us - 1


def _month_start(moment: int) -> int:
    day = datetime.fromtimestamp(moment // SECOND_US, UTC)
    return int(datetime(day.year, day.month, 1, tzinfo=UTC).timestamp()) * SECOND_US


def merge_bars(bars: Iterable[Bar], start_of: Callable[[int], int]) -> list[Bar]:
    """Merge bars into longer ones, oldest first."""
    merged: list[Bar] = []
    for bar in bars:
        opened_at = start_of(bar.opened_at)
        if not merged or merged[-1].opened_at != opened_at:
            merged.append(
                Bar(opened_at=opened_at, open=bar.open, high=bar.high, low=bar.low, close=bar.close)
            )
            merged[-1].first_trade_id = bar.first_trade_id
        _add(merged[-1], bar)
    return merged


def _add(total: Bar, bar: Bar) -> None:
    total.high = max(total.high, bar.high)
    total.low = min(total.low, bar.low)
    total.close = bar.close
    total.volume += bar.volume
    total.quote_volume += bar.quote_volume
    total.trades += bar.trades
    total.taker_buy_volume += bar.taker_buy_volume
    total.taker_buy_quote_volume += bar.taker_buy_quote_volume
    if total.first_trade_id < 0:
        total.first_trade_id = bar.first_trade_id
    total.last_trade_id = max(total.last_trade_id, bar.last_trade_id)


def window_stats(bars: list[Bar], opened_at: int, closed_at: int, last_price: int) -> DayStats:
    """Return statistics over some bars. Without a bar, the last price stands for all prices."""
    total = merge_bars(bars, lambda _moment: opened_at)
    bar = (
        total[0]
        if total
        else Bar(
            opened_at=opened_at, open=last_price, high=last_price, low=last_price, close=last_price
        )
    )
    return DayStats(
        opened_at=opened_at,
        closed_at=closed_at,
        open=bar.open,
        high=bar.high,
        low=bar.low,
        last=bar.close,
        previous_close=bar.open,
        last_quantity=0,
        volume=bar.volume,
        quote_volume=bar.quote_volume,
        first_trade_id=bar.first_trade_id,
        last_trade_id=bar.last_trade_id,
        trades=bar.trades,
    )
