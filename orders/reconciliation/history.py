"""Read a symbol's order history by id, page by page, from where the last read ended.

Each page stores how far the history was read, so an interrupted read, or one longer than a run
allows, resumes there. A symbol counts as caught up only after its last page. The first read of a
symbol takes the newest page, and only our orders from it: years of history are not imported. In a
book that ever went back in time, it looks for orders of ours from the beginning on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from django.conf import settings
from django.db.models import F

from exchanges import clock
from exchanges.binance.registry import get_gateway
from exchanges.db.leases import do_once
from exchanges.errors import NotSent, OrderRejected, OutcomeUnknown
from exchanges.models import ExchangeAccount, SymbolCatchUp
from exchanges.types import OrderReport, Rows, from_ms
from orders import book_identity
from orders.ids import split_client_order_id
from orders.reconciliation.adopt import apply_reports, exchange_key
from orders.reconciliation.amended import recover_amended
from orders.reconciliation.counts import RunCounts
from orders.reconciliation.pages import (
    PAGE,
    is_full,
    is_last,
    next_id,
    order_numbers,
    unreadable_ids,
)
from orders.reconciliation.unreadable import note_reading

log = structlog.get_logger(__name__)

PAGES_AT_ONCE = 20  # 400 of the 6000 request weights per minute
SYMBOLS_AT_ONCE = 5
# Symbols that an account looks at before the fence: each costs 20 weights, and is read again.
EARLY_LOOKS = 50
WAIT_SECONDS = 0.5  # for another worker that reads the same symbol
_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_YET = timedelta(hours=1)  # No reading takes so long.


@dataclass(frozen=True, slots=True)
class CatchUp:
    """The result of one read of a symbol's history. `is_first`: only the newest page was read."""

    counts: RunCounts
    is_first: bool
    is_complete: bool
    pages: int = 0


def ensure_caught_up(account: ExchangeAccount, symbol: str) -> None:
    """Read the symbol's history, unless that was done since the book was last distrusted.

    Raises `NotSent` while there is more to read than one run allows, and after a moment if another
    worker is reading it.
    """
    done = SymbolCatchUp.objects.filter(
        account=account, symbol=symbol, caught_up_at__gte=_must_have_begun_at(account)
    )

    def work() -> None:
        if not catch_up_symbol(account, symbol).is_complete:
            raise NotSent(f"the history of {symbol} is not read to its end yet", retry_after=1.0)

    do_once(
        f"catch-up:{account.name}:{symbol}",
        is_done=done.exists,
        work=work,
        wait_seconds=WAIT_SECONDS,
    )


def _must_have_begun_at(account: ExchangeAccount) -> datetime:
    """Return the moment at or after which a reading must have begun to be worth something.

    Raises `NotSent` if that moment is still to come.
    """
    distrusted_at, now = book_identity.distrusted_at(), clock.now()
    if distrusted_at is None:
        return _EVER
    trusted_from = book_identity.trusted_from(distrusted_at)
    if now >= trusted_from:
        return trusted_from
    looked_at = SymbolCatchUp.objects.filter(account=account, caught_up_at__gte=distrusted_at)
    if looked_at.count() >= EARLY_LOOKS:
        raise NotSent(
            "the history can be trusted in a moment",
            retry_after=(trusted_from - now).total_seconds(),
        )
    return distrusted_at


def catch_up_symbol(
    account: ExchangeAccount, symbol: str, *, include_external: bool = False
) -> CatchUp:
    """Continue reading the symbol's history, at most `PAGES_AT_ONCE` pages.

    Updates known orders, recovers our orders without a row, and with `include_external` records
    those of others.
    """
    gateway, asked_at, counts = get_gateway(account), clock.now(), RunCounts()
    stable_before = from_ms(gateway.now_ms()) - timedelta(
        milliseconds=settings.EXCHANGE_READ_LAG_MS
    )
    progress, _ = SymbolCatchUp.objects.get_or_create(account=account, symbol=symbol)
    start = _start(progress, include_external=include_external)
    is_first, is_complete, pages = start is None, False, 0
    for _ in range(PAGES_AT_ONCE):
        page = gateway.fetch_all_orders(symbol=symbol, from_order_id=_text(start), limit=PAGE)
        pages += 1
        takes_all = include_external and not is_first
        # Ours by the form of its id. Whether it is this deployment's shows when its intent comes.
        wanted = [r for r in page if takes_all or split_client_order_id(r.client_order_id)]
        failed = apply_reports(account, wanted, counts)
        recover_amended(account, symbol, page, counts)
        bad = {row.subject for row in failed}
        readable = {key for key in map(exchange_key, page) if key not in bad}
        note_reading(account, "allOrders", [*page.unreadable, *failed], readable=readable)
        until = _read_until(page, stable_before, or_else=0 if is_first else None)
        if until is not None:
            column = "read_until" if takes_all or is_first else "own_read_until"
            SymbolCatchUp.objects.filter(pk=progress.pk).update(**{column: until})
        numbers = order_numbers(page)
        if start is None or is_last(page, start=start, ids=numbers):
            is_complete = True
            SymbolCatchUp.objects.filter(pk=progress.pk).update(caught_up_at=asked_at)
            break
        start = next_id(start, page, numbers)
    caught_up = CatchUp(counts, is_first, is_complete, pages)
    _log(account, symbol, caught_up)
    return caught_up


def read_on(account: ExchangeAccount) -> None:
    """Read on in the symbols that were read longest ago, for orders of others that no list shows.

    Needed while the account's stream is down. A few symbols at a time, 20 request weights each.
    """
    rows = SymbolCatchUp.objects.filter(account=account, read_until__isnull=False, failed_looks=0)
    rows = rows.order_by(F("caught_up_at").asc(nulls_first=True), "pk")
    for symbol in list(rows.values_list("symbol", flat=True)[:SYMBOLS_AT_ONCE]):
        try:
            catch_up_symbol(account, symbol, include_external=True)
        except (OrderRejected, OutcomeUnknown) as error:
            # The comparison looks at it again, with growing pauses, and opens its break.
            rows.filter(symbol=symbol).update(failed_looks=1, looked_at=clock.now())
            log.warning("history_failed", account=account.name, symbol=symbol, error=str(error))


def _log(account: ExchangeAccount, symbol: str, caught_up: CatchUp) -> None:
    fields = {"account": account.name, "symbol": symbol, **caught_up.counts.as_dict()}
    if caught_up.is_first:
        log.info("history_begun", **fields, note="orders before the newest page are not imported")
    elif caught_up.is_complete:
        log.info("symbol_caught_up", **fields)
    else:
        log.warning("history_unread", **fields, pages=PAGES_AT_ONCE)


def _start(progress: SymbolCatchUp, *, include_external: bool) -> int | None:
    """Return the first id to read. None: the newest page is enough."""
    if include_external and progress.read_until is not None:
        return progress.read_until + 1
    # Only the orders that were read count. No order that we know proves anything about those
    # before it, because the exchange numbers them as they arrive: one that was sent before a lost
    # one, and arrived behind it, has the higher number.
    known = [progress.read_until, None if include_external else progress.own_read_until]
    numbers = [number for number in known if number is not None]
    if numbers:
        return max(numbers) + 1
    return None if include_external or book_identity.distrusted_at() is None else 1


def _read_until(
    page: Rows[OrderReport], stable_before: datetime, *, or_else: int | None
) -> int | None:
    """Return the last id that the next read may skip. `or_else` if the page shows none.

    The orders of the last moments are read again, and so is every id before them back to the last
    stable order: the exchange's list may lag, and show a newer order before an older one.
    """
    if not page:
        return None if or_else is None else max([or_else, *unreadable_ids(page, "orderId")])
    fresh = [_number(report) for report in page if _is_fresh(report, stable_before)]
    if not fresh:
        return max(map(_number, page))
    stable = [number for number in map(_number, page) if number < min(fresh)]
    if not stable and or_else is not None and is_full(page):
        return min(fresh) - 1  # a first page, full of the last moments: history isn't imported
    return max(stable, default=or_else)


def _is_fresh(report: OrderReport, stable_before: datetime) -> bool:
    """Return whether the order is one of the last moments. A time far ahead is just wrong."""
    created_at = report.created_at or report.updated_at
    return stable_before <= created_at < stable_before + _NOT_YET


def _number(report: OrderReport) -> int:
    return int(report.exchange_order_id)


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)
