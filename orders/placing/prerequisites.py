"""Fetch from the exchange the facts that the gate lacks."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from django.conf import settings

from exchanges import clock
from exchanges.db.leases import acquire, holder_name
from exchanges.errors import NotSent, OutcomeUnknown
from exchanges.mirror.balances import ensure_balances, refresh_balances
from exchanges.mirror.instruments import ensure_instruments, learn_symbol, refresh_symbol
from exchanges.mirror.prices import ensure_last_price
from exchanges.models import AccountSync, ExchangeAccount
from orders import book_identity
from orders.db_retry import with_db_retry
from orders.gate.decide import Prerequisite
from orders.gate.limits import PRICE_FRESH_FOR
from orders.placing.claim import Claim
from orders.positions.store import refresh_prices
from orders.reconciliation.enqueue import enqueue_balances
from orders.reconciliation.history import ensure_caught_up
from orders.reconciliation.open_orders import ensure_synced, has_healthy_stream

log = structlog.get_logger(__name__)

_FEE_PRICES_SECONDS = 10.0
# A process requests an account's balances once in so many seconds.
_AHEAD_SECONDS = 1.0


_requested_at: dict[str, float] = {}


def read_balances_ahead(account: ExchangeAccount, claim: Claim, *, may_fetch: bool) -> None:
    """Refresh balances that will soon be too old, so that the next order doesn't wait for them.

    A healthy stream brings them by itself. Without `may_fetch` another worker reads them.
    """
    too_old = clock.now() - timedelta(seconds=settings.BALANCE_MAX_AGE_SECONDS / 2)
    if claim.balances_at is None or claim.balances_at >= too_old or has_healthy_stream(account):
        return
    if may_fetch:
        refresh_balances(account, newer_than=too_old)
        return
    now = clock.monotonic()
    if now - _requested_at.get(account.name, -_AHEAD_SECONDS) >= _AHEAD_SECONDS:
        _requested_at[account.name] = now
        enqueue_balances(account, every=_AHEAD_SECONDS)


def fetch_prerequisite(
    prerequisite: Prerequisite, account: ExchangeAccount, symbol: str, started_at: datetime
) -> None:
    """Fetch one prerequisite. Raises `GatewayError` if that fails."""
    log.info(
        "prerequisite_fetched", account=account.name, symbol=symbol, prerequisite=prerequisite.value
    )
    if prerequisite is Prerequisite.IDENTITY:
        with_db_retry(book_identity.settle)
    elif prerequisite is Prerequisite.INSTRUMENTS:
        ensure_instruments(account)
    elif prerequisite is Prerequisite.SYNC:
        ensure_synced(account)
    elif prerequisite is Prerequisite.CATCH_UP:
        ensure_caught_up(account, symbol)
    elif prerequisite is Prerequisite.PRICE:
        ensure_last_price(account, symbol, newer_than=started_at - PRICE_FRESH_FOR)
    elif prerequisite is Prerequisite.NEW_PRICE:
        ensure_last_price(account, symbol, newer_than=started_at)
    elif prerequisite is Prerequisite.FEE_PRICES:
        _fetch_fee_prices(account)
    elif prerequisite is Prerequisite.RULES:
        learn_symbol(account, symbol)
    elif prerequisite is Prerequisite.SYMBOL:
        refresh_symbol(account, symbol)
    else:
        _fetch_balances(account, started_at)


def _fetch_fee_prices(account: ExchangeAccount) -> None:
    """Ask for the prices of commissions' assets, if no worker did a moment ago."""
    if acquire(f"fee-prices:{account.name}", holder_name(), _FEE_PRICES_SECONDS):
        refresh_prices(account)


def _fetch_balances(account: ExchangeAccount, started_at: datetime) -> None:
    """Fetch balances. If that fails, the order waits, unless no balance was ever known.

    Then the gate denies the order instead of guessing.
    """
    try:
        ensure_balances(account, newer_than=started_at)
    except (NotSent, OutcomeUnknown):
        if AccountSync.objects.filter(account=account, balances_synced_at__isnull=False).exists():
            raise
