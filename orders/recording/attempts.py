"""Find the attempt that a report is about: the one look-up for all sources.

An exchange order is ours by more than one id. Binance accepts a client order id again once its
order is closed, a person may amend an order under a new one, and after a reset the exchange's
numbers begin again. So number, client order id and creation time must agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from django.conf import settings
from django.db.models import Q, QuerySet

from exchanges import clock
from exchanges.models import ExchangeAccount
from exchanges.types import OrderReport, from_ms, to_ms
from orders.fast_reads import (
    attempt_by_client_id,
    attempts_by_client_ids,
    attempts_by_exchange_id,
    taken_numbers,
)
from orders.ids import split_client_order_id
from orders.models import AttemptOutcome, ExchangeOrder
from orders.recording.epochs import current_epoch
from orders.recording.fence import EARLIER_MS, last_accepted_ms, signed_ms

# Between an order that ended by a reset and the next one with its number.
_SAME_TIME = timedelta(seconds=1)
# If no message carried the creation time yet, we have only that of the request.
_PLACED_WITHIN = timedelta(minutes=1)
_CHUNK = 500


class Clash(StrEnum):
    """Name what another order has in common with one of our rows."""

    CLIENT_ID = "client order id"  # It was used again, for example by hand.
    NUMBER = "number"  # The exchange's numbers have begun again.


@dataclass(frozen=True, slots=True)
class Unknown:
    """The book has no such order: it is ours without a row, or someone else's."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """Another order than `attempt`, although it has its client order id or its number."""

    attempt: ExchangeOrder
    clash: Clash


Found = ExchangeOrder | Unknown | Foreign


def attempt_of(account: ExchangeAccount, report: OrderReport) -> Found:
    """Return the attempt that the report is about, with its order. Any may be stale."""
    by_client_id = attempt_by_client_id(account.pk, report.client_order_id)
    row = by_client_id
    if row is not None and row.exchange_order_id and is_about(row, report):
        return row
    by_number = attempts_by_exchange_id(account.pk, report.symbol, report.exchange_order_id)
    previous = None
    if report.previous_client_order_id and by_client_id is None:
        previous = attempt_by_client_id(account.pk, report.previous_client_order_id)
    found = _in_epoch(account, _judge(report, by_client_id, previous, by_number), by_client_id)
    if isinstance(found, Unknown):
        return _amended_unseen(_unanswered(account), report) or found
    return found


def attempts_of(
    account: ExchangeAccount, reports: Iterable[OrderReport]
) -> Iterator[tuple[OrderReport, Found]]:
    """Yield each report of a list with its attempt, like `attempt_of`, with few queries.

    Each is judged when it is yielded, so the caller may record the earlier ones meanwhile.
    """
    reports = list(reports)
    for start in range(0, len(reports), _CHUNK):
        part = reports[start : start + _CHUNK]
        rows = ExchangeOrder.objects.filter(account=account).select_related("order")
        by_client_id = {
            row.client_order_id: row
            for row in rows.filter(client_order_id__in={r.client_order_id for r in part})
        }
        by_number: dict[tuple[str, str], list[ExchangeOrder]] = {}
        numbers = {report.exchange_order_id for report in part} - {""}
        for row in rows.filter(symbol__in={r.symbol for r in part}, exchange_order_id__in=numbers):
            same = by_client_id.get(row.client_order_id, row)
            by_number.setdefault((row.symbol, row.exchange_order_id), []).append(same)
        unanswered = list(_unanswered(account))
        for report in part:
            number = (report.symbol, report.exchange_order_id)
            named = by_client_id.get(report.client_order_id)
            judged = _judge(report, named, None, by_number.get(number, []))
            found = _in_epoch(account, judged, named)
            if isinstance(found, Unknown):
                found = _amended_unseen(unanswered, report) or found
            yield report, found


def plain_attempts_of(
    account: ExchangeAccount, reports: Sequence[OrderReport]
) -> Iterator[tuple[OrderReport, ExchangeOrder | None]]:
    """Yield each report with the attempt that `attempt_of` finds by the client order id alone.

    None if it takes more to find it. Each is judged when it is yielded, like in `attempts_of`.
    """
    names = {report.client_order_id for report in reports}
    rows = {row.client_order_id: row for row in attempts_by_client_ids(account.pk, [*names])}
    unnumbered = [
        report
        for report in reports
        if (row := rows.get(report.client_order_id)) and not row.exchange_order_id
    ]
    taken: set[tuple[str, str]] = set()
    if unnumbered:
        symbols = {report.symbol for report in unnumbered}
        numbers = {report.exchange_order_id for report in unnumbered}
        taken = taken_numbers(account.pk, [*symbols], [*numbers])
    for report in reports:
        found = rows.get(report.client_order_id)
        if found is None:
            yield report, None
        elif found.exchange_order_id:
            yield report, found if is_about(found, report) else None
        else:
            is_free = (report.symbol, report.exchange_order_id) not in taken
            yield report, found if is_free and _may_have_become(found, report) else None


def is_about(attempt: ExchangeOrder, report: OrderReport) -> bool:
    """Return True if the report, an answer to a question about `attempt`, is about its order.

    Needed because a number may have begun again, and a client order id may be in use again.
    """
    if attempt.exchange_order_id:
        return _has_number(attempt, report) and is_same_order(attempt, report)
    return report.client_order_id == attempt.client_order_id and _may_have_become(attempt, report)


def is_same_order(attempt: ExchangeOrder, report: OrderReport) -> bool:
    """Return True if side and creation time agree. A report without a time must have the id."""
    if attempt.symbol != report.symbol or str(report.side) != attempt.order.side:
        return False
    names = (attempt.client_order_id, attempt.amended_client_order_id)
    is_named = report.client_order_id in names
    if report.created_at is None:
        return is_named
    return _is_of_its_time(attempt, report.created_at, is_named=is_named)


def _is_of_its_time(attempt: ExchangeOrder, created_at: datetime, *, is_named: bool) -> bool:
    """Return True if the order may have been created then.

    The exchange stamps it when it arrives, or when the engine takes it (`time`, `transactTime`),
    and a slow engine puts seconds between the two. It existed when we last heard of it. Numbers
    that have begun again are those of later orders.
    """
    known = attempt.exchange_created_at
    if known is None:
        return abs(created_at - from_ms(signed_ms(attempt))) < _PLACED_WITHIN
    in_engine = timedelta(milliseconds=int(settings.EXCHANGE_ENGINE_TIMEOUT_MS))
    last = max(known, attempt.exchange_updated_at or known)
    return known - in_engine <= created_at <= last + (in_engine if is_named else _SAME_TIME)


def may_be_amended(attempt: ExchangeOrder, report: OrderReport) -> bool:
    """Return True if the report may show the unanswered request's order, amended by hand.

    An amendment gives the order another client order id and a smaller quantity. All other figures
    and the time of creation stay.
    """
    if attempt.request_timestamp_ms is None or not _may_have_become(attempt, report):
        return False
    if report.created_at is None or split_client_order_id(report.client_order_id):
        return False
    order = attempt.order
    return (
        attempt.quantity is not None
        and report.quantity < attempt.quantity
        and report.order_type == order.order_type
        and report.price == (attempt.price or 0)
        and (report.stop_price or 0) == (attempt.stop_price or 0)
    )


def _unanswered(account: ExchangeAccount) -> QuerySet[ExchangeOrder]:
    """Return the requests whose sender has given up: no answer will come any more."""
    timeout = timedelta(milliseconds=int(settings.EXCHANGE_REQUEST_TIMEOUT_MS))
    given_up = Q(outcome=AttemptOutcome.UNKNOWN) | Q(
        outcome=AttemptOutcome.IN_FLIGHT, sent_at__lt=clock.now() - timeout
    )
    # By the index of due orders, which are few.
    rows = ExchangeOrder.objects.filter(
        given_up,
        order__account=account,
        order__open_attempts__gt=0,
        order__next_check_at__isnull=False,
        exchange_order_id="",
    )
    return rows.select_related("order").order_by("pk")


def _amended_unseen(
    unanswered: Iterable[ExchangeOrder], report: OrderReport
) -> ExchangeOrder | None:
    if split_client_order_id(report.client_order_id):
        return None
    return next((row for row in unanswered if may_be_amended(row, report)), None)


def _judge(
    report: OrderReport,
    by_client_id: ExchangeOrder | None,
    previous: ExchangeOrder | None,
    by_number: Sequence[ExchangeOrder],
) -> Found:
    for row in by_number:
        if is_same_order(row, report):
            return row
    # Before the first answer an attempt has no number yet.
    for unanswered in (by_client_id, previous):
        if unanswered is None or unanswered.exchange_order_id:
            continue
        if _may_have_become(unanswered, report):
            return unanswered
    if by_number:
        return Foreign(by_number[0], Clash.NUMBER)
    if by_client_id is not None:
        return Foreign(by_client_id, Clash.CLIENT_ID)
    return Unknown()


def _in_epoch(account: ExchangeAccount, found: Found, by_client_id: ExchangeOrder | None) -> Found:
    """Return `found`, unless its number is one of an epoch that has ended."""
    if not isinstance(found, Foreign) or found.clash is not Clash.NUMBER:
        return found
    if found.attempt.epoch >= current_epoch(account):
        return found
    return Unknown() if by_client_id is None else Foreign(by_client_id, Clash.CLIENT_ID)


def _has_number(attempt: ExchangeOrder, report: OrderReport) -> bool:
    number = report.exchange_order_id
    return bool(number) and (attempt.symbol, attempt.exchange_order_id) == (report.symbol, number)


def _may_have_become(attempt: ExchangeOrder, report: OrderReport) -> bool:
    """Return True if the report may show the order that this unanswered request has become."""
    if attempt.symbol != report.symbol or str(report.side) != attempt.order.side:
        return False
    if report.created_at is None or attempt.request_timestamp_ms is None:
        return True
    created_ms = to_ms(report.created_at)
    if created_ms > last_accepted_ms(attempt) + EARLIER_MS:
        # Later than the exchange promises. Only an order exactly as sent is this request's.
        return is_as_sent(attempt, report)
    return created_ms >= signed_ms(attempt) - EARLIER_MS


def is_as_sent(attempt: ExchangeOrder, report: OrderReport) -> bool:
    """Return True if the report has the attempt's client order id, its side and its figures."""
    return (
        report.client_order_id == attempt.client_order_id
        and (report.symbol, str(report.side)) == (attempt.symbol, attempt.order.side)
        and report.order_type == attempt.order.order_type
        and report.price == (attempt.price or 0)
        and (attempt.quantity is None or report.quantity == attempt.quantity)
        and (attempt.quote_quantity is None or report.quote_quantity == attempt.quote_quantity)
    )
