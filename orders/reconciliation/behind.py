"""Bring orders up to date that the list of open orders lacks: one by one, or a symbol in bulk.

One query costs 4 of the weight, and its trades 5 more. A page of a thousand orders costs 20, and
so does a page of a thousand trades. So more than a few orders of a symbol are read in bulk, by id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog
from django.conf import settings

from exchanges import clock
from exchanges.binance.gateway import Gateway
from exchanges.binance.json_fields import numbered
from exchanges.db import leases
from exchanges.errors import OrderNotFound, OutcomeUnknown
from exchanges.models import ExchangeAccount
from exchanges.types import FillReport, OrderReport, to_ms
from orders.models import ExchangeOrder
from orders.reconciliation.adopt import store_report
from orders.reconciliation.counts import RunCounts
from orders.reconciliation.diff import RESET_SAMPLE, looks_reset
from orders.reconciliation.pages import PAGE, is_last, next_id, trade_ids, unreadable_ids
from orders.reconciliation.questions import FAILURES_IN_A_ROW, ask_for
from orders.reconciliation.symbols import gone_symbols, note_answer, one_symbol
from orders.reconciliation.unreadable import note_reading, postpone, resting_subjects
from orders.recording.attempts import is_about

log = structlog.get_logger(__name__)

# Up to so many orders of a symbol are queried one by one.
FEW = 5
_MOST_PAGES = 30
_MORE_LAGS_BEFORE_RESET = 3
_WINDOW = timedelta(hours=24)  # of one question by time
_EARLIER = timedelta(seconds=2)
# Longer than the pause between two syncs.
_SAME_TROUBLE_SECONDS = 300.0


@dataclass(slots=True)
class Behind:
    """The orders of ours that the list lacks, and the results of the queries for them."""

    account: ExchangeAccount
    gateway: Gateway
    counts: RunCounts
    actor: str
    stable_before: datetime
    ours: int  # How many open orders we have in all.
    unlisted: int = 0
    answered: int = 0  # how many of them the exchange has shown, in bulk or one by one
    has_set_aside: bool = False
    missing: list[ExchangeOrder] = field(default_factory=list)

    def bring_up_to_date(self, attempts: Sequence[ExchangeOrder]) -> bool:
        """Record the state of each. Return False if the exchange looks reset.

        `missing` are those that the exchange certainly doesn't know. "Not found" closes nothing. A
        query for one order that fails opens a break, and is repeated with growing pauses. If some
        in a row get no answer, it is the exchange, unless the last run has met the same.
        """
        self.unlisted = len(attempts)
        gone = gone_symbols(self.account)
        by_symbol: dict[str, list[ExchangeOrder]] = {}
        for attempt in attempts:
            by_symbol.setdefault(attempt.symbol, []).append(attempt)
        for symbol, rows in by_symbol.items():
            if symbol in gone:
                rows = rows[:1]  # One question shows whether it came back.
            with one_symbol(self.account, symbol):
                if not self._bring_up_symbol(symbol, rows):
                    return False
                if symbol in gone:
                    note_answer(self.account, symbol)
        return True

    def _bring_up_symbol(self, symbol: str, rows: Sequence[ExchangeOrder]) -> bool:
        if len(rows) <= FEW:
            return self._ask_one_by_one(rows)
        lacking, unread = self._read_in_bulk(symbol, rows)
        if not self._ask_one_by_one([*lacking[:RESET_SAMPLE], *unread[:RESET_SAMPLE]]):
            return False
        # A page by id that lacks them says the same as a question about each.
        self.missing += [row for row in lacking[RESET_SAMPLE:] if self._is_stable(row)]
        return True

    def _ask_one_by_one(self, rows: Sequence[ExchangeOrder]) -> bool:
        resting = resting_subjects(self.account)
        unanswered: dict[str, str] = {}
        for attempt in rows:
            subject = numbered(attempt.symbol, attempt.exchange_order_id)
            if subject in resting:
                continue
            leases.renew()
            self.counts.asked += 1
            try:
                self._ask(attempt)
            except OutcomeUnknown as error:
                if error.was_answered:
                    postpone(self.account, subject, str(error))
                    continue
                unanswered[subject] = str(error)
                if len(unanswered) >= FAILURES_IN_A_ROW and not self._may_set_aside():
                    raise  # It is the exchange, and not these orders.
                if len(unanswered) < FAILURES_IN_A_ROW:
                    continue
            self._set_aside(unanswered)
            if self._looks_reset():
                return False
        self._set_aside(unanswered)
        return True

    def _may_set_aside(self) -> bool:
        """Return True if the run before this one ended so, too: then the others have their turn."""
        if self.has_set_aside:
            return False
        self.has_set_aside = not leases.acquire(
            f"unanswered:{self.account.name}", leases.holder_name(), _SAME_TROUBLE_SECONDS
        )
        return self.has_set_aside

    def _set_aside(self, unanswered: dict[str, str]) -> None:
        for subject, problem in unanswered.items():
            postpone(self.account, subject, problem)
        unanswered.clear()

    def _ask(self, attempt: ExchangeOrder) -> None:
        try:
            report = ask_for(self.gateway, attempt)
        except OrderNotFound:
            if self._is_stable(attempt):
                self.missing.append(attempt)
        else:
            self.answered += 1
            self._store(attempt, report)

    def _looks_reset(self) -> bool:
        if self.answered or not looks_reset(
            ours=self.ours,
            unlisted=self.unlisted,
            asked=self.counts.asked,
            missing=len(self.missing),
        ):
            return False
        # Fresh orders are no proof, because queries may lag longer than usual. A later run asks for
        # them again before the account is halted.
        lag = timedelta(milliseconds=settings.EXCHANGE_READ_LAG_MS)
        settled = self.stable_before - _MORE_LAGS_BEFORE_RESET * lag
        return not any(
            row.acknowledged_at and row.acknowledged_at > settled for row in self.missing
        )

    def _read_in_bulk(
        self, symbol: str, rows: Sequence[ExchangeOrder]
    ) -> tuple[list[ExchangeOrder], list[ExchangeOrder]]:
        """Return the orders that the pages lack, and those of which the pages say nothing.

        A row without a readable number may be any order, so then the pages lack none.
        """
        waiting = {int(row.exchange_order_id): row for row in rows if _has_number(row)}
        unread = [row for row in rows if not _has_number(row)]
        lacking: list[ExchangeOrder] = []
        found: list[tuple[ExchangeOrder, OrderReport]] = []
        for _ in range(_MOST_PAGES):
            if len(waiting) <= FEW:
                break
            leases.renew()
            start = min(waiting)
            page = self.gateway.fetch_all_orders(
                symbol=symbol, from_order_id=str(start), limit=PAGE
            )
            note_reading(self.account, "allOrders", page.unreadable)
            reports = {int(report.exchange_order_id): report for report in page}
            apart = set(unreadable_ids(page, "orderId"))
            is_whole = len(apart) == len(page.unreadable)
            shown = [*reports, *apart]
            is_end = is_last(page, start=start, ids=shown)
            until = max(waiting) if is_end else next_id(start, page, shown) - 1
            for number in [number for number in waiting if number <= until]:
                row, report = waiting.pop(number), reports.get(number)
                if report is not None and is_about(row, report):
                    self.answered += 1
                    found.append((row, report))
                elif number in apart:
                    self.answered += 1  # It has a break, and is looked at again.
                else:
                    (lacking if is_whole else unread).append(row)
        self._store_with_trades(symbol, found)
        log.info("orders_read_in_bulk", account=self.account.name, symbol=symbol, found=len(found))
        return lacking, [*unread, *waiting.values()]

    def _store_with_trades(
        self, symbol: str, found: Sequence[tuple[ExchangeOrder, OrderReport]]
    ) -> None:
        lacking = [
            (row, report) for row, report in found if report.filled_quantity > row.fills_quantity
        ]
        trades: dict[str, list[FillReport]] = {}
        if len(lacking) > FEW:
            since = min(_unknown_since(row, report) for row, report in lacking)
            numbers = {row.exchange_order_id for row, _ in lacking}
            try:
                for fill in trades_since(self.account, self.gateway, symbol, since):
                    if fill.exchange_order_id in numbers:
                        trades.setdefault(fill.exchange_order_id, []).append(fill)
            except OutcomeUnknown as error:
                # The orders show that they lack trades, and the sweep asks for each one's.
                log.warning("trades_not_read", symbol=symbol, error=str(error))
        for row, report in found:
            leases.renew()
            fills = tuple(trades.get(row.exchange_order_id, ()))
            self._store(row, replace(report, fills=fills))

    def _store(self, attempt: ExchangeOrder, report: OrderReport) -> None:
        problem = store_report(attempt, report, self.counts, actor=self.actor)
        if problem is not None:
            note_reading(self.account, "order", [problem])

    def _is_stable(self, attempt: ExchangeOrder) -> bool:
        # Queries may lag behind the matching engine, so they may not know a fresh order yet.
        return attempt.acknowledged_at is None or attempt.acknowledged_at < self.stable_before


def trades_since(
    account: ExchangeAccount, gateway: Gateway, symbol: str, since: datetime
) -> Iterable[FillReport]:
    """Yield the account's trades on a symbol from a moment on, page by page."""
    now = clock.now()
    first: int | None = None
    for _ in range(_MOST_PAGES):
        leases.renew()
        if first is None:
            until = since + _WINDOW
            page = gateway.fetch_trades(
                symbol=symbol, start_ms=to_ms(since), end_ms=to_ms(until) - 1, limit=PAGE
            )
            since = until
        else:
            page = gateway.fetch_trades(symbol=symbol, from_trade_id=str(first), limit=PAGE)
        note_reading(account, "myTrades", page.unreadable)
        yield from page
        ids = trade_ids(page)
        if first is not None and is_last(page, start=first, ids=ids):
            return
        if first is not None:
            first = next_id(first, page, ids)
        elif ids:
            first = max(ids) + 1
        elif since > now + _EARLIER:
            return


def _unknown_since(attempt: ExchangeOrder, report: OrderReport) -> datetime:
    """Return the exchange's time from which our book may lack trades of this order."""
    has_gap = attempt.fills_quantity < attempt.filled_quantity
    known = None if has_gap else attempt.exchange_updated_at
    return (known or report.created_at or report.updated_at) - _EARLIER


def _has_number(attempt: ExchangeOrder) -> bool:
    return attempt.exchange_order_id.isdigit()
