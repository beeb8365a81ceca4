"""Read the histories of an account's symbols, the one looked at longest ago first.

Each look is kept at once, so a run that ends early is continued by the next one, and each symbol
has its turn again and again. A run spends a bounded weight. A symbol whose reading fails rests for
longer each time, and costs the others nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db.models import F, Q, QuerySet

from exchanges import clock
from exchanges.db import leases
from exchanges.db.leases import lease
from exchanges.errors import AccountError, GatewayError, NotSent, is_unanswered
from exchanges.models import ExchangeAccount, SymbolCatchUp
from orders.db_retry import is_database_away
from orders.reconciliation.counts import RunCounts
from orders.reconciliation.history import catch_up_symbol
from orders.reconciliation.symbols import gone_symbols, note_answer, note_trouble

log = structlog.get_logger(__name__)

PAGES_PER_RUN = 60  # 1,200 of the 6,000 request weights per minute
ROUND = timedelta(seconds=900)  # Each symbol's turn comes at least so often.
_LATE = timedelta(seconds=60)
_FIRST_REST = timedelta(minutes=1)
_LONGEST_REST = timedelta(hours=6)
_FAILURES_IN_A_ROW = 3


@dataclass(slots=True)
class HistoryRead:
    """Count the symbols that were begun, and those that the next run must read on.

    `waits` is 1 if the shared limits, or an exchange that doesn't answer, ended the reading.
    """

    begun: int = 0
    unread: int = 0
    waits: int = 0


def read_history(account: ExchangeAccount) -> dict[str, int]:
    """Continue reading the histories whose turn is overdue. Compare nothing else."""
    with lease(f"reconcile:{account.name}") as is_ours:
        if not is_ours:
            return {"skipped": 1}
        counts = RunCounts()
        history = read_histories(account, counts, only_overdue=True)
        return {**counts.as_dict(), "history_unread": history.unread}


def overdue_accounts(accounts: QuerySet[ExchangeAccount]) -> list[str]:
    """Return the names of those accounts that have a symbol whose turn is overdue."""
    late = clock.now() - ROUND - _LATE
    overdue = Q(catch_ups__looked_at__lt=late, catch_ups__failed_looks=0)
    return list(accounts.filter(overdue).values_list("name", flat=True).distinct())


def read_histories(
    account: ExchangeAccount, counts: RunCounts, *, only_overdue: bool = False
) -> HistoryRead:
    """Find orders that began and ended unseen, on every symbol that we have traded or seen."""
    now = clock.now()
    rows = SymbolCatchUp.objects.filter(account=account)
    if only_overdue:
        rows = rows.filter(_is_overdue(now))
    rows = rows.order_by(F("looked_at").asc(nulls_first=True), "symbol")
    symbols = list(rows)
    gone = gone_symbols(account)
    result = HistoryRead()
    pages = failures = 0
    for number, row in enumerate(symbols):
        if _rests(row, now):
            continue
        leases.renew()
        if pages >= PAGES_PER_RUN or failures >= _FAILURES_IN_A_ROW or result.waits:
            result.unread += sum(_is_stale(left, now) for left in symbols[number:])
            result.waits |= failures >= _FAILURES_IN_A_ROW
            break
        try:
            caught_up = catch_up_symbol(account, row.symbol, include_external=True)
        except AccountError:
            raise
        except NotSent as error:
            log.info("history_waits", account=account.name, symbol=row.symbol, reason=str(error))
            result.waits = 1
            result.unread += 1
            continue
        except Exception as error:
            if is_database_away(error):
                raise
            _note_failure(account, row, error)
            failures = failures + 1 if is_unanswered(error) else 0
            pages += 1
            continue
        failures = 0
        pages += caught_up.pages
        SymbolCatchUp.objects.filter(pk=row.pk).update(looked_at=clock.now(), failed_looks=0)
        if row.symbol in gone:
            note_answer(account, row.symbol)
        counts.recovered += caught_up.counts.recovered
        counts.external += caught_up.counts.external
        counts.changed += caught_up.counts.changed
        result.begun += caught_up.is_first
        result.unread += not caught_up.is_complete
    return result


def _note_failure(account: ExchangeAccount, row: SymbolCatchUp, error: Exception) -> None:
    SymbolCatchUp.objects.filter(pk=row.pk).update(
        looked_at=clock.now(), failed_looks=min(row.failed_looks + 1, 30)
    )
    if isinstance(error, GatewayError):
        note_trouble(account, row.symbol, error)
        log.warning("history_failed", account=account.name, symbol=row.symbol, error=str(error))
    else:
        log.error("history_failed", account=account.name, symbol=row.symbol, exc_info=error)


def _rests(row: SymbolCatchUp, now: datetime) -> bool:
    if not row.failed_looks or row.looked_at is None:
        return False
    rest: timedelta = min(_FIRST_REST * 2 ** (row.failed_looks - 1), _LONGEST_REST)
    return now - row.looked_at < rest


def _is_stale(row: SymbolCatchUp, now: datetime) -> bool:
    return not _rests(row, now) and (row.looked_at is None or row.looked_at < now - ROUND)


def _is_overdue(now: datetime) -> Q:
    return Q(looked_at__isnull=True) | Q(looked_at__lt=now - ROUND)
