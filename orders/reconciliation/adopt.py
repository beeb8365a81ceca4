"""Record reports of the exchange, including orders that our book doesn't have yet."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import nullcontext
from datetime import timedelta

import structlog
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import QuerySet

from exchanges import clock
from exchanges.db import leases
from exchanges.models import ExchangeAccount, Instrument
from exchanges.types import OrderReport, Unreadable, to_ms
from orders import book_identity
from orders.amounts import AMOUNTS, OrderAmounts
from orders.db_retry import is_database_away
from orders.gate.checks import quantize
from orders.ids import client_order_id, intent_hash, split_client_order_id
from orders.models import (
    EXTERNAL_PREFIX,
    RECOVERED_PREFIX,
    AttemptOutcome,
    BreakKind,
    EventType,
    ExchangeOrder,
    Order,
)
from orders.reconciliation.counts import RunCounts
from orders.reconciliation.symbols import remember_symbols
from orders.recording.apply import apply_report
from orders.recording.attempts import Clash, Foreign, Found, Unknown, attempts_of
from orders.recording.breaks import open_account_break
from orders.recording.changes import (
    MAX_TRIES,
    TooMuchContention,
    record_event,
    update_if_unchanged,
)
from orders.recording.epochs import free_epoch, note_reset
from orders.states import OrderStatus

log = structlog.get_logger(__name__)

# The longest time between recording an intent and sending it: `place_within` is at most a day.
LONGEST_WAIT = timedelta(days=2)
_LIKELY_ATTEMPTS = 32


def apply_reports(
    account: ExchangeAccount,
    reports: Iterable[OrderReport],
    counts: RunCounts,
    *,
    actor: str = "exchange",
) -> list[Unreadable]:
    """Merge reports into the book. Recover our orders without a row, record others as external.

    Return the reports that could not be stored. The others don't wait for them.
    """
    failed: list[Unreadable] = []
    for report, found in attempts_of(account, reports):
        counts.seen += 1
        problem = _store(account, report, found, counts, actor)
        if problem is not None:
            failed.append(problem)
        leases.renew()
    return failed


def take_in(
    account: ExchangeAccount, report: OrderReport, counts: RunCounts, *, actor: str = "exchange"
) -> Unreadable | None:
    """Merge one report into the book, like `apply_reports`."""
    return next(iter(apply_reports(account, [report], counts, actor=actor)), None)


def store_report(
    attempt: ExchangeOrder, report: OrderReport, counts: RunCounts, *, actor: str
) -> Unreadable | None:
    """Merge a report of a known attempt. Return the report if it could not be stored."""
    return _store(attempt.order.account, report, attempt, counts, actor)


def _store(
    account: ExchangeAccount, report: OrderReport, found: Found, counts: RunCounts, actor: str
) -> Unreadable | None:
    try:
        with transaction.atomic() if connection.in_atomic_block else nullcontext():
            record_report(account, report, found, counts, actor=actor)
    except Exception as error:
        if is_database_away(error):
            raise  # It is about the database, not about this report.
        log.exception("report_not_stored", account=account.name, order=exchange_key(report))
        text = json.dumps(dict(report.raw), default=str)[:4000]
        return Unreadable(exchange_key(report), f"{type(error).__name__}: {error}", text)
    return None


def record_report(
    account: ExchangeAccount,
    report: OrderReport,
    found: Found,
    counts: RunCounts,
    *,
    actor: str = "exchange",
) -> Order:
    """Record one report, given what `attempt_of` found: in its attempt's row, or in a new one."""
    if isinstance(found, ExchangeOrder):
        before = found.order.version
        order = apply_report(found, report, actor=actor)
        counts.changed += order.version != before
        return order
    return adopt_unknown(account, report, counts, clash=found)


def exchange_key(report: OrderReport) -> str:
    """Return a key of the exchange's order id, which is unique within a symbol."""
    return f"{report.symbol}#{report.exchange_order_id}"


def adopt_unknown(
    account: ExchangeAccount,
    report: OrderReport,
    counts: RunCounts,
    *,
    clash: Unknown | Foreign | None = None,
) -> Order:
    """Record an order that our book lacks, with its report. Return the order.

    A `Foreign` one also opens a break, which names the row of ours with its client order id or
    number.
    """
    foreign = clash if isinstance(clash, Foreign) else None
    remember_symbols(account, [report.symbol])
    order, attempt, is_new = _rows_for(account, report, foreign)
    if foreign is not None:
        _open_clash(account, report, foreign)
    counts.external += order.is_external
    counts.recovered += not order.is_external
    log.warning("order_without_row", account=account.name, client_order_id=report.client_order_id)
    if not order.is_external:
        book_identity.doubt(report.client_order_id)
    try:
        # In one transaction with the report: a worker that saw the order as unsent would claim it.
        with transaction.atomic():
            if is_new:
                order.save(force_insert=True)
                record_event(
                    order,
                    EventType.ADOPTED,
                    actor="sync",
                    source=report.source,
                    details={"message": dict(report.raw)},
                ).save(force_insert=True)
            else:
                _count_attempt(order, attempt.attempt)
            attempt.save(force_insert=True)
            return apply_report(attempt, report, actor="sync")
    except IntegrityError:
        # Another process has recorded it at the same moment.
        rows = ExchangeOrder.objects.filter(
            account=account, client_order_id=attempt.client_order_id
        )
        known = rows.select_related("order").first()
        if known is None:
            raise  # It was another constraint.
    return apply_report(known, report, actor="sync")


def _count_attempt(order: Order, number: int) -> None:
    """Let the order know of the attempt, so that the next one does not reuse its number."""
    for _ in range(MAX_TRIES):
        if order.attempt >= number or update_if_unchanged(order, attempt=number):
            return
        order.refresh_from_db()
    raise TooMuchContention(order.pk)


def _open_clash(account: ExchangeAccount, report: OrderReport, foreign: Foreign) -> None:
    details = {
        "ours": foreign.attempt.client_order_id,
        "theirs": report.client_order_id,
        "symbol": report.symbol,
        "number": report.exchange_order_id,
    }
    if foreign.clash is Clash.NUMBER:
        note_reset(account, details)
        return
    open_account_break(
        account.pk,
        BreakKind.CLIENT_ID_REUSED,
        subject=foreign.attempt.client_order_id,
        details=details,
        order=foreign.attempt.order,
    )


def _rows_for(
    account: ExchangeAccount, report: OrderReport, foreign: Foreign | None
) -> tuple[Order, ExchangeOrder, bool]:
    """Return unsaved rows for an external order or one of ours. The last is True for a new order.

    A further attempt of a known intent gets that intent's order.
    """
    parts = split_client_order_id(report.client_order_id)
    name = report.client_order_id
    if foreign is not None and _is_taken(account, name):
        # Someone else used one of our ids. The row keeps it with the number, to stay unique.
        parts, name = None, _name_beside(report)
    order = _known_order(account, report, *parts) if parts else None
    number = parts[1] if parts else 1
    is_new = order is None
    if order is None:
        order = _order_from(account, report, parts[0] if parts else None)
        order.attempt = number
    attempt = ExchangeOrder(
        order=order,
        account=account,
        attempt=number,
        client_order_id=name,
        epoch=free_epoch(account, report.symbol, report.exchange_order_id),
        symbol=report.symbol,
        outcome=AttemptOutcome.UNKNOWN,
        quantity=report.quantity if report.quantity > 0 else None,
        price=report.price if report.price > 0 else None,
        stop_price=report.stop_price,
        sent_at=report.created_at,
    )
    return order, attempt, is_new


def _is_taken(account: ExchangeAccount, client_order_id: str) -> bool:
    rows = ExchangeOrder.objects.filter(account=account, client_order_id=client_order_id)
    return rows.exists()


def _name_beside(report: OrderReport) -> str:
    suffix = f"#{report.exchange_order_id}@{to_ms(report.created_at or report.updated_at)}"
    return report.client_order_id[: 64 - len(suffix)] + suffix


def _known_order(
    account: ExchangeAccount, report: OrderReport, hashed: str, number: int
) -> Order | None:
    """Return the order of the intent with this hash: recovered, of another attempt, or unsent."""
    recovered = Order.objects.filter(account=account, intent_id=RECOVERED_PREFIX + hashed).first()
    if recovered is not None:
        return recovered
    sibling = siblings_of(account, hashed, number).select_related("order").first()
    return sibling.order if sibling else _unsent_order(account, report, hashed)


def siblings_of(account: ExchangeAccount, hashed: str, number: int) -> QuerySet[ExchangeOrder]:
    """Return the attempts of this intent that we know, by their exact ids, so an index finds them.

    `number` is the attempt that was reported. Known ones have lower numbers, or a few more.
    """
    ids = [client_order_id(hashed, n) for n in range(1, max(number, _LIKELY_ATTEMPTS) + 1)]
    known = ExchangeOrder.objects.filter(account=account, client_order_id__in=ids)
    return known.order_by("attempt")  # the model's own order would read every order


def _unsent_order(account: ExchangeAccount, report: OrderReport, hashed: str) -> Order | None:
    """Return the order with this hash that is unsent in our book, as in a restored backup.

    A hash doesn't lead back to its intent, so this rare look-up tries the unsent orders one by one.
    That includes an intent that came again after the restore, and was closed before its past was
    read. An order with other amounts isn't it: its intent id was used twice.
    """
    placed_at = report.created_at or report.updated_at
    unsent = Order.objects.filter(
        account=account,
        symbol=report.symbol,
        attempt=0,
        is_external=False,
        created_at__gt=placed_at - LONGEST_WAIT,
    )
    for order in unsent.iterator():
        if hashed == intent_hash(
            deployment_id=settings.DEPLOYMENT_ID,
            environment=account.environment,
            account=account.name,
            intent_id=order.intent_id,
        ):
            return order if _was_sent_as(order, _order_from(account, report, hashed)) else None
    return None


def _was_sent_as(order: Order, shown: Order) -> bool:
    """Check that the exchange shows the order's own amounts, rounded to the instrument's grid."""
    requested = OrderAmounts.of(order)
    instrument = Instrument.objects.filter(
        exchange=order.account.exchange, environment=order.account.environment, symbol=order.symbol
    ).first()
    sent = quantize(instrument.rules, requested) if instrument else requested
    names = ("side", "order_type", *AMOUNTS)
    return all(getattr(sent, name) == getattr(shown, name) for name in names)


def _order_from(
    account: ExchangeAccount,
    report: OrderReport,
    hashed: str | None,
) -> Order:
    is_limit = report.price > 0
    by_quote = report.quote_quantity is not None and report.quote_quantity > 0
    return Order(
        account=account,
        intent_id=RECOVERED_PREFIX + hashed
        if hashed
        else EXTERNAL_PREFIX + _external_key(account, report),
        is_external=hashed is None,
        symbol=report.symbol,
        side=str(report.side),
        order_type=report.order_type,
        time_in_force=report.time_in_force
        if is_limit and report.order_type != "LIMIT_MAKER"
        else "",
        quantity=None if by_quote else report.quantity,
        quote_quantity=report.quote_quantity if by_quote else None,
        price=report.price if is_limit else None,
        stop_price=report.stop_price,
        status=str(OrderStatus.PENDING_NEW),
        created_at=report.created_at or clock.now(),
        submitted_at=report.created_at or clock.now(),
        next_check_at=clock.now(),
    )


def _external_key(account: ExchangeAccount, report: OrderReport) -> str:
    """Return a key of someone else's order. An intent id is unique per account.

    The exchange numbers orders per symbol, and may begin again.
    """
    key = f"{report.symbol}:{report.exchange_order_id}"
    if not Order.objects.filter(account=account, intent_id=EXTERNAL_PREFIX + key).exists():
        return key
    return f"{key}@{to_ms(report.created_at or report.updated_at)}"[-50:]
