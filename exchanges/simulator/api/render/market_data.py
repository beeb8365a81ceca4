"""Render books, trades, candles and tickers as the documented JSON."""

from __future__ import annotations

from typing import Any

from exchanges.simulator.engine.types import (
    SCALE,
    AggregateTrade,
    Bar,
    DayStats,
    Depth,
    PublicTrade,
    text,
)

Row = dict[str, Any]


def depth_row(depth: Depth) -> Row:
    return {
        "lastUpdateId": depth.last_update_id,
        "bids": [[text(price), text(quantity)] for price, quantity in depth.bids],
        "asks": [[text(price), text(quantity)] for price, quantity in depth.asks],
    }


def public_trade_row(trade: PublicTrade, unit: int) -> Row:
    return {
        "id": trade.trade_id,
        "price": text(trade.price),
        "qty": text(trade.quantity),
        "quoteQty": text(trade.quote_quantity),
        "time": trade.time // unit,
        "isBuyerMaker": trade.buyer_is_maker,
        "isBestMatch": True,
    }


def aggregate_row(trade: AggregateTrade, unit: int) -> Row:
    return {
        "a": trade.aggregate_id,
        "p": text(trade.price),
        "q": text(trade.quantity),
        "f": trade.first_trade_id,
        "l": trade.last_trade_id,
        "T": trade.time // unit,
        "m": trade.buyer_is_maker,
        "M": True,
    }


def kline_row(bar: Bar, closes_at: int, unit: int) -> list[Any]:
    """Render a candle. `closes_at` is its last microsecond."""
    return [
        bar.opened_at // unit,
        text(bar.open),
        text(bar.high),
        text(bar.low),
        text(bar.close),
        text(bar.volume),
        closes_at // unit,
        text(bar.quote_volume),
        bar.trades,
        text(bar.taker_buy_volume),
        text(bar.taker_buy_quote_volume),
        "0",
    ]


def ticker_mini(symbol: str, stats: DayStats, unit: int) -> Row:
    return {
        "symbol": symbol,
        "openPrice": text(stats.open),
        "highPrice": text(stats.high),
        "lowPrice": text(stats.low),
        "lastPrice": text(stats.last),
        "volume": text(stats.volume),
        "quoteVolume": text(stats.quote_volume),
        "openTime": stats.opened_at // unit,
        "closeTime": stats.closed_at // unit,
        "firstId": stats.first_trade_id,
        "lastId": stats.last_trade_id,
        "count": stats.trades,
    }


def ticker_window(symbol: str, stats: DayStats, unit: int) -> Row:
    change = stats.last - stats.open
    weighted = stats.quote_volume * SCALE // stats.volume if stats.volume else stats.last
    return {
        "symbol": symbol,
        "priceChange": text(change),
        "priceChangePercent": _percent(change, stats.open),
        "weightedAvgPrice": text(weighted),
    } | ticker_mini(symbol, stats, unit)


Best = tuple[tuple[int, int] | None, tuple[int, int] | None]


def ticker_day(symbol: str, stats: DayStats, best: Best, unit: int) -> Row:
    row = ticker_window(symbol, stats, unit)
    head = {
        key: row.pop(key)
        for key in ("symbol", "priceChange", "priceChangePercent", "weightedAvgPrice")
    }
    book = book_ticker(symbol, best)
    del book["symbol"]
    return (
        head
        | {
            "prevClosePrice": text(stats.previous_close),
            "lastPrice": text(stats.last),
            "lastQty": text(stats.last_quantity),
        }
        | book
        | row
    )


def _percent(change: int, base: int) -> str:
    """Render a change in percent with three decimals, rounded half away from zero."""
    if not base:
        return "0.000"
    thousandths = (abs(change) * 200_000 + base) // (2 * base)
    sign = "-" if change < 0 and thousandths else ""
    return f"{sign}{thousandths // 1000}.{thousandths % 1000:03d}"


def book_ticker(symbol: str, best: Best) -> Row:
    bid, ask = best[0] or (0, 0), best[1] or (0, 0)
    return {
        "symbol": symbol,
        "bidPrice": text(bid[0]),
        "bidQty": text(bid[1]),
        "askPrice": text(ask[0]),
        "askQty": text(ask[1]),
    }
