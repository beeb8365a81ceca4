"""Fetch the candles around an order's life, for people who judge how good it was."""

from __future__ import annotations

from datetime import datetime, timedelta

from exchanges.binance.registry import get_gateway
from exchanges.models import ExchangeAccount
from exchanges.types import Candle

# The shortest interval that keeps the chart below so many candles.
_MOST = 400
_INTERVALS = {
    "1s": 1,
    "1m": 60,
    "5m": 300,
    "15m": 900,
    "1h": 3600,
    "4h": 14_400,
    "1d": 86_400,
}


def interval_for(span: timedelta) -> str:
    """Return the name of the shortest interval of which `_MOST` candles cover the span."""
    seconds = span.total_seconds()
    fitting = (name for name, length in _INTERVALS.items() if seconds / length <= _MOST)
    return next(fitting, "1d")


def candles_between(
    account: ExchangeAccount, symbol: str, start: datetime, end: datetime
) -> list[Candle]:
    """Return the market's candles from `start` to `end`. Raises `GatewayError`."""
    return get_gateway(account).fetch_candles(
        symbol,
        interval=interval_for(end - start),
        start_ms=int(start.timestamp() * 1000),
        end_ms=int(end.timestamp() * 1000),
    )
