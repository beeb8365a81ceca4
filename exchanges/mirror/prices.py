"""Keep the last trade of a symbol, and the best bid and ask of those that somebody trades."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

import structlog
from django.conf import settings

from exchanges import clock
from exchanges.binance.registry import get_gateway
from exchanges.db.leases import do_once, lease, renew
from exchanges.errors import AccountError, NotSent, OrderRejected
from exchanges.mirror.environments import others_of_environment
from exchanges.models import ExchangeAccount, Instrument, LastPrice, MidPrice
from exchanges.types import BidAsk

log = structlog.get_logger(__name__)

# So many names fit into an address. More are read with the whole market, for the same weight.
_MOST_NAMED = 100
# Of the accounts that could ask. Each that can't costs a try.
_MOST_ACCOUNTS = 3


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


def refresh_mids(account: ExchangeAccount, symbols: Collection[str]) -> int:
    """Store the best bid and ask of the symbols that are listed. Return of how many.

    One worker does it for all accounts of the environment. A symbol without an answer keeps its
    row, whose time says how old it is.
    """
    market = {"exchange": account.exchange, "environment": account.environment}
    with lease(f"mids:{account.exchange}:{account.environment}") as is_ours:
        if not is_ours or _were_read_just_now(market):
            return 0
        listed = Instrument.objects.filter(**market, symbol__in=symbols).exclude(status="DELISTED")
        names = sorted(listed.values_list("symbol", flat=True))
        if not names:
            return 0
        asked_at = clock.now()
        found = _ask_by_any(account, names)
        return _store_mids(market, {name: found[name] for name in names if name in found}, asked_at)


def _were_read_just_now(market: Mapping[str, str]) -> bool:
    """Return whether another beat's message came first."""
    half = timedelta(seconds=settings.MID_INTERVAL_SECONDS / 2)
    return MidPrice.objects.filter(**market, asked_at__gt=clock.now() - half).exists()


def _ask_by_any(account: ExchangeAccount, names: Sequence[str]) -> Mapping[str, BidAsk]:
    """Ask through the account, or through another one if its key or its breaker forbids it."""
    first_error: NotSent | AccountError | None = None
    for one in [account, *others_of_environment(account)][:_MOST_ACCOUNTS]:
        try:
            return _ask(one, names)
        except (NotSent, AccountError) as error:
            first_error = first_error or error
    assert first_error is not None
    raise first_error


def _ask(account: ExchangeAccount, names: Sequence[str]) -> Mapping[str, BidAsk]:
    gateway = get_gateway(account)
    if len(names) <= _MOST_NAMED:
        try:
            return gateway.fetch_bids_and_asks([*names])
        except OrderRejected as error:  # an unlisted symbol fails the whole call
            log.info("mids_not_read_by_name", account=account.name, error=str(error))
            renew()
    return gateway.fetch_bids_and_asks()


def _store_mids(market: Mapping[str, str], found: Mapping[str, BidAsk], asked_at: datetime) -> int:
    rows = [
        MidPrice(**market, symbol=symbol, bid=best.bid, ask=best.ask, asked_at=asked_at)
        for symbol, best in found.items()
    ]
    MidPrice.objects.bulk_create(
        rows,
        update_conflicts=True,
        update_fields=("bid", "ask", "asked_at"),
        unique_fields=("exchange", "environment", "symbol"),
        batch_size=200,
    )
    return len(rows)
