"""Catching up with one account: what is open, which orders lack a row, which trades are missing.

A failed question judges nothing: errors of the gateway pass to the caller, who asks again later.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from exchanges import clock
from exchanges.errors import OrderNotFound
from exchanges.gateway import Gateway, get_gateway
from exchanges.models import ExchangeAccount, Instrument
from exchanges.services import do_once, halt_trading, lease, mark_synced
from exchanges.types import FillReport, OrderReport, OrderType, Side
from orders.book import (
    apply_fills,
    apply_report,
    attempt_state,
    open_account_break,
    open_break,
    record_event,
    swap,
)
from orders.diff import looks_wiped
from orders.ids import intent_hash, split_client_order_id
from orders.models import (
    EXTERNAL_PREFIX,
    RECOVERED_PREFIX,
    BreakKind,
    EventType,
    ExchangeOrder,
    Order,
    Outcome,
    ReconciliationBreak,
)
from orders.risk import Figures, quantise
from orders.states import OPEN, OrderStatus

log = structlog.get_logger(__name__)

PAGE = 1000
_MAX_PAGES = 100
_PLACED_WITHIN = timedelta(minutes=1)
LONGEST_WAIT = timedelta(days=2)  # between recording an intent and sending it: `place_within` is a day at most


@dataclass(slots=True)
class Counts:
    """What one run did."""

    seen: int = 0
    changed: int = 0
    asked: int = 0
    recovered: int = 0
    external: int = 0

    def as_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}


# -- open orders ---------------------------------------------------------------------------------------------------


def sync_open_orders(account: ExchangeAccount, *, wait: bool = False) -> dict[str, int]:
    """Compare the account's open orders with the exchange's, asking about a single order only where one is missing.

    One list call, whatever the number of open orders. Overlapping runs do it once; with `wait`, have a run that began
    after this call, done here or by another.
    """
    if wait:
        return _sync_from_now_on(account)
    with lease(f"sync:{account.name}", seconds=120) as held:
        if not held:
            return {"skipped": 1}
        return _sync_open_orders(account).as_dict()


def _sync_from_now_on(account: ExchangeAccount) -> dict[str, int]:
    started_at = clock.now()
    done = ExchangeAccount.objects.filter(pk=account.pk, last_synced_at__gte=started_at)
    counts = Counts()

    def work() -> None:
        nonlocal counts
        counts = _sync_open_orders(account)

    do_once(f"sync:{account.name}", is_done=done.exists, work=work)
    return counts.as_dict()


def ensure_synced(account: ExchangeAccount) -> None:
    """Have a complete comparison that is younger than `MAX_UNSYNCED_SECONDS`."""
    limit = timedelta(seconds=settings.MAX_UNSYNCED_SECONDS)

    def is_done() -> bool:
        return ExchangeAccount.objects.filter(pk=account.pk, last_synced_at__gte=clock.now() - limit).exists()

    do_once(f"sync:{account.name}", is_done=is_done, work=lambda: _sync_open_orders(account))


def _sync_open_orders(account: ExchangeAccount) -> Counts:
    gateway, asked_at, counts = get_gateway(account), clock.now(), Counts()
    reports = gateway.fetch_open_orders()
    apply_reports(account, reports, counts)
    listed = {name for report in reports for name in (report.client_order_id, _exchange_key(report))}
    held = list(open_attempts(account).filter(acknowledged_at__lt=asked_at))
    unlisted = [
        attempt
        for attempt in held
        if listed.isdisjoint((attempt.client_order_id, f"{attempt.symbol}#{attempt.exchange_order_id}"))
    ]
    # The query side may lag behind the engine: that it does not know a fresh order yet is no difference.
    settled_before = asked_at - timedelta(milliseconds=settings.EXCHANGE_READ_LAG_MS)
    missing: list[ExchangeOrder] = []
    for attempt in unlisted:
        if _is_missing(gateway, attempt, counts, settled_before=settled_before):
            missing.append(attempt)
        if looks_wiped(held=len(held), unlisted=len(unlisted), asked=counts.asked, missing=len(missing)):
            stop_for_wipe(account, orders=len(held), actor="sync")
            return counts
    for attempt in missing:
        open_break(
            attempt.order,
            BreakKind.MISSING_AT_EXCHANGE,
            subject=attempt.client_order_id,
            details={"exchange_order_id": attempt.exchange_order_id},
        )
    mark_synced(account, asked_at)
    log.info("open_orders_synced", account=account.name, **counts.as_dict())
    return counts


def stop_for_wipe(account: ExchangeAccount, *, orders: int, actor: str) -> None:
    """The exchange was reset: closing every order would destroy the record of what we had. Said and done once, so that
    a person who knows better may let the account trade again.
    """
    told = ReconciliationBreak.objects.filter(account=account, kind=BreakKind.EXCHANGE_RESET, resolved_at=None)
    if told.exists():
        return
    reason = f"the exchange knows none of our {orders} open orders: it was reset, or this is another account"
    halt_trading(account=account, reason=reason, actor=actor)
    open_account_break(account.pk, BreakKind.EXCHANGE_RESET, subject=account.name, details={"orders": orders})


def accounts_due_for_sync() -> list[str]:
    """Enabled accounts to compare now: all of them, but one whose stream is healthy only every so often."""
    now = clock.now()
    rest = timedelta(seconds=settings.SYNC_INTERVAL_STREAMING_SECONDS)
    accounts = ExchangeAccount.objects.filter(is_enabled=True).select_related("stream")
    return [account.name for account in accounts if not _may_rest(account, now, rest)]


def has_healthy_stream(account: ExchangeAccount) -> bool:
    stream = getattr(account, "stream", None)
    return stream is not None and stream.is_healthy(clock.now())


def _may_rest(account: ExchangeAccount, now: datetime, rest: timedelta) -> bool:
    if account.last_synced_at is None or not has_healthy_stream(account):
        return False
    # The tick after this one would come too late: half an interval early is early enough.
    early = timedelta(seconds=settings.SYNC_INTERVAL_SECONDS / 2)
    return now - account.last_synced_at < rest - early


def open_attempts(account: ExchangeAccount) -> QuerySet[ExchangeOrder]:
    """Attempts that we hold open, with their orders."""
    rows = ExchangeOrder.objects.filter(order__account=account, order__status__in=[*OPEN])
    return rows.filter(outcome=Outcome.ACKNOWLEDGED).select_related("order")


def _is_missing(gateway: Gateway, attempt: ExchangeOrder, counts: Counts, *, settled_before: datetime) -> bool:
    """An order that we hold open is not in the list: ask for it alone. "Not found" closes nothing."""
    counts.asked += 1
    before = attempt.order.version
    try:
        report = ask_for(gateway, attempt)
    except OrderNotFound:
        return attempt.acknowledged_at is None or attempt.acknowledged_at < settled_before
    order = apply_report(attempt, report)
    counts.changed += order.version != before
    return False


def ask_for(gateway: Gateway, attempt: ExchangeOrder) -> OrderReport:
    """Ask by our client order id; by the exchange's id where somebody has amended the order, which gives it another."""
    try:
        return gateway.fetch_order(symbol=attempt.symbol, client_order_id=attempt.client_order_id)
    except OrderNotFound as unknown:
        if not attempt.exchange_order_id:
            raise
        report = gateway.fetch_order(symbol=attempt.symbol, exchange_order_id=attempt.exchange_order_id)
        if not _was_placed_as(attempt, report):
            raise unknown from None
        return report


def _was_placed_as(attempt: ExchangeOrder, report: OrderReport) -> bool:
    """Numbers come again where an exchange was reset: it is the same order if it was placed at the same time."""
    if attempt.sent_at is None or report.created_at is None or str(report.side) != attempt.order.side:
        return False
    return abs(report.created_at - attempt.sent_at) < _PLACED_WITHIN


def apply_reports(account: ExchangeAccount, reports: Iterable[OrderReport], counts: Counts) -> None:
    """Join reports into the book; an order without a row is recovered (ours) or recorded as external."""
    reports = list(reports)
    attempts = _attempts_for(account, reports)
    for report in reports:
        counts.seen += 1
        attempt = attempts.get(report.client_order_id) or attempts.get(_exchange_key(report))
        if attempt is None:
            adopt_unknown(account, report, counts)
            continue
        before = attempt.order.version
        counts.changed += apply_report(attempt, report).version != before


def _attempts_for(account: ExchangeAccount, reports: list[OrderReport]) -> dict[str, ExchangeOrder]:
    found: dict[str, ExchangeOrder] = {}
    for start in range(0, len(reports), 500):
        part = reports[start : start + 500]
        rows = ExchangeOrder.objects.filter(account=account).select_related("order")
        for row in rows.filter(client_order_id__in=[report.client_order_id for report in part]):
            found[row.client_order_id] = row
        missing = [r.exchange_order_id for r in part if r.client_order_id not in found]
        if missing:
            for row in rows.filter(exchange_order_id__in=missing):
                found[f"{row.symbol}#{row.exchange_order_id}"] = row
    return found


def _exchange_key(report: OrderReport) -> str:
    return f"{report.symbol}#{report.exchange_order_id}"


# -- orders without a row ------------------------------------------------------------------------------------------


def adopt_unknown(account: ExchangeAccount, report: OrderReport, counts: Counts) -> Order:
    """Record an order of the exchange that our book lacks."""
    order, attempt, is_new = _rows_for(account, report)
    counts.external += order.is_external
    counts.recovered += not order.is_external
    log.warning("order_without_row", account=account.name, client_order_id=report.client_order_id)
    try:
        # With the report in one transaction: nobody may see the order as unsent in between, and claim it.
        with transaction.atomic():
            if is_new:
                order.save(force_insert=True)
                record_event(
                    order, EventType.ADOPTED, actor="sync", source=report.source, details={"message": dict(report.raw)}
                ).save(force_insert=True)
            elif order.attempt < attempt.attempt and not swap(order, attempt=attempt.attempt):
                order.refresh_from_db()
            attempt.save(force_insert=True)
            return apply_report(attempt, report, actor="sync")
    except IntegrityError:
        # Another process has recorded it in the same moment.
        attempt = ExchangeOrder.objects.select_related("order").get(
            account=account, client_order_id=report.client_order_id
        )
    return apply_report(attempt, report, actor="sync")


def _rows_for(account: ExchangeAccount, report: OrderReport) -> tuple[Order, ExchangeOrder, bool]:
    """Unsaved rows for a stranger's order or for one of ours; a further attempt joins the intent's order."""
    parts = split_client_order_id(report.client_order_id)
    order = _known_order(account, report, parts[0]) if parts else None
    number = parts[1] if parts else 1
    is_new = order is None
    if order is None:
        order = _order_from(account, report, parts[0] if parts else None)
        order.attempt = number
    attempt = ExchangeOrder(
        order=order,
        account=account,
        attempt=number,
        client_order_id=report.client_order_id,
        symbol=report.symbol,
        outcome=Outcome.UNKNOWN,
        quantity=report.quantity if report.quantity > 0 else None,
        price=report.price if report.price > 0 else None,
        stop_price=report.stop_price,
        sent_at=report.created_at,
    )
    return order, attempt, is_new


def _known_order(account: ExchangeAccount, report: OrderReport, hashed: str) -> Order | None:
    """The order whose intent has this hash: recovered before, known by another attempt, or not known to be sent."""
    recovered = Order.objects.filter(account=account, intent_id=RECOVERED_PREFIX + hashed).first()
    if recovered is not None:
        return recovered
    sibling = (
        ExchangeOrder.objects.filter(account=account, client_order_id__startswith=f"bo-{hashed}-")
        .select_related("order")
        .first()
    )
    return sibling.order if sibling else _unsent_order(account, report, hashed)


def _unsent_order(account: ExchangeAccount, report: OrderReport, hashed: str) -> Order | None:
    """An order that our book holds for never sent, as a restored backup does that was taken before it was.

    A hash leads back to no intent, so those of the time that fits are tried one by one; this is rare. One with other
    figures is not it: the intent's id was given away twice.
    """
    placed_at = report.created_at or report.updated_at
    unsent = Order.objects.filter(
        account=account,
        symbol=report.symbol,
        attempt=0,
        is_external=False,
        created_at__gt=placed_at - LONGEST_WAIT,
        created_at__lt=placed_at + timedelta(minutes=1),
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
    """Are the figures that the exchange shows the order's own, on the exchange's grid?"""
    requested = Figures(
        side=Side(order.side),
        order_type=OrderType(order.order_type),
        quantity=order.quantity,
        quote_quantity=order.quote_quantity,
        price=order.price,
        stop_price=order.stop_price,
    )
    instrument = Instrument.objects.filter(
        exchange=order.account.exchange, environment=order.account.environment, symbol=order.symbol
    ).first()
    sent = quantise(instrument.rules, requested) if instrument else requested
    names = ("side", "order_type", "quantity", "quote_quantity", "price", "stop_price")
    return all(getattr(sent, name) == getattr(shown, name) for name in names)


def _order_from(account: ExchangeAccount, report: OrderReport, hashed: str | None) -> Order:
    is_limit = report.price > 0
    by_quote = report.quote_quantity is not None and report.quote_quantity > 0
    return Order(
        account=account,
        intent_id=RECOVERED_PREFIX + hashed if hashed else EXTERNAL_PREFIX + _external_key(report),
        is_external=hashed is None,
        symbol=report.symbol,
        side=str(report.side),
        order_type=report.order_type,
        time_in_force=report.time_in_force if is_limit and report.order_type != "LIMIT_MAKER" else "",
        quantity=None if by_quote else report.quantity,
        quote_quantity=report.quote_quantity if by_quote else None,
        price=report.price if is_limit else None,
        stop_price=report.stop_price,
        status=str(OrderStatus.PENDING_NEW),
        created_at=report.created_at or clock.now(),
        submitted_at=report.created_at or clock.now(),
        next_check_at=clock.now(),
    )


def _external_key(report: OrderReport) -> str:
    # The exchange numbers orders per symbol, and an intent id is unique per account.
    return f"{report.symbol}:{report.exchange_order_id}"


# -- missing trades ------------------------------------------------------------------------------------------------


def fetch_missing_fills(gateway: Gateway, attempt: ExchangeOrder) -> Order:
    """Ask for the trades of one order, page by page, and store those that are new."""
    from_trade_id = "0"  # without a first id the exchange gives the newest page
    for _ in range(_MAX_PAGES):
        fills = gateway.fetch_trades(
            symbol=attempt.symbol,
            exchange_order_id=attempt.exchange_order_id,
            from_trade_id=from_trade_id,
            limit=PAGE,
        )
        mine = [fill for fill in fills if fill.exchange_order_id == attempt.exchange_order_id]
        if mine:
            apply_fills(attempt, mine)
        if len(fills) < PAGE:
            break
        from_trade_id = str(_last_trade(fills) + 1)
    return attempt.order


def complete_fills(account: ExchangeAccount) -> None:
    """Fetch the trades that orders of this account are known to lack, without waiting for the stream to bring them."""
    gateway = get_gateway(account)
    rows = ExchangeOrder.objects.filter(account=account, order__next_check_at__isnull=False)
    for attempt in rows.exclude(exchange_order_id="").select_related("order"):
        if attempt_state(attempt).has_fill_gap:
            fetch_missing_fills(gateway, attempt)


def _last_trade(fills: list[FillReport]) -> int:
    return max(int(fill.trade_id) for fill in fills)
