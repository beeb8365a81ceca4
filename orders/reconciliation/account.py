"""Reconcile one account: read the exchange, compare, repair by evidence, report the rest.

`compare` repairs the open orders, `histories` reads the orders that ended unseen. If the list or
the balances can't be read, the run ends without a verdict.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal

import structlog
from django.db.models import Exists, OuterRef, QuerySet

from exchanges import clock
from exchanges.account_writes import mark_synced
from exchanges.binance.gateway import Gateway
from exchanges.db import leases
from exchanges.db.leases import lease
from exchanges.mirror.balances import apply_account
from exchanges.models import Balance, ExchangeAccount, Instrument, TradingState
from exchanges.types import AccountReport, OrderReport, Rows
from orders import book_identity
from orders.models import BreakKind, ExchangeOrder, Order, ReconciliationBreak
from orders.reconciliation.compare import Depth, Run, repair_open_orders
from orders.reconciliation.diff import Difference, compare_locked, locked_by
from orders.reconciliation.histories import HistoryRead, read_histories
from orders.reconciliation.symbols import remember_symbols
from orders.recording.breaks import open_account_break
from orders.states import CLOSED

log = structlog.get_logger(__name__)

# Every comparison finds these again, so one that it no longer finds is closed.
_FOUND_BY_COMPARING = frozenset(
    {
        BreakKind.MISSING_AT_EXCHANGE,
        BreakKind.DIFFERENT_ORDER,
        BreakKind.BALANCE_MISMATCH,
        BreakKind.EXCHANGE_RESET,
    }
)
# The exchange rounds the amount that a buy locks to its own eight decimals, order by order.
_LOCKED_TOLERANCE = Decimal("0.00000001")
_READS = 3


@dataclass(frozen=True, slots=True)
class _ExchangeState:
    """Open orders and balances of one moment. Without balances if they kept changing."""

    open_orders: Rows[OrderReport]
    account: AccountReport


def reconcile_account(account: ExchangeAccount) -> dict[str, int]:
    """Compare the account with the exchange. Return counts of orders seen, changed and recovered,
    and of open breaks.

    `history_begun` counts symbols of which only the newest page was imported, `history_unread`
    those that one run could not read to their end: the next run continues. `history_waits` is 1 if
    the shared limits allowed no more. Overlapping runs do the work once. Raises `GatewayError` if
    the list or the balances could not be read. Nothing is judged then.
    """
    with lease(f"reconcile:{account.name}") as is_ours:
        if not is_ours:
            return {"skipped": 1}
        return _reconcile(Run.of(account, Depth.EVERYTHING))


def _reconcile(run: Run) -> dict[str, int]:
    state = _read_state(run.gateway)
    differences = repair_open_orders(run, state.open_orders)
    if differences is None:
        return _result(run, HistoryRead())
    listed = {report.symbol for report in state.open_orders}
    remember_symbols(run.account, listed | _forgotten_symbols(run.account, state.account))
    history = read_histories(run.account, run.counts)
    # Without balances nothing is known about them. It doesn't mean that all are zero.
    if state.account.balances:
        apply_account(run.account, state.account, asked_at=run.began_at)
    mismatches = _compare_balances(run.account, state)
    judged = _FOUND_BY_COMPARING
    if mismatches is None:
        judged -= {BreakKind.BALANCE_MISMATCH}
    _update_breaks(run.account, [*differences, *(mismatches or [])], judged=judged)
    _close_ended_breaks(run)
    mark_synced(run.account, run.began_at)
    result = _result(run, history)
    log.info("account_reconciled", account=run.account.name, **result)
    return result


def _forgotten_symbols(account: ExchangeAccount, report: AccountReport) -> set[str]:
    """Return the symbols on which a book that went back in time may lack closed orders.

    It may have forgotten that it ever traded them. Each order has left its mark on two balances:
    the exchange has them now, or the book had them before.
    """
    if book_identity.distrusted_at() is None:
        return set()
    held = Balance.objects.filter(account=account).exclude(free=0, locked=0)
    assets = {*held.values_list("asset", flat=True), *(row.asset for row in report.balances)}
    rows = Instrument.objects.filter(
        exchange=account.exchange,
        environment=account.environment,
        base_asset__in=assets,
        quote_asset__in=assets,
    )
    return set(rows.values_list("symbol", flat=True))


def _read_state(gateway: Gateway) -> _ExchangeState:
    """Read open orders and balances that belong together: nothing changed between the two calls."""
    for _ in range(_READS):
        # The balances twice: an order that comes, trades or goes changes them, and they cost a
        # quarter of the list.
        leases.renew()
        before = gateway.fetch_account()
        listed = gateway.fetch_open_orders()
        after = gateway.fetch_account()
        if before.balances == after.balances:
            return _ExchangeState(listed, after)
    none = AccountReport((), after.updated_at, after.unreadable)
    return _ExchangeState(listed, none)


def _result(run: Run, history: HistoryRead) -> dict[str, int]:
    """Return the counts. Those of the history only if there are any."""
    breaks = ReconciliationBreak.objects.filter(account=run.account, resolved_at__isnull=True)
    read = {
        "history_begun": history.begun,
        "history_unread": history.unread,
        "history_waits": history.waits,
    }
    return {
        **run.counts.as_dict(),
        **{name: count for name, count in read.items() if count},
        "breaks": breaks.count(),
    }


# -- balances ----------------------------------------------------------------------------------


def _compare_balances(account: ExchangeAccount, state: _ExchangeState) -> list[Difference] | None:
    """Return locked balances that no open order explains. None if this read can't show them."""
    if not state.account.balances:
        return None
    instruments = Instrument.objects.filter(
        exchange=account.exchange,
        environment=account.environment,
        symbol__in={report.symbol for report in state.open_orders},
    )
    assets = {row.symbol: (row.base_asset, row.quote_asset) for row in instruments}
    if state.open_orders.unreadable or state.account.unreadable:
        return None
    locked = locked_by(state.open_orders, assets)
    if locked is None:
        return None
    tolerance = _LOCKED_TOLERANCE * max(1, len(state.open_orders))
    return compare_locked(state.account.balances, locked, tolerance=tolerance)


# -- breaks --------------------------------------------------------------------------------------


def _update_breaks(
    account: ExchangeAccount, differences: Sequence[Difference], *, judged: Collection[BreakKind]
) -> None:
    """Open one break for each cause, and close those of the judged kinds whose cause is gone."""
    found = {(difference.kind, difference.subject): difference for difference in differences}
    for row in _open_breaks(account).filter(kind__in=judged):
        if found.pop((row.kind, row.subject), None) is None:
            row.resolved_at, row.resolution = clock.now(), "not seen any more"
            row.save(update_fields=["resolved_at", "resolution"])
    for difference in found.values():
        orders = Order.objects.filter(
            account=account, exchange_orders__client_order_id=difference.subject
        )
        open_account_break(
            account.pk,
            BreakKind(difference.kind),
            subject=difference.subject,
            details=difference.details,
            order=orders.first(),
        )


def _close_ended_breaks(run: Run) -> None:
    """Close breaks of other causes that a complete comparison ends."""
    rows = _open_breaks(run.account).filter(opened_at__lt=run.began_at)
    accepted = ExchangeOrder.objects.filter(
        account=run.account, symbol=OuterRef("subject"), acknowledged_at__gt=OuterRef("opened_at")
    )
    ended = {
        "the book was compared with the exchange since": rows.filter(
            kind=BreakKind.UNREADABLE_EVENT
        ),
        "the order has ended with a status that we know": rows.filter(
            kind=BreakKind.UNKNOWN_STATUS, order__status__in=[*CLOSED]
        ),
        "trading was resumed, and the exchange answers this key": rows.filter(
            kind=BreakKind.ACCOUNT_REFUSED, account__trading_state=TradingState.ACTIVE
        ),
        "the exchange took an order on the symbol": rows.filter(
            Exists(accepted), kind=BreakKind.SYMBOL_NOT_PERMITTED
        ),
    }
    for resolution, closed in ended.items():
        closed.update(resolved_at=clock.now(), resolution=resolution)


def _open_breaks(account: ExchangeAccount) -> QuerySet[ReconciliationBreak]:
    return ReconciliationBreak.objects.filter(account=account, resolved_at__isnull=True)
