"""A symbol's order history, read by id from where the last reading ended, page by page.

How far it has been read is kept with each page, so that a reading that is interrupted, or that is longer than one run
may be, is gone on with; nothing is called caught up before the last page was read. The first reading of a symbol takes
the newest page only, and of it only orders of ours: an account with years of history is not imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db.models import F

from exchanges import clock
from exchanges.errors import NotSent
from exchanges.gateway import get_gateway
from exchanges.models import ExchangeAccount, SymbolCatchUp
from exchanges.services import do_once
from exchanges.types import OrderReport, from_ms
from orders.catchup import PAGE, Counts, apply_reports
from orders.ids import split_client_order_id
from orders.models import ExchangeOrder

log = structlog.get_logger(__name__)

PAGES_AT_ONCE = 20  # 400 of the 6000 request weights of a minute
SYMBOLS_AT_ONCE = 5
_RECENT_ROWS = 200


@dataclass(frozen=True, slots=True)
class Reading:
    """What one reading of a symbol's history did. `is_first`: the newest page alone was looked at."""

    counts: Counts
    is_first: bool
    is_complete: bool


def ensure_caught_up(account: ExchangeAccount, symbol: str, *, trusted_since: datetime) -> None:
    """Have the symbol's history read after the moment since which this process trusts its database.

    Raises `NotSent` while there is more to read than one turn allows: whatever it was needed for was not sent.
    """
    done = SymbolCatchUp.objects.filter(account=account, symbol=symbol, caught_up_at__gte=trusted_since)

    def work() -> None:
        if not catch_up_symbol(account, symbol).is_complete:
            raise NotSent(f"the history of {symbol} is not read to its end yet", retry_after=1.0)

    do_once(f"catch-up:{account.name}:{symbol}", is_done=done.exists, work=work)


def catch_up_symbol(account: ExchangeAccount, symbol: str, *, with_strangers: bool = False) -> Reading:
    """Read on in the symbol's history: orders that we know are brought up to date, those of ours that have no row are
    recovered, and those of strangers are recorded `with_strangers`.
    """
    gateway, asked_at, counts = get_gateway(account), clock.now(), Counts()
    settled_before = from_ms(gateway.now_ms()) - timedelta(milliseconds=settings.EXCHANGE_READ_LAG_MS)
    progress, _ = SymbolCatchUp.objects.get_or_create(account=account, symbol=symbol)
    start = _start(progress, with_strangers=with_strangers)
    is_first, is_complete = start is None, False
    for _ in range(PAGES_AT_ONCE):
        page = gateway.fetch_all_orders(symbol=symbol, from_order_id=_text(start), limit=PAGE)
        takes_all = with_strangers and not is_first
        # Ours in form; whether an order is of this deployment shows when its intent comes again.
        apply_reports(account, [r for r in page if takes_all or split_client_order_id(r.client_order_id)], counts)
        until = _read_until(page, settled_before, or_else=0 if is_first else None)
        if until is not None:
            column = "read_until" if takes_all or is_first else "own_read_until"
            SymbolCatchUp.objects.filter(pk=progress.pk).update(**{column: until})
        is_complete = is_first or len(page) < PAGE
        if is_complete:
            SymbolCatchUp.objects.filter(pk=progress.pk).update(caught_up_at=asked_at)
            break
        start = max(map(_number, page)) + 1
    _tell(account, symbol, Reading(counts, is_first, is_complete))
    return Reading(counts, is_first, is_complete)


def read_on(account: ExchangeAccount) -> None:
    """Look for what strangers did and no list of open orders shows, on the symbols that were looked at longest ago. For
    while the account's stream is down: a few symbols a time, at 20 request weights each.
    """
    rows = SymbolCatchUp.objects.filter(account=account, read_until__isnull=False)
    rows = rows.order_by(F("caught_up_at").asc(nulls_first=True), "pk")
    for symbol in rows.values_list("symbol", flat=True)[:SYMBOLS_AT_ONCE]:
        catch_up_symbol(account, symbol, with_strangers=True)


def _tell(account: ExchangeAccount, symbol: str, reading: Reading) -> None:
    figures = {"account": account.name, "symbol": symbol, **reading.counts.as_dict()}
    if reading.is_first:
        log.info("history_begun", **figures, note="what is older than the newest page is not taken over")
    elif reading.is_complete:
        log.info("symbol_caught_up", **figures)
    else:
        log.warning("history_unread", **figures, pages=PAGES_AT_ONCE)


def _start(progress: SymbolCatchUp, *, with_strangers: bool) -> int | None:
    """The first id to read; None before the first reading of a symbol on which this database has sent nothing."""
    if with_strangers and progress.read_until is not None:
        return progress.read_until + 1
    known = [
        progress.read_until,
        None if with_strangers else progress.own_read_until,
        _newest_sent(progress.account, progress.symbol),
    ]
    numbers = [number for number in known if number is not None]
    return max(numbers) + 1 if numbers else None


def _newest_sent(account: ExchangeAccount, symbol: str) -> int | None:
    """The newest order up to which none of ours is missing: one that this very database sent.

    Orders that a list or the stream has shown us meanwhile prove nothing about those before them.
    """
    recent = (
        ExchangeOrder.objects.filter(account=account, symbol=symbol, request_timestamp_ms__isnull=False)
        .exclude(exchange_order_id="")
        .order_by("-id")
        .values_list("exchange_order_id", flat=True)[:_RECENT_ROWS]
    )
    return max((int(text) for text in recent if text.isdigit()), default=None)


def _read_until(page: Sequence[OrderReport], settled_before: datetime, *, or_else: int | None) -> int | None:
    """The last id that the next reading may pass over; `or_else` if the page is empty.

    Orders of the last moments are read again: the exchange's list may lag, and show a newer one before an older.
    """
    if not page:
        return or_else
    fresh = [_number(report) for report in page if (report.created_at or report.updated_at) >= settled_before]
    return min(fresh) - 1 if fresh else max(map(_number, page))


def _number(report: OrderReport) -> int:
    return int(report.exchange_order_id)


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)
