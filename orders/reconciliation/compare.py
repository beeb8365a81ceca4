"""Compare one account with the exchange, as deep as is wanted, and repair what evidence decides.

One comparer serves the sync of open orders and the whole comparison. A report, an order or a symbol
that can't be read, asked or stored is set aside with a break that names it, and all others go on. A
failed list is no verdict: its error reaches the caller, and the next run asks again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

import structlog
from django.conf import settings
from django.db.models import QuerySet

from exchanges import clock
from exchanges.binance.gateway import Gateway
from exchanges.binance.registry import get_gateway
from exchanges.db import leases
from exchanges.errors import OutcomeUnknown
from exchanges.models import ExchangeAccount
from exchanges.trading_state import halt_trading
from exchanges.types import OrderReport, Rows, Side, Unreadable, plain
from orders.models import AttemptOutcome, BreakKind, ExchangeOrder, ReconciliationBreak
from orders.reconciliation.adopt import apply_reports, exchange_key
from orders.reconciliation.behind import Behind
from orders.reconciliation.counts import RunCounts
from orders.reconciliation.diff import Difference, OurOrder, Step, compare_open_orders
from orders.reconciliation.questions import Failures, fetch_missing_fills
from orders.reconciliation.symbols import one_symbol
from orders.reconciliation.unreadable import look_again, note_reading
from orders.recording.breaks import open_account_break, open_break
from orders.recording.plan import attempt_state
from orders.states import OPEN

log = structlog.get_logger(__name__)

# The list of one symbol costs 6 of the weight, the list of all costs 80.
_MOST_SYMBOLS_ASKED = 12


class Depth(Enum):
    """The part of the account that a run compares."""

    KNOWN_SYMBOLS = "known symbols"  # Open orders of the symbols where our book has some.
    OPEN_ORDERS = "open orders"
    EVERYTHING = "everything"  # Also the terms and trades of each open order.


@dataclass(slots=True)
class Run:
    """One comparison in progress."""

    account: ExchangeAccount
    gateway: Gateway
    began_at: datetime
    depth: Depth
    counts: RunCounts = field(default_factory=RunCounts)

    @classmethod
    def of(cls, account: ExchangeAccount, depth: Depth) -> Run:
        """Begin a comparison now."""
        return cls(account, get_gateway(account), clock.now(), depth)

    @property
    def actor(self) -> str:
        """Return the actor of the events that this run causes."""
        return "reconcile" if self.depth is Depth.EVERYTHING else "exchange"

    @property
    def stable_before(self) -> datetime:
        """Return the moment before which the exchange's lists certainly show everything."""
        return self.began_at - timedelta(milliseconds=settings.EXCHANGE_READ_LAG_MS)


def list_open_orders(run: Run) -> Rows[OrderReport]:
    """Return the exchange's open orders: all, or those of our symbols if that costs less."""
    symbols = None
    if run.depth is Depth.KNOWN_SYMBOLS:
        rows = open_attempts(run.account).order_by().values_list("symbol", flat=True)
        symbols = sorted(set(rows.distinct()[: _MOST_SYMBOLS_ASKED + 1]))
    if symbols is None or len(symbols) > _MOST_SYMBOLS_ASKED:
        return run.gateway.fetch_open_orders()
    found: list[OrderReport] = []
    apart: list[Unreadable] = []
    for symbol in symbols:
        with one_symbol(run.account, symbol):
            try:
                rows_of_symbol = run.gateway.fetch_open_orders(symbol)
            except OutcomeUnknown:
                return run.gateway.fetch_open_orders()  # perhaps only this symbol's list fails
            found += rows_of_symbol
            apart += rows_of_symbol.unreadable
    return Rows(found, apart)


def repair_open_orders(run: Run, listed: Rows[OrderReport]) -> list[Difference] | None:
    """Bring our open orders up to date. Return the differences that evidence can't repair.

    None if the exchange looks reset: then the account is halted instead.
    """
    # As our book was before the list is recorded.
    known = {row.client_order_id: row for row in open_attempts(run.account)}
    book = [_our_order(row) for row in known.values()]
    ours = [row for row in known.values() if _was_acknowledged_before(row, run.began_at)]
    failed = apply_reports(run.account, listed, run.counts, actor=run.actor)
    bad = {row.subject for row in failed}
    readable = {key for key in map(exchange_key, listed) if key not in bad}
    note_reading(run.account, "openOrders", [*listed.unreadable, *failed], readable=readable)
    apart = {row.subject for row in listed.unreadable}
    shown = {name for report in listed for name in (report.client_order_id, exchange_key(report))}
    shown |= apart
    unlisted = [row for row in ours if shown.isdisjoint((row.client_order_id, _key(row)))]
    behind = Behind(
        run.account, run.gateway, run.counts, run.actor, run.stable_before, ours=len(ours)
    )
    if not behind.bring_up_to_date(unlisted):
        halt_for_reset(run.account, orders=len(ours), actor=run.actor)
        return None
    differences = [_missing(attempt) for attempt in behind.missing]
    if run.depth is Depth.EVERYTHING:
        differences += _compare_terms(run, listed, known, book)
    look_again(run.account, run.gateway, run.counts)
    return differences


def name_missing(run: Run, differences: Iterable[Difference]) -> None:
    """Open the breaks of the orders that the exchange doesn't know."""
    by_id = {row.client_order_id: row for row in open_attempts(run.account)}
    for found in differences:
        attempt = by_id.get(found.subject)
        if attempt is not None:
            kind = BreakKind(found.kind)
            open_break(attempt.order, kind, subject=found.subject, details=found.details)


def _missing(attempt: ExchangeOrder) -> Difference:
    details = {"exchange_order_id": attempt.exchange_order_id}
    return Difference("MISSING_AT_EXCHANGE", attempt.client_order_id, details)


def _was_acknowledged_before(attempt: ExchangeOrder, moment: datetime) -> bool:
    return attempt.acknowledged_at is not None and attempt.acknowledged_at < moment


def _compare_terms(
    run: Run,
    listed: Sequence[OrderReport],
    attempts: Mapping[str, ExchangeOrder],
    book: Sequence[OurOrder],
) -> list[Difference]:
    """Compare the terms of each listed order with ours, and fetch the trades that ours lack."""
    actions, differences = compare_open_orders(book, listed, untouched_since=run.stable_before)
    failures = Failures()
    for action in actions:
        if action.step is not Step.FETCH_FILLS:
            continue
        leases.renew()
        attempt = attempts[action.key]
        before = attempt.order.version
        with one_symbol(run.account, attempt.symbol), failures.one(attempt):
            _complete_fills(run, attempt)
        run.counts.changed += attempt.order.version != before
    return differences


def _complete_fills(run: Run, attempt: ExchangeOrder) -> None:
    run.counts.asked += 1
    fetch_missing_fills(run.gateway, attempt)
    state = attempt_state(attempt)
    if state.has_fill_gap:
        details = {"filled": plain(state.filled_quantity), "trades": plain(state.fills_quantity)}
        subject = attempt.client_order_id
        open_break(attempt.order, BreakKind.FILL_GAP, subject=subject, details=details)


def _our_order(attempt: ExchangeOrder) -> OurOrder:
    created_at = attempt.order.created_at
    return OurOrder(
        client_order_id=attempt.client_order_id,
        exchange_order_id=attempt.exchange_order_id,
        symbol=attempt.symbol,
        side=Side(attempt.order.side),
        exchange_status=attempt.exchange_status,
        quantity=attempt.quantity,
        price=attempt.price,
        filled_quantity=attempt.filled_quantity,
        fills_quantity=attempt.fills_quantity,
        touched_at=max(
            attempt.acknowledged_at or attempt.sent_at or created_at,
            attempt.exchange_updated_at or created_at,
        ),
    )


def open_attempts(account: ExchangeAccount) -> QuerySet[ExchangeOrder]:
    """Return the attempts that are open in our book, with their orders."""
    rows = ExchangeOrder.objects.filter(order__account=account, order__status__in=[*OPEN])
    rows = rows.filter(outcome=AttemptOutcome.ACKNOWLEDGED)
    return rows.select_related("order", "order__account")


def _key(attempt: ExchangeOrder) -> str:
    return f"{attempt.symbol}#{attempt.exchange_order_id}"


def halt_for_reset(account: ExchangeAccount, *, orders: int, actor: str) -> None:
    """Halt an account whose exchange was reset, once, so that a person may resume it.

    No order is closed: that would destroy our record of them.
    """
    known = ReconciliationBreak.objects.filter(
        account=account, kind=BreakKind.EXCHANGE_RESET, resolved_at=None
    )
    if known.exists():
        return
    reason = (
        f"the exchange knows none of our {orders} open orders: it was reset,"
        " or this is another account"
    )
    halt_trading(account=account, reason=reason, actor=actor)
    open_account_break(
        account.pk, BreakKind.EXCHANGE_RESET, subject=account.name, details={"orders": orders}
    )
