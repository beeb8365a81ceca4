"""Show the market around an order to people. A process without keys asks a worker for it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from exchanges.errors import GatewayError, NotSent
from exchanges.key_holders import ask_a_worker, must_ask
from exchanges.mirror.candles import candles_between
from exchanges.models import ExchangeAccount
from exchanges.types import Candle, plain

READ_CANDLES = "exchanges.read_candles"


def candles_for(
    account: ExchangeAccount, symbol: str, start: datetime, end: datetime
) -> list[Candle]:
    """Return the market's candles from `start` to `end`. Raise `GatewayError`."""
    if not must_ask(account):
        return candles_between(account, symbol, start, end)
    given = (account.name, symbol, start.isoformat(), end.isoformat())
    answer = ask_a_worker(READ_CANDLES, *given)
    if error := answer.get("error"):
        raise NotSent(error, retry_after=None)
    return [
        Candle(datetime.fromisoformat(opened_at), *(Decimal(price) for price in prices))
        for opened_at, *prices in answer["candles"]
    ]


def answer_of(account: ExchangeAccount, symbol: str, start: str, end: str) -> dict[str, Any]:
    """Return the candles as a message: a list for each, its prices as text."""
    moments = (datetime.fromisoformat(text) for text in (start, end))
    try:
        candles = candles_between(account, symbol, *moments)
    except GatewayError as error:
        return {"candles": [], "error": error.message}
    return {"candles": [_as_list(candle) for candle in candles], "error": ""}


def _as_list(candle: Candle) -> list[str]:
    prices = (candle.open, candle.high, candle.low, candle.close)
    return [candle.opened_at.isoformat(), *map(plain, prices)]
