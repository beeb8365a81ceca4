"""Keep our copy of the balances."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import zip_longest

import structlog
from django.conf import settings
from django.db import Error as DatabaseFailure
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Collate

from exchanges import clock
from exchanges.account_writes import stamp
from exchanges.binance.registry import get_gateway
from exchanges.db.commits import commit_asynchronously
from exchanges.db.leases import acquire, do_once, holder_name, lease
from exchanges.errors import GatewayError
from exchanges.mirror.readings import was_read
from exchanges.mirror.reservations import (
    drop,
    due,
    release_shown,
    release_shown_everywhere,
)
from exchanges.models import AccountSync, Balance, ExchangeAccount, Reservation
from exchanges.types import EXACT, AccountReport, BalanceReport, from_ms

log = structlog.get_logger(__name__)

_CLOCKS_DIFFER = timedelta(seconds=1)  # at most, between the exchange's and our measure of it
# A stored amount can't be from so far ahead, unless the exchange's clock was turned back. Then no
# amount would look newer until that clock has caught up.
_TURNED_BACK = timedelta(seconds=15)


def sync_balances(account: ExchangeAccount) -> dict[str, int]:
    """Fetch and store every balance. Return how many rows were written."""
    asked_at = clock.now()
    return {
        "written": apply_account(account, get_gateway(account).fetch_account(), asked_at=asked_at)
    }


def apply_account(account: ExchangeAccount, report: AccountReport, *, asked_at: datetime) -> int:
    """Store a complete reading of an account's balances. Return how many rows were written."""
    now = from_ms(get_gateway(account).now_ms())
    shown_until = _shown_until(report, asked_at, now)
    with transaction.atomic():
        known = _lock(Balance.objects.filter(account=account))
        ahead = [row.pk for row in known.values() if row.updated_at > now + _TURNED_BACK]
        if ahead:
            log.warning("balances_from_the_future", account=account.name, count=len(ahead))
            Balance.objects.filter(pk__in=ahead).update(updated_at=shown_until)
        rows = [replace(row, updated_at=shown_until) for row in report.balances]
        written = apply_balances(account, rows)
        # An asset that could not be read isn't zero.
        named = {row.subject for row in report.unreadable if " " not in row.subject}
        if len(named) == len(report.unreadable):
            seen = {row.asset for row in report.balances} | named
            written += _zero_the_rest(account, seen, shown_until)
        held = (
            Balance.objects.filter(account=account)
            .exclude(reserved=Decimal(0))
            .values_list("asset", flat=True)
        )
        if assets := list(held):
            release_shown(account.pk, dict.fromkeys(assets, shown_until))
    stamp(account, balances_synced_at=asked_at)
    was_read.send(None, account=account, reader="account", unreadable=report.unreadable)
    return written


def _shown_until(report: AccountReport, asked_at: datetime, now: datetime) -> datetime:
    """Return the exchange's time up to which the reading is complete.

    That is its last change, which can't be yet to come, or the time of our call less the read lag.
    `now` is the exchange's time.
    """
    lag = timedelta(milliseconds=settings.EXCHANGE_READ_LAG_MS)
    asked = now - (clock.now() - asked_at) - lag
    if report.updated_at is None:
        return asked
    return max(min(report.updated_at, now + _CLOCKS_DIFFER), asked)


def ensure_balances(account: ExchangeAccount, *, newer_than: datetime) -> None:
    """Fetch balances unless we asked after `newer_than`. All workers share one call."""
    do_once(
        f"balances:{account.name}",
        is_done=lambda: AccountSync.objects.filter(
            account=account, balances_synced_at__gte=newer_than
        ).exists(),
        work=lambda: sync_balances(account),
    )


def refresh_balances(account: ExchangeAccount, *, newer_than: datetime) -> None:
    """Refresh the balances as `ensure_balances` does, but best effort.

    Skip if another worker is refreshing, and ignore errors.
    """
    try:
        with lease(f"balances:{account.name}") as held:
            known = AccountSync.objects.filter(account=account, balances_synced_at__gte=newer_than)
            if held and not known.exists():
                sync_balances(account)
    except (GatewayError, DatabaseFailure) as error:
        log.info("balances_not_read", account=account.name, error=str(error))


def apply_balances(account: ExchangeAccount, rows: Sequence[BalanceReport]) -> int:
    """Store absolute amounts, and return how many were written.

    Amounts older than the stored ones are skipped, and of an asset that comes twice the last one
    counts.
    """
    return apply_balances_in_turn(account, [rows])


def apply_balances_in_turn(
    account: ExchangeAccount,
    messages: Sequence[Sequence[BalanceReport]],
    *,
    spare: Sequence[Collection[str]] = (),
) -> int:
    """Store the amounts of several messages like `apply_balances` of each, but in one go.

    `spare` holds for each message the references of reservations that it must not end.
    """
    assets = {row.asset for rows in messages for row in rows}
    with transaction.atomic():
        commit_asynchronously()
        known = _lock(Balance.objects.filter(account=account, asset__in=assets))
        held = [asset for asset, row in known.items() if row.reserved]
        fresh, shown = _in_turn(account, messages, spare, known, due(account.pk, held))
        Balance.objects.bulk_create(
            sorted(fresh, key=lambda row: row.asset),
            update_conflicts=True,
            update_fields=("free", "locked", "updated_at"),
            unique_fields=("account", "asset"),
        )
        drop(shown)
    return len(fresh)


def _lock(rows: QuerySet[Balance]) -> dict[str, Balance]:
    """Lock an account's balances in the order of their assets, as claims and releases do."""
    return {row.asset: row for row in rows.order_by(Collate("asset", "C")).select_for_update()}


def _in_turn(
    account: ExchangeAccount,
    messages: Sequence[Sequence[BalanceReport]],
    spare: Sequence[Collection[str]],
    known: dict[str, Balance],
    reservations: Sequence[Reservation],
) -> tuple[list[Balance], list[Reservation]]:
    """Return the balances after the messages that change them, and the reservations they show."""
    waiting: dict[str, list[Reservation]] = defaultdict(list)
    for reservation in reservations:
        waiting[reservation.asset].append(reservation)
    fresh: dict[str, Balance] = {}
    shown: list[Reservation] = []
    for rows, spared in zip_longest(messages, spare, fillvalue=()):
        for row in {row.asset: row for row in rows}.values():
            old = fresh.get(row.asset) or known.get(row.asset)
            if not _says_more(row, old):
                continue
            covered = [
                each
                for each in waiting[row.asset]
                if each.due_at is not None
                and each.due_at <= row.updated_at
                and each.reference not in spared
            ]
            waiting[row.asset] = [each for each in waiting[row.asset] if each not in covered]
            shown += covered
            reserved = old.reserved if old else Decimal(0)
            for each in covered:
                reserved = EXACT.subtract(reserved, each.amount)
            fresh[row.asset] = Balance(
                account=account,
                asset=row.asset,
                free=row.free,
                locked=row.locked,
                reserved=reserved,
                updated_at=row.updated_at,
            )
    return list(fresh.values()), shown


def _says_more(row: BalanceReport, old: Balance | None) -> bool:
    """Return whether the row is newer and differs, or a reservation waits for a newer amount."""
    if old is None:
        return True
    differs = (old.free, old.locked) != (row.free, row.locked)
    return row.updated_at >= old.updated_at and (
        differs or (old.reserved > 0 and row.updated_at > old.updated_at)
    )


def release_covered() -> None:
    """Release reservations that known balances cover.

    Fetch balances where a reservation has waited for them too long.
    """
    waiting = release_shown_everywhere()
    pause = float(settings.BALANCE_MAX_AGE_SECONDS)
    oldest = clock.now() - timedelta(seconds=pause)
    late = ExchangeAccount.objects.filter(
        pk__in=waiting, is_enabled=True, reservations__due_at__lt=oldest
    )
    for account in late.distinct():
        # A healthy stream counts as a reading, so the last one says nothing here.
        if not acquire(f"late-balances:{account.name}", holder_name(), pause):
            continue
        try:
            sync_balances(account)
        except GatewayError as error:
            log.warning("balances_not_read", account=account.name, error=str(error))


def _zero_the_rest(account: ExchangeAccount, seen: set[str], moment: datetime) -> int:
    """Set unlisted balances to zero, because the exchange lists only the others."""
    rest = Balance.objects.filter(account=account, updated_at__lte=moment).exclude(asset__in=seen)
    return rest.exclude(free=Decimal(0), locked=Decimal(0)).update(
        free=0, locked=0, updated_at=moment
    )
