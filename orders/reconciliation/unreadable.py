"""Set unreadable rows aside, with a break that names each, and look at them again."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.dispatch import receiver

from exchanges import clock
from exchanges.binance.gateway import Gateway
from exchanges.errors import OrderNotFound, OrderRejected, OutcomeUnknown
from exchanges.mirror.readings import was_read
from exchanges.models import ExchangeAccount
from exchanges.types import OrderReport, Unreadable
from orders.models import BreakKind, ReconciliationBreak
from orders.reconciliation.adopt import take_in
from orders.reconciliation.counts import RunCounts
from orders.recording.breaks import open_account_break

log = structlog.get_logger(__name__)

LOOKS_AT_ONCE = 5
_FIRST_PAUSE = timedelta(minutes=1)
_LONGEST_PAUSE = timedelta(hours=6)
_READABLE = "it is readable again"


def note_reading(
    account: ExchangeAccount,
    reader: str,
    unreadable: Iterable[Unreadable],
    *,
    readable: Collection[str] = (),
    is_whole: bool = False,
) -> None:
    """Open a break for each unreadable row, once, and close those whose row is readable again.

    `readable` are the subjects that this reading could read. `is_whole`: a row that it
    doesn't show doesn't exist, as with balances. A row without a name is over when its reader shows
    none.
    """
    bad = {row.subject: row for row in unreadable}
    for known in _open_breaks(account):
        is_ours = known.details.get("reader") == reader
        is_over = known.subject in readable or (is_ours and (is_whole or "#" not in known.subject))
        if bad.pop(known.subject, None) is None and is_over:
            _close(known, _READABLE)
    for row in bad.values():
        set_aside(account, reader, row)


def set_aside(account: ExchangeAccount, reader: str, row: Unreadable) -> None:
    """Open the break of one unreadable row."""
    details = {
        "reader": reader,
        "problem": row.problem[:500],
        "row": row.text,
        "looks": 0,
        "next_look_at": (clock.now() + _FIRST_PAUSE).isoformat(),
    }
    open_account_break(
        account.pk, BreakKind.UNREADABLE_REPORT, subject=row.subject, details=details
    )


def resting_subjects(account: ExchangeAccount) -> set[str]:
    """Return the orders that were unreadable a moment ago, and are not asked for before later."""
    now = clock.now()
    return {row.subject for row in _open_breaks(account) if not _is_due(row, now)}


def postpone(account: ExchangeAccount, subject: str, problem: str) -> None:
    """Set an order aside whose question failed, and let it rest for longer each time."""
    set_aside(account, "order", Unreadable(subject, problem, ""))
    for row in _open_breaks(account):
        if row.subject == subject and _is_due(row, clock.now()):
            _postpone(row, problem)


def look_again(account: ExchangeAccount, gateway: Gateway, counts: RunCounts) -> None:
    """Ask for the orders that were unreadable in a list, a few at a time, with growing pauses."""
    now = clock.now()
    due = [row for row in _open_breaks(account) if _is_due(row, now)]
    for row in due[:LOOKS_AT_ONCE]:
        symbol, _, number = row.subject.partition("#")
        counts.asked += 1
        try:
            report = gateway.fetch_order(symbol=symbol, exchange_order_id=number)
        except (OrderNotFound, OrderRejected):
            _close(row, "the exchange doesn't know the order any more")
        except OutcomeUnknown as error:
            _postpone(row, str(error))
        else:
            _take_in_again(account, row, report, counts)


def _take_in_again(
    account: ExchangeAccount, row: ReconciliationBreak, report: OrderReport, counts: RunCounts
) -> None:
    problem = take_in(account, report, counts)
    if problem is None:
        _close(row, _READABLE)
    else:
        _postpone(row, problem.problem)


def _is_due(row: ReconciliationBreak, now: datetime) -> bool:
    next_look_at = row.details.get("next_look_at")
    has_number = row.subject.partition("#")[2].isdigit()
    return has_number and (not next_look_at or datetime.fromisoformat(next_look_at) <= now)


def _postpone(row: ReconciliationBreak, problem: str) -> None:
    looks = min(int(row.details.get("looks", 0)) + 1, 30)
    pause = min(_FIRST_PAUSE * 2**looks, _LONGEST_PAUSE)
    row.details |= {
        "looks": looks,
        "problem": problem[:500],
        "next_look_at": (clock.now() + pause).isoformat(),
    }
    row.save(update_fields=["details"])


def _close(row: ReconciliationBreak, resolution: str) -> None:
    row.resolved_at, row.resolution = clock.now(), resolution
    row.save(update_fields=["resolved_at", "resolution"])
    log.info("break_closed", kind=row.kind, subject=row.subject, resolution=resolution)


def _open_breaks(account: ExchangeAccount) -> list[ReconciliationBreak]:
    rows = ReconciliationBreak.objects.filter(
        account=account, kind=BreakKind.UNREADABLE_REPORT, resolved_at__isnull=True
    )
    return list(rows.order_by("opened_at"))


@receiver(was_read)
def _note_mirror_reading(
    account: ExchangeAccount, reader: str, unreadable: Iterable[Unreadable], **_: Any
) -> None:
    rows = [replace(row, subject=f"{reader} {row.subject}"[:128]) for row in unreadable]
    note_reading(account, reader, rows, is_whole=True)
