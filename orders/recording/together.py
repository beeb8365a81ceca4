"""Record the stream's reports of many orders with one transaction, as far as they are plain.

Plain is a report of a known order with one attempt that opens or closes no break, and no refusal
that its sender decides about. Any other is left to `apply_report`, together with all later reports
of its order, and so is each report of a group that fails or of an order that another worker changed
meanwhile. Both plan by the same functions. So the rows are those of one report after the other:
each change has its version, event and notice.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import models, transaction

from exchanges import clock
from exchanges.db.batch_writes import as_json, columns_of, row_values
from exchanges.db.prepared import SHORT_LOCKS, execute_all
from exchanges.mirror import reservations
from exchanges.models import ExchangeAccount
from exchanges.types import OrderReport
from orders.fast_reads import known_trades
from orders.models import ExchangeOrder, Fill, Order, OrderEvent, OrderNotice
from orders.notifications import outbox
from orders.recording.apply import change_of, fill_rows, waits_for_answer
from orders.recording.attempts import plain_attempts_of
from orders.recording.changes import WantedChange, log_change, set_fields, wanted_change
from orders.recording.merge import merge_report
from orders.recording.plan import (
    Message,
    Money,
    RecordPlan,
    attempt_state,
    changes_nothing,
    plan_record,
)
from orders.stages import count_first_fill

_SQL = Path(__file__).with_name("record_together.sql").read_text(encoding="utf-8")
#: The fields that a report may change. A plan with another one is not stored here.
_ORDER_FIELDS = (
    *("status", "open_attempts", "next_check_at", "closed_at", "reason_code", "reason"),
    *("check_count", "filled_quantity", "filled_quote_quantity", "average_price"),
    *("acknowledged_at", "exchange_order_id", "version"),
)
_ATTEMPT_FIELDS = (
    *("outcome", "exchange_status", "filled_quantity", "filled_quote_quantity"),
    *("fills_quantity", "fills_quote_quantity", "acknowledged_at", "exchange_order_id"),
    *("exchange_created_at", "amended_client_order_id", "exchange_updated_at"),
)


@dataclass(slots=True)
class _Row:
    """One attempt of the group with its order, as they are after the reports so far."""

    attempt: ExchangeOrder
    version: int  # of the order as it was read
    places: list[int] = field(default_factory=list)  # of its reports
    changes: list[WantedChange] = field(default_factory=list)
    handed_over_at: datetime | None = None
    handed_over_by: int = 0  # the place of that report
    is_released: bool = False
    first_fill_at: datetime | None = None

    @property
    def order(self) -> Order:
        return self.attempt.order


@dataclass(frozen=True, slots=True)
class Recorded:
    """The places of the reports that were recorded, and where reservations were handed over.

    A reservation is named by its reference, with the place of the report that handed it over.
    """

    places: set[int] = field(default_factory=set)
    handed_over: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Group:
    """The rows to store, and those to insert in the sequence of the reports."""

    actor: str
    rows: dict[UUID, _Row] = field(default_factory=dict)
    fills: list[Fill] = field(default_factory=list)
    events: list[OrderEvent] = field(default_factory=list)
    notices: list[OrderNotice] = field(default_factory=list)

    def take(
        self, place: int, attempt: ExchangeOrder, report: OrderReport, trades: set[str]
    ) -> bool:
        """Plan the report on top of those before it. Return False if it isn't plain.

        `trades` are the known trade ids of the attempt. The report's are added.
        """
        order = attempt.order
        if order.attempt > 1 or attempt.attempt != order.attempt:
            return False
        message = Message(report, report.fills, report.source, self.actor)
        if waits_for_answer(attempt, message):
            return False
        merged = merge_report(
            attempt_state(attempt), known_trade_ids=trades, report=report, fills=report.fills
        )
        row = self.rows.get(order.pk) or _Row(attempt, order.version)
        if not changes_nothing(attempt, message, merged):
            now = clock.now()
            plan = plan_record(attempt, message, merged, [merged.state], now=now)
            if plan.breaks or plan.closes_fill_gap or not _is_storable(plan):
                return False
            wanted = wanted_change(order, change_of(plan, attempt, message, ()))
            self.events.append(wanted.event())
            self.fills += fill_rows(attempt, plan.new_fills)
            if wanted.notice is not None:
                self.notices.append(wanted.notice)
            trades |= {fill.trade_id for fill in plan.new_fills}
            if plan.new_fills and not attempt.fills_quantity:
                row.first_fill_at = now
            row.changes.append(wanted)
            if row.handed_over_at is None and plan.taken_at is not None:
                row.handed_over_at, row.handed_over_by = plan.taken_at, place
            row.is_released |= plan.money is Money.RELEASE
            set_fields(attempt, plan.attempt_changes)
            set_fields(order, wanted.fields)
        row.places.append(place)
        self.rows[order.pk] = row
        return True


def _is_storable(plan: RecordPlan) -> bool:
    order, attempt = plan.order_changes.keys(), plan.attempt_changes.keys()
    return order <= {*_ORDER_FIELDS} and attempt <= {*_ATTEMPT_FIELDS}


def apply_reports_together(
    account: ExchangeAccount, reports: Sequence[OrderReport], *, actor: str
) -> Recorded:
    """Record the plain reports. The others are left to `apply_report`."""
    group = _planned(account, reports, actor)
    changed = [row for row in group.rows.values() if row.changes]
    stored, references = _store(account.pk, group, changed) if changed else (set(), set())
    news: list[UUID] = []
    for row in changed:
        if row.order.pk in stored:
            for change in row.changes:
                log_change(change)
            if any(change.notice is not None for change in row.changes):
                news.append(row.order.pk)
            if row.first_fill_at is not None:
                count_first_fill(row.attempt, row.first_fill_at)
    if news:
        outbox.send_on_commit(*news)
    places = {
        place
        for row in group.rows.values()
        if not row.changes or row.order.pk in stored
        for place in row.places
    }
    by = {row.attempt.client_order_id: row.handed_over_by for row in changed}
    return Recorded(places, {reference: by[reference] for reference in references})


def _planned(account: ExchangeAccount, reports: Sequence[OrderReport], actor: str) -> _Group:
    group = _Group(actor)
    trades = _known_trades(account.pk, reports)
    aside: set[tuple[str, str]] = set()  # symbol and id, the client's or the exchange's
    for place, (report, attempt) in enumerate(plain_attempts_of(account, reports)):
        ids = {(report.symbol, report.client_order_id), (report.symbol, report.exchange_order_id)}
        own = trades[report.client_order_id]
        if attempt is None or ids & aside or not group.take(place, attempt, report, own):
            aside |= ids
    return group


def _known_trades(account_id: int, reports: Sequence[OrderReport]) -> dict[str, set[str]]:
    """Return which trades of the reports are stored, by client order id."""
    found: dict[str, set[str]] = defaultdict(set)
    with_fills = [report for report in reports if report.fills]
    if with_fills:
        names = {report.client_order_id for report in with_fills}
        trade_ids = {fill.trade_id for report in with_fills for fill in report.fills}
        for client_order_id, trade_id in known_trades(account_id, [*names], [*trade_ids]):
            found[client_order_id].add(trade_id)
    return found


# -- storing ---------------------------------------------------------------------------------------


def _store(account_id: int, group: _Group, rows: Sequence[_Row]) -> tuple[set[UUID], set[str]]:
    """Store the changes with one statement.

    Return the orders that nobody else has changed, and the reservations that it handed over.
    """
    values = {"account": account_id, **_parameters(group, rows)}
    statement = _text(), [values[name] for name in _NAMES]
    releases = any(row.is_released for row in rows)
    with transaction.atomic():
        _, found = execute_all([SHORT_LOCKS, statement], then_commit=not releases)
        assert found is not None
        stored = {UUID(key) for key in found[0]}
        references = [
            row.attempt.client_order_id
            for row in rows
            if row.is_released and row.order.pk in stored
        ]
        if references:
            reservations.release_all(account_id=account_id, references=references)
    return stored, set(found[1])


def _parameters(group: _Group, rows: Sequence[_Row]) -> dict[str, str]:
    return {
        "versions": as_json([{"id": row.order.pk, "version": row.version} for row in rows]),
        "orders": as_json([_values(row.order, ("id", *_ORDER_FIELDS)) for row in rows]),
        "attempts": as_json(
            [_values(row.attempt, ("id", "order_id", *_ATTEMPT_FIELDS)) for row in rows]
        ),
        "fills": as_json([row_values(row) for row in group.fills]),
        "events": as_json([row_values(row) for row in group.events]),
        "notices": as_json([row_values(row) for row in group.notices]),
        "handed_over": as_json(
            [
                {
                    "order_id": row.order.pk,
                    "reference": row.attempt.client_order_id,
                    "due_at": row.handed_over_at,
                }
                for row in rows
                if row.handed_over_at is not None
            ]
        ),
    }


def _values(row: models.Model, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


_NAMES = ("versions", "orders", "attempts", "fills", "events", "notices", "handed_over", "account")


@lru_cache(maxsize=1)
def _text() -> str:
    """Return the statement with its lists of columns, and a number for each parameter."""
    sql = _SQL.format(
        order_changes=_assignments(_ORDER_FIELDS),
        attempt_changes=_assignments(_ATTEMPT_FIELDS),
        fill_columns=_columns(Fill),
        event_columns=_columns(OrderEvent),
        notice_columns=_columns(OrderNotice),
    )
    return re.sub(r"%\((\w+)\)s", lambda found: f"${_NAMES.index(found[1]) + 1}", sql)


def _assignments(columns: Sequence[str]) -> str:
    return ", ".join(f'"{column}" = c."{column}"' for column in columns)


def _columns(model: type[models.Model]) -> str:
    return ", ".join(f'"{column}"' for column, _ in columns_of(model))
