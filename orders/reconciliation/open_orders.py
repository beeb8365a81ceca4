"""Compare our open orders with the list of the exchange (sync).

A failed call is no verdict: gateway errors reach the caller, and the next run asks again.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet

from exchanges import clock
from exchanges.account_writes import mark_synced
from exchanges.db.leases import do_once, lease
from exchanges.models import AccountSync, ExchangeAccount, StreamState
from orders.models import Order
from orders.reconciliation.compare import (
    Depth,
    Run,
    list_open_orders,
    name_missing,
    repair_open_orders,
)
from orders.reconciliation.counts import RunCounts
from orders.states import OPEN, UNRESOLVED

log = structlog.get_logger(__name__)

# Queries may lag longer than we allow for, but hardly that much longer.
_LAGS_BEFORE_RESET = 4


def sync_open_orders(account: ExchangeAccount, *, wait: bool = False) -> dict[str, int]:
    """Compare the account's open orders with the exchange's. Return counts.

    Makes one list call, and one query for each order missing in the list. Overlapping runs do the
    work once. With `wait`, returns after a run that began after this call, here or elsewhere.
    """
    if wait:
        return _sync_from_now_on(account)
    with lease(f"sync:{account.name}") as is_ours:
        if not is_ours:
            return {"skipped": 1}
        # A healthy stream reports every new order, so the symbols with open orders are enough.
        is_fresh = has_healthy_stream(account)
        depth = Depth.KNOWN_SYMBOLS if is_fresh else Depth.OPEN_ORDERS
        return _sync_open_orders(account, depth).as_dict()


def _sync_from_now_on(account: ExchangeAccount) -> dict[str, int]:
    started_at = clock.now()
    done = AccountSync.objects.filter(account=account, last_synced_at__gte=started_at)
    counts = RunCounts()

    def work() -> None:
        nonlocal counts
        counts = _sync_open_orders(account)

    do_once(f"sync:{account.name}", is_done=done.exists, work=work)
    return counts.as_dict()


def ensure_synced(account: ExchangeAccount) -> None:
    """Sync the account unless its last complete sync is younger than `MAX_UNSYNCED_SECONDS`."""
    limit = timedelta(seconds=settings.MAX_UNSYNCED_SECONDS)

    def is_done() -> bool:
        return AccountSync.objects.filter(
            account=account, last_synced_at__gte=clock.now() - limit
        ).exists()

    do_once(f"sync:{account.name}", is_done=is_done, work=lambda: _sync_open_orders(account))


def _sync_open_orders(account: ExchangeAccount, depth: Depth = Depth.OPEN_ORDERS) -> RunCounts:
    run = Run.of(account, depth)
    differences = repair_open_orders(run, list_open_orders(run))
    if differences is None:
        return run.counts
    name_missing(run, differences)
    mark_synced(account, run.began_at)
    log.info("open_orders_synced", account=account.name, **run.counts.as_dict())
    return run.counts


def followed_accounts() -> QuerySet[ExchangeAccount]:
    """Return the accounts that we follow: the enabled ones, and others with unfinished orders."""
    unfinished = Order.objects.filter(account=OuterRef("pk"), status__in=[*OPEN, *UNRESOLVED])
    return ExchangeAccount.objects.filter(Q(is_enabled=True) | Exists(unfinished))


def accounts_due_for_sync() -> list[str]:
    """Return the followed accounts to sync now. Those with a healthy stream sync less often."""
    now = clock.now()
    rest = timedelta(seconds=settings.SYNC_INTERVAL_STREAMING_SECONDS)
    accounts = followed_accounts().select_related("stream", "sync")
    return [account.name for account in accounts if not _may_rest(account, now, rest)]


def accounts_with_healthy_stream() -> set[str]:
    """Return the names of the accounts whose private stream is connected and in sync."""
    now = clock.now()
    rows = StreamState.objects.filter(in_sync_since__isnull=False).select_related("account")
    return {row.account.name for row in rows if row.is_healthy(now)}


def has_healthy_stream(account: ExchangeAccount) -> bool:
    """Return True if the account's private stream is connected and in sync."""
    stream = getattr(account, "stream", None)
    return stream is not None and stream.is_healthy(clock.now())


def _may_rest(account: ExchangeAccount, now: datetime, rest: timedelta) -> bool:
    if account.last_synced_at is None or not has_healthy_stream(account):
        return False
    # Half an interval early, because the next tick would be too late.
    early = timedelta(seconds=settings.SYNC_INTERVAL_SECONDS / 2)
    return now - account.last_synced_at < rest - early
