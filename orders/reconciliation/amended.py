"""Recover orders of ours that the book has lost and that were amended by hand.

An amendment gives an order another client order id, so after a restore it looks like someone
else's, and its intent would be sent again. Only the exchange's list of its amendments names the id
that we gave it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

import structlog
from django.db import transaction

from exchanges.binance.registry import get_gateway
from exchanges.models import ExchangeAccount
from exchanges.types import Amendment, OrderReport
from orders import book_identity
from orders.ids import split_client_order_id
from orders.models import ExchangeOrder
from orders.reconciliation.adopt import adopt_unknown
from orders.reconciliation.counts import RunCounts
from orders.reconciliation.evidence import join_external
from orders.recording.apply import apply_report
from orders.recording.epochs import current_epoch

log = structlog.get_logger(__name__)


def recover_amended(
    account: ExchangeAccount, symbol: str, reports: Iterable[OrderReport], counts: RunCounts
) -> None:
    """Look among the orders of others from the time that a distrusted book has lost.

    `reports` were just read. Orders that the book holds as external are looked at, too. Raises
    `GatewayError` if a question failed, because then the symbol's past is not known yet.
    """
    distrusted = book_identity.distrusted_at()
    if distrusted is None:
        return
    since, until = book_identity.lost_since(distrusted), book_identity.trusted_from(distrusted)
    external = _external(account, symbol, since, until)
    numbers = {row.exchange_order_id for row in external}
    for report in reports:
        is_theirs = split_client_order_id(report.client_order_id) is None
        if (
            is_theirs
            and report.exchange_order_id not in numbers
            and _may_be_lost(report, since, until)
        ):
            _recover(account, report, None, counts)
    gateway = get_gateway(account)
    for row in external:
        number = row.exchange_order_id
        if _original(account, symbol, number) is not None:
            report = gateway.fetch_order(symbol=symbol, exchange_order_id=number)
            _recover(account, report, row, counts)


def _may_be_lost(report: OrderReport, since: datetime, until: datetime) -> bool:
    """Return whether the order is of the lost time, and of a kind that can be amended."""
    created_at = report.created_at or report.updated_at
    return since <= created_at < until and report.price > 0


def _external(
    account: ExchangeAccount, symbol: str, since: datetime, until: datetime
) -> Sequence[ExchangeOrder]:
    rows = ExchangeOrder.objects.filter(
        account=account,
        symbol=symbol,
        epoch=current_epoch(account),
        order__is_external=True,
        price__gt=0,
        exchange_created_at__gte=since,
        exchange_created_at__lt=until,
    )
    return list(rows.exclude(exchange_order_id="").select_related("order").order_by("pk"))


def _original(account: ExchangeAccount, symbol: str, number: str) -> Amendment | None:
    """Return the order as we sent it, if it was ours before its first amendment."""
    found = get_gateway(account).fetch_amendments(symbol=symbol, exchange_order_id=number)
    if not found or split_client_order_id(found[0].client_order_id) is None:
        return None
    return found[0]


def _recover(
    account: ExchangeAccount,
    report: OrderReport,
    external: ExchangeOrder | None,
    counts: RunCounts,
) -> None:
    """Record the order under the id that we gave it, if it is ours."""
    original = _original(account, report.symbol, report.exchange_order_id)
    if original is None:
        return
    name = original.client_order_id
    known = ExchangeOrder.objects.filter(account=account, client_order_id=name)
    as_sent = replace(report, client_order_id=name, quantity=original.quantity)
    with transaction.atomic():
        if external is not None:
            external.exchange_order_id = ""  # the number is the recovered row's from now on
            external.save(update_fields=["exchange_order_id"])
        if not known.exists():
            adopt_unknown(account, as_sent, counts)
        attempt = known.select_related("order").get()
        if external is not None:
            join_external(attempt, external)
        apply_report(attempt, report, actor="sync")
    log.warning("amended_order_recovered", account=account.name, client_order_id=name)
