"""Apply the events of a user data stream to the book, one call each. `listener` runs the stream."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import structlog
from django.db import connection

from exchanges import clock
from exchanges.account_writes import stamp_all
from exchanges.binance.stream_messages import (
    BalanceDelta,
    BalancesEvent,
    ExecutionReport,
    ListStatus,
    StreamEvent,
)
from exchanges.mirror.balances import apply_balances, apply_balances_in_turn, sync_balances
from exchanges.models import ExchangeAccount, StreamState
from exchanges.types import to_ms
from orders.models import BreakKind, Order
from orders.reconciliation.account import reconcile_account
from orders.reconciliation.adopt import record_report
from orders.reconciliation.counts import RunCounts
from orders.reconciliation.open_orders import sync_open_orders
from orders.reconciliation.questions import complete_fills
from orders.recording.attempts import attempt_of
from orders.recording.breaks import open_account_break
from orders.recording.together import Recorded, apply_reports_together

log = structlog.get_logger(__name__)

EXECUTION_TYPES = frozenset(
    {"NEW", "CANCELED", "REPLACED", "REJECTED", "TRADE", "EXPIRED", "TRADE_PREVENTION"}
)
AccountEvent = ExecutionReport | BalancesEvent | BalanceDelta | ListStatus
_STATE_EVERY_SECONDS = 1.0
MAX_KEPT = 10_000
_LONGEST_LAG_MS = 86_400_000  # An event without a sensible time is as late as this.


def may_share(event: StreamEvent) -> bool:
    """Return True if the event may be applied together with others."""
    if isinstance(event, ExecutionReport):
        return event.report.execution_type in EXECUTION_TYPES
    return isinstance(event, BalancesEvent) and not event.unreadable


class StreamApplier:
    """Apply one account's stream in one thread, so that events keep their order."""

    def __init__(self, account: ExchangeAccount) -> None:
        self._account = account
        self._state: dict[str, Any] = {}
        self._state_written_at = 0.0
        self._lost_events = self._made_good = 0

    def connected(self, subscribed_at: datetime) -> None:
        """Catch up with everything before the subscription, then mark the account as in sync.

        Events that arrive meanwhile are applied afterwards. An answer that is older than an event
        can't undo it.
        """
        self._write(connected_since=subscribed_at, in_sync_since=None, reason="catching up")
        self.read_again()
        self._write(in_sync_since=clock.now(), reason="")
        log.info("stream_in_sync", account=self._account.name)

    def look_again(self) -> None:
        """Compare everything once more, because the reads of the catch-up may have lagged."""
        sync_open_orders(self._account, wait=True)
        reconcile_account(self._account)

    @property
    def is_in_doubt(self) -> bool:
        """Return True if an event was lost, so that nothing the stream brought counts as fresh."""
        return self._made_good < self._lost_events

    def note_lost(self) -> None:
        """Doubt the account's figures until it has been read again."""
        self._lost_events += 1

    def read_again(self) -> None:
        """Read whatever events so far may have changed."""
        lost = self._lost_events
        sync_open_orders(self._account, wait=True)
        complete_fills(self._account)
        sync_balances(self._account)
        self._made_good = lost

    def disconnected(self, reason: str) -> None:
        """Mark the account as not in sync."""
        self._write(connected_since=None, in_sync_since=None, reason=reason)

    def alive(self) -> None:
        """Store that the listener runs, and its whole state again.

        A second listener, started by mistake, may have overwritten it before it ended.
        """
        self._write()

    def state(self) -> StreamState | None:
        """Return the whole state to store now. None before the first connection."""
        if not self._state:
            return None
        return StreamState(account=self._account, alive_at=clock.now(), **self._state)

    def apply(self, event: AccountEvent) -> None:
        """Apply one event."""
        if isinstance(event, ExecutionReport):
            self._apply_order(event)
        elif isinstance(event, BalancesEvent):
            self._apply_balances(event)
        elif isinstance(event, BalanceDelta):
            self._apply_delta(event)
        else:
            log.info("order_list_status", account=self._account.name, status=event.order_status)
        self._note_event(event.event_at)

    def apply_together(self, events: Sequence[ExecutionReport | BalancesEvent]) -> list[int]:
        """Apply waiting events: the orders in one transaction, then the balances in another.

        The orders come first, because a balance ends the reservations of the orders before it. A
        balance before them may be of the same millisecond and lack their money, so it ends none.
        Return the places of the events that must be applied alone, in order. If it is any order,
        then so must all balances.
        """
        orders = [
            (at, event) for at, event in enumerate(events) if isinstance(event, ExecutionReport)
        ]
        balances = [
            (at, event) for at, event in enumerate(events) if isinstance(event, BalancesEvent)
        ]
        recorded = self._record_together([event for _, event in orders]) if orders else Recorded()
        left = [at for place, (at, _) in enumerate(orders) if place not in recorded.places]
        if left:
            return sorted(left + [at for at, _ in balances])
        if balances:
            handed_over = {key: orders[place][0] for key, place in recorded.handed_over.items()}
            apply_balances_in_turn(
                self._account,
                [event.balances for _, event in balances],
                spare=[{key for key, by in handed_over.items() if by > at} for at, _ in balances],
            )
        self._note_event(events[-1].event_at)
        return []

    def _record_together(self, events: Sequence[ExecutionReport]) -> Recorded:
        """Record the plain reports among these."""
        reports = [event.report for event in events]
        try:
            return apply_reports_together(self._account, reports, actor="stream")
        except Exception as error:  # noqa: BLE001  applied alone, only the bad one fails again
            log.warning("events_not_shared", count=len(reports), error=type(error).__name__)
            return Recorded()

    def _apply_order(self, event: ExecutionReport) -> Order:
        report = event.report
        if report.execution_type not in EXECUTION_TYPES:
            self.keep(
                problem=f"unknown execution type {report.execution_type!r}"[:128],
                raw=json.dumps(dict(report.raw)),
            )
        found = attempt_of(self._account, report)
        return record_report(self._account, report, found, RunCounts(), actor="stream")

    def _apply_balances(self, event: BalancesEvent) -> None:
        """Apply the readable balances, and read all of them if one can't be read here."""
        apply_balances(self._account, event.balances)
        for row in event.unreadable:
            self.keep(problem=f"{row.subject}: {row.problem}", raw=row.text)
        if event.unreadable:
            sync_balances(self._account)

    def _apply_delta(self, event: BalanceDelta) -> None:
        """Read the balances after a deposit, withdrawal, transfer or lock.

        Adding the difference could count it twice, because the new total may have arrived before.
        """
        log.info("balance_moved", account=self._account.name, asset=event.asset, cause=event.cause)
        sync_balances(self._account)

    def keep(self, *, problem: str, raw: str) -> None:
        """Open a break with an event that can't be read or applied, one for each problem."""
        open_account_break(
            self._account.pk,
            BreakKind.UNREADABLE_EVENT,
            subject=problem[:128],
            details={"event": raw[:MAX_KEPT]},
        )

    def _note_event(self, event_at: datetime) -> None:
        if clock.monotonic() - self._state_written_at >= _STATE_EVERY_SECONDS:
            now = clock.now()
            lag_ms = min(max(0, to_ms(now) - to_ms(event_at)), _LONGEST_LAG_MS)
            self._write(last_event_at=now, lag_ms=lag_ms)

    def _write(self, **changes: Any) -> None:
        self._state_written_at = clock.monotonic()
        self._state |= changes
        defaults = {"alive_at": clock.now(), **self._state}
        StreamState.objects.update_or_create(account=self._account, defaults=defaults)

    def close(self) -> None:
        """Close the database connection of this thread."""
        connection.close()


def store_states(appliers: Sequence[StreamApplier]) -> None:
    """Store that the listener runs, and the whole state of each stream again, in one statement.

    A stream that is in sync brings every change of the balances, so they are as fresh as it is.
    """
    found = [(each, state) for each in appliers if (state := each.state()) is not None]
    states = [state for _, state in found]
    if not states:
        return
    StreamState.objects.bulk_create(
        states,
        update_conflicts=True,
        unique_fields=["account"],
        update_fields=[
            "alive_at",
            "connected_since",
            "in_sync_since",
            "last_event_at",
            "lag_ms",
            "reason",
        ],
    )
    in_sync = [
        state.account_id
        for applier, state in found
        if state.in_sync_since is not None and not applier.is_in_doubt
    ]
    if in_sync:
        stamp_all(in_sync, balances_synced_at=clock.now())
