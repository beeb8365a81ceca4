"""Reconciliation of one account: read everything, compare, repair what evidence decides, and name the rest.

The comparison itself is `diff.py`. A call that fails ends the run without a verdict; the next run starts anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal

import structlog
from django.conf import settings

from exchanges import clock
from exchanges.errors import OrderNotFound
from exchanges.gateway import Gateway, get_gateway
from exchanges.models import ExchangeAccount, Instrument, TradingState
from exchanges.services import apply_account, lease, mark_synced
from exchanges.types import AccountReport, OrderReport, Side, plain
from orders.book import apply_report, attempt_state, open_account_break, open_break
from orders.catchup import Counts, adopt_unknown, ask_for, fetch_missing_fills, open_attempts, stop_for_wipe
from orders.diff import Action, Difference, Held, Step, compare_locked, compare_open_orders, locked_by, looks_wiped
from orders.history import catch_up_symbol
from orders.models import BreakKind, ExchangeOrder, Order, ReconciliationBreak
from orders.states import CLOSED

log = structlog.get_logger(__name__)

# Kinds that a comparison finds anew each time: one that it does not find any more is closed by itself.
_FOUND_BY_COMPARING = (
    BreakKind.MISSING_AT_EXCHANGE,
    BreakKind.DIFFERENT_ORDER,
    BreakKind.BALANCE_MISMATCH,
    BreakKind.EXCHANGE_RESET,
)
# The exchange rounds what a buy locks to its own eight decimals, order by order.
_LOCKED_TOLERANCE = Decimal("0.00000001")


def reconcile_account(account: ExchangeAccount) -> dict[str, int]:
    """Compare the account with the exchange; returns what was seen, changed, recovered and left as breaks.

    `history_begun`: symbols of which nothing older than the newest page was taken over; `history_unread`: those whose
    history is longer than one run may read, and is gone on with by the next. Overlapping runs do it once. Raises
    `GatewayError` where a question failed; nothing is judged then.
    """
    with lease(f"reconcile:{account.name}", seconds=300) as held:
        if not held:
            return {"skipped": 1}
        return _Comparison(account).run()


class _Comparison:
    def __init__(self, account: ExchangeAccount) -> None:
        self._account = account
        self._gateway: Gateway = get_gateway(account)
        self._counts = Counts()
        self._history_begun = 0
        self._history_unread = 0
        self._began_at = clock.now()

    def run(self) -> dict[str, int]:
        listed, balances = self._read_together()
        attempts = {attempt.client_order_id: attempt for attempt in open_attempts(self._account)}
        untouched_since = self._began_at - timedelta(milliseconds=settings.EXCHANGE_READ_LAG_MS)
        actions, differences = compare_open_orders(
            [_held(attempt) for attempt in attempts.values()], listed, untouched_since=untouched_since
        )
        missing = self._carry_out(actions, attempts)
        if missing is None:
            stop_for_wipe(self._account, orders=len(attempts), actor="reconcile")
            return self._result()
        self._read_history(listed)
        if balances.balances:  # else they kept changing under us: nothing is known, least of all that all are zero
            apply_account(self._account, balances, asked_at=self._began_at)
        differences += missing
        mismatches = self._compare_balances(listed, balances)
        differences += mismatches or []
        judged = set(_FOUND_BY_COMPARING) - ({BreakKind.BALANCE_MISMATCH} if mismatches is None else set())
        self._settle_breaks(differences, judged=judged)
        mark_synced(self._account, self._began_at)
        result = self._result()
        log.info("account_reconciled", account=self._account.name, **result)
        return result

    def _read_together(self) -> tuple[list[OrderReport], AccountReport]:
        """Open orders and balances that belong together: nothing may have changed between the two readings."""
        for _ in range(3):
            # The balances twice: an order that comes, trades or goes moves them, and they cost a quarter of the list.
            before = self._gateway.fetch_account()
            listed = self._gateway.fetch_open_orders()
            after = self._gateway.fetch_account()
            if before.balances == after.balances:
                return listed, after
        return listed, AccountReport((), after.can_trade, after.updated_at)

    def _carry_out(self, actions: Sequence[Action], attempts: Mapping[str, ExchangeOrder]) -> list[Difference] | None:
        """Apply, adopt, ask; returns the orders that the exchange does not know even when asked for alone.

        None: it looks as if it knew none of our orders any more.
        """
        missing = []
        unlisted = sum(action.step is Step.ASK for action in actions)
        for action in actions:
            self._counts.seen += 1
            if action.step is Step.ADOPT and action.report is not None:
                self._adopt(action.report)
                continue
            attempt = attempts[action.key]
            before = attempt.order.version
            try:
                self._follow(attempt, action)
            except OrderNotFound:
                details = {"exchange_order_id": attempt.exchange_order_id}
                missing.append(Difference("MISSING_AT_EXCHANGE", action.key, details))
                asked = self._counts.asked
                if looks_wiped(held=len(attempts), unlisted=unlisted, asked=asked, missing=len(missing)):
                    return None
            self._counts.changed += attempt.order.version != before
        return missing

    def _follow(self, attempt: ExchangeOrder, action: Action) -> None:
        """One order that we hold open, as the list, a question of its own, or its trades tell. May be not found."""
        if action.step is Step.FETCH_FILLS:
            self._complete_fills(attempt)
            return
        report = action.report
        if report is None:
            self._counts.asked += 1
            report = ask_for(self._gateway, attempt)
        apply_report(attempt, report, actor="reconcile")

    def _complete_fills(self, attempt: ExchangeOrder) -> None:
        self._counts.asked += 1
        fetch_missing_fills(self._gateway, attempt)
        state = attempt_state(attempt)
        if state.has_fill_gap:
            details = {"filled": plain(state.filled_quantity), "trades": plain(state.fills_quantity)}
            open_break(attempt.order, BreakKind.FILL_GAP, subject=attempt.client_order_id, details=details)

    def _adopt(self, report: OrderReport) -> None:
        """An order that we do not hold open: one that we closed or have not settled yet, or one without a row."""
        known = (
            ExchangeOrder.objects.filter(account=self._account, client_order_id=report.client_order_id)
            .select_related("order")
            .first()
        )
        if known is None:
            adopt_unknown(self._account, report, self._counts)
            return
        before = known.order.version
        self._counts.changed += apply_report(known, report, actor="reconcile").version != before

    def _read_history(self, listed: list[OrderReport]) -> None:
        """Orders that began and ended while nobody looked, of every symbol that concerns us; from the last id known."""
        symbols = set(
            ExchangeOrder.objects.filter(account=self._account).order_by().values_list("symbol", flat=True).distinct()
        )
        for symbol in sorted(symbols | {report.symbol for report in listed}):
            reading = catch_up_symbol(self._account, symbol, with_strangers=True)
            self._counts.recovered += reading.counts.recovered
            self._counts.external += reading.counts.external
            self._counts.changed += reading.counts.changed
            self._history_begun += reading.is_first
            self._history_unread += not reading.is_complete

    def _compare_balances(self, listed: list[OrderReport], balances: AccountReport) -> list[Difference] | None:
        """What does not tie out; None where it cannot be told this time."""
        if not balances.balances:
            return None
        assets = {
            row.symbol: (row.base_asset, row.quote_asset)
            for row in Instrument.objects.filter(
                exchange=self._account.exchange,
                environment=self._account.environment,
                symbol__in={report.symbol for report in listed},
            )
        }
        locked = locked_by(listed, assets)
        if locked is None:
            return None
        tolerance = _LOCKED_TOLERANCE * max(1, len(listed))
        return compare_locked(balances.balances, locked, tolerance=tolerance)

    def _settle_breaks(self, differences: Iterable[Difference], *, judged: Collection[BreakKind]) -> None:
        """One row for each cause: opened when first seen, closed when the cause is gone."""
        found = {(difference.kind, difference.subject): difference for difference in differences}
        rows = ReconciliationBreak.objects.filter(account=self._account, kind__in=judged, resolved_at__isnull=True)
        for row in rows:
            if found.pop((row.kind, row.subject), None) is None:
                row.resolved_at, row.resolution = clock.now(), "not seen any more"
                row.save(update_fields=["resolved_at", "resolution"])
        self._close_what_is_over()
        for difference in found.values():
            open_account_break(
                self._account.pk,
                BreakKind(difference.kind),
                subject=difference.subject,
                details=difference.details,
                order=Order.objects.filter(
                    account=self._account, exchange_orders__client_order_id=difference.subject
                ).first(),
            )

    def _close_what_is_over(self) -> None:
        """Breaks that other causes opened, and that a complete comparison ends."""
        rows = ReconciliationBreak.objects.filter(
            account=self._account, opened_at__lt=self._began_at, resolved_at__isnull=True
        )
        now = clock.now()
        rows.filter(kind=BreakKind.UNREADABLE_EVENT).update(
            resolved_at=now, resolution="the book was compared with the exchange since"
        )
        rows.filter(kind=BreakKind.UNKNOWN_STATUS, order__status__in=[*CLOSED]).update(
            resolved_at=now, resolution="the order has ended with a status that we know"
        )
        rows.filter(kind=BreakKind.ACCOUNT_REFUSED, account__trading_state=TradingState.ACTIVE).update(
            resolved_at=now, resolution="trading was resumed, and the exchange answers this key"
        )

    def _result(self) -> dict[str, int]:
        """Symbols whose history was looked at for the first time, or not read to its end, only where there are any."""
        breaks = ReconciliationBreak.objects.filter(account=self._account, resolved_at__isnull=True).count()
        history = {"history_begun": self._history_begun, "history_unread": self._history_unread}
        return {**self._counts.as_dict(), **{name: n for name, n in history.items() if n}, "breaks": breaks}


def _held(attempt: ExchangeOrder) -> Held:
    return Held(
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
            attempt.acknowledged_at or attempt.sent_at or attempt.order.created_at,
            attempt.exchange_updated_at or attempt.order.created_at,
        ),
    )
