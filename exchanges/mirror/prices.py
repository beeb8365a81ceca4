"""Keep the last trade of a symbol."""

from __future__ import annotations

from datetime import datetime

from exchanges import clock
from exchanges.binance.registry import get_gateway
from exchanges.db.leases import do_once
from exchanges.models import ExchangeAccount, LastPrice


def ensure_last_price(account: ExchangeAccount, symbol: str, *, newer_than: datetime) -> None:
    """Fetch the symbol's last trade unless we did after `newer_than`. All workers share one
    call.
    """
    rows = LastPrice.objects.filter(
        exchange=account.exchange, environment=account.environment, symbol=symbol
    )
    do_once(
        f"price:{account.exchange}:{account.environment}:{symbol}",
        is_done=rows.filter(asked_at__gte=newer_than).exists,
        work=lambda: _store_last_price(account, symbol),
    )


def _store_last_price(account: ExchangeAccount, symbol: str) -> None:
    asked_at = clock.now()
    trade = get_gateway(account).fetch_last_trade(symbol)
    LastPrice.objects.update_or_create(
        exchange=account.exchange,
        environment=account.environment,
        symbol=symbol,
        defaults={"price": trade.price, "traded_at": trade.traded_at, "asked_at": asked_at},
    )
