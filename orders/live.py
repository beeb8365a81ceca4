"""What a user data stream brings, into the book: one event, one call. The stream itself is `listener.py`'s."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import structlog
from django.db import connection

from exchanges import clock
from exchanges.models import ExchangeAccount, StreamState
from exchanges.services import apply_balances, sync_balances
from exchanges.stream_events import BalanceDelta, BalancesEvent, ListStatus, OrderEvent
from exchanges.types import to_ms
from orders.book import apply_report, open_account_break
from orders.catchup import Counts, adopt_unknown, complete_fills, sync_open_orders
from orders.compare import reconcile_account
from orders.models import BreakKind, Order
from orders.reading import attempt_by_client_id, attempt_by_exchange_id

log = structlog.get_logger(__name__)

EXECUTION_TYPES = frozenset({"NEW", "CANCELED", "REPLACED", "REJECTED", "TRADE", "EXPIRED", "TRADE_PREVENTION"})
_STATE_EVERY_SECONDS = 1.0
MAX_KEPT = 10_000


class LiveAccount:
    """Applies one account's stream, in one thread: events keep their order, and the connection stays open."""

    def __init__(self, account: ExchangeAccount) -> None:
        self._account = account
        self._said: dict[str, Any] = {}
        self._state_written_at = 0.0

    def connected(self, subscribed_at: datetime) -> None:
        """Subscribed: only now read what happened before, and only then call the account in sync.

        Events that arrive meanwhile wait for this and are applied after it; an answer that is older than they are
        cannot undo them.
        """
        self._write(connected_since=subscribed_at, in_sync_since=None, reason="catching up")
        sync_open_orders(self._account, wait=True)
        complete_fills(self._account)
        sync_balances(self._account)
        self._write(in_sync_since=clock.now(), reason="")
        log.info("stream_in_sync", account=self._account.name)

    def look_again(self) -> None:
        """Compare once more, and everything: the catch-up's reads may have lagged behind what happened before it."""
        sync_open_orders(self._account, wait=True)
        reconcile_account(self._account)

    def disconnected(self, reason: str) -> None:
        self._write(connected_since=None, in_sync_since=None, reason=reason)

    def alive(self) -> None:
        """Say that the listener runs, and again how it does: a second one, started by mistake, may have ended."""
        self._write()

    def apply(self, event: OrderEvent | BalancesEvent | BalanceDelta | ListStatus) -> None:
        """Apply one event."""
        if isinstance(event, OrderEvent):
            self._apply_order(event)
        elif isinstance(event, BalancesEvent):
            apply_balances(self._account, event.balances)
        elif isinstance(event, BalanceDelta):
            self._apply_delta(event)
        else:
            log.info("order_list_status", account=self._account.name, status=event.order_status)
        self._note_event(event.event_at)

    def _apply_order(self, event: OrderEvent) -> Order:
        report, account_id = event.report, self._account.pk
        if report.execution_type not in EXECUTION_TYPES:
            self.keep(
                problem=f"unknown execution type {report.execution_type!r}"[:128], raw=json.dumps(dict(report.raw))
            )
        attempt = attempt_by_client_id(account_id, report.client_order_id) or attempt_by_exchange_id(
            account_id, report.symbol, report.exchange_order_id
        )
        if attempt is None:
            return adopt_unknown(self._account, report, Counts())
        return apply_report(attempt, report, actor="stream")

    def _apply_delta(self, event: BalanceDelta) -> None:
        """A deposit, withdrawal, transfer or outside lock. The absolute figure counts, and may have come before it:
        adding the difference could count it twice.
        """
        log.info("balance_moved", account=self._account.name, asset=event.asset, cause=event.cause)
        sync_balances(self._account)

    def keep(self, *, problem: str, raw: str) -> None:
        """An event that nobody could read or apply: one break for each kind of trouble, with the event itself."""
        open_account_break(
            self._account.pk, BreakKind.UNREADABLE_EVENT, subject=problem[:128], details={"event": raw[:MAX_KEPT]}
        )

    def _note_event(self, event_at: datetime) -> None:
        if clock.monotonic() - self._state_written_at >= _STATE_EVERY_SECONDS:
            now = clock.now()
            self._write(last_event_at=now, lag_ms=max(0, to_ms(now) - to_ms(event_at)))

    def _write(self, **changes: Any) -> None:
        self._state_written_at = clock.monotonic()
        self._said |= changes
        defaults = {"alive_at": clock.now(), **self._said}
        StreamState.objects.update_or_create(account=self._account, defaults=defaults)

    def close(self) -> None:
        connection.close()
