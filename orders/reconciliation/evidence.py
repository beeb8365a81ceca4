"""Look for the order of an unanswered request in every source that could show it.

The query by client order id is not enough: its answer may lag, and an order that was amended by
hand has another id by now. So open orders, the history and the trades are read, too.
"""

from __future__ import annotations

from django.db import transaction

from exchanges.binance.gateway import Gateway
from exchanges.errors import OutcomeUnknown
from exchanges.types import FillReport, OrderReport, Rows, to_ms
from orders.fast_reads import attempts_by_exchange_id
from orders.ids import split_client_order_id
from orders.models import ExchangeOrder, Fill, Order, OrderEvent, ReconciliationBreak
from orders.reconciliation.pages import (
    PAGE,
    id_of,
    is_full,
    is_last,
    next_id,
    order_numbers,
    trade_ids,
    value_of,
)
from orders.recording.apply import apply_report
from orders.recording.attempts import is_about, is_same_order, may_be_amended
from orders.recording.changes import TooMuchContention, update_if_unchanged
from orders.recording.fence import EARLIER_MS, fence_ms, signed_ms

_MAX_PAGES = 100


def find_order(gateway: Gateway, attempt: ExchangeOrder) -> OrderReport | None:
    """Return the exchange's order of an unanswered request. None if no source shows one.

    Raises `OrderNotFound` if a trade of that time belongs to an order that the exchange doesn't
    show yet: then absence is not proven. Raises `GatewayError` if a question failed.
    """
    start_ms, end_ms = signed_ms(attempt) - EARLIER_MS, fence_ms(attempt)
    listed = _readable(gateway, attempt, gateway.fetch_open_orders(attempt.symbol))
    listed += _orders_between(gateway, attempt, start_ms, end_ms)
    for report in listed:
        if _is_its_order(gateway, attempt, report):
            return report
    traded = _traded_numbers(gateway, attempt, start_ms, end_ms)
    for number in sorted(traded - {report.exchange_order_id for report in listed}):
        report = gateway.fetch_order(symbol=attempt.symbol, exchange_order_id=number)
        if _is_its_order(gateway, attempt, report):
            return report
    return None


def apply_found(attempt: ExchangeOrder, report: OrderReport, *, actor: str) -> Order:
    """Record the order that was found for an unanswered request.

    If it was recorded as someone else's meanwhile, because it has another client order id, that
    row is joined with ours.
    """
    number = report.exchange_order_id
    rows = attempts_by_exchange_id(attempt.account_id, report.symbol, number)
    with transaction.atomic():
        for row in rows:
            if row.pk != attempt.pk and row.order.is_external and is_same_order(row, report):
                join_external(attempt, row)
        return apply_report(attempt, report, actor=actor)


def _is_its_order(gateway: Gateway, attempt: ExchangeOrder, report: OrderReport) -> bool:
    """Return whether it is the request's order. The exchange's list of amendments proves it."""
    if is_about(attempt, report):
        return True
    if not may_be_amended(attempt, report):
        return False
    found = gateway.fetch_amendments(
        symbol=report.symbol, exchange_order_id=report.exchange_order_id
    )
    return bool(found) and found[0].client_order_id == attempt.client_order_id


def join_external(attempt: ExchangeOrder, external: ExchangeOrder) -> None:
    """Move the fills and the history of the external row to our attempt, and delete it."""
    if not update_if_unchanged(external.order):
        raise TooMuchContention(external.order.pk)
    Fill.objects.filter(exchange_order=external).update(exchange_order=attempt, order=attempt.order)
    for model in (OrderEvent, ReconciliationBreak):
        model.objects.filter(order=external.order).update(order=attempt.order)
    attempt.fills_quantity = external.fills_quantity
    attempt.fills_quote_quantity = external.fills_quote_quantity
    attempt.save(update_fields=["fills_quantity", "fills_quote_quantity"])
    order = external.order
    external.delete()
    order.delete()


def _readable(
    gateway: Gateway, attempt: ExchangeOrder, page: Rows[OrderReport]
) -> list[OrderReport]:
    """Return the rows. Raise `OutcomeUnknown` if one that can't be read may be the order."""
    for row in page.unreadable:
        name, number = value_of(row, "clientOrderId"), id_of(row, "orderId")
        # A list with another symbol may be the answer to another question.
        is_asked = value_of(row, "symbol") in (attempt.symbol, None)
        is_named = isinstance(name, str) and name not in ("", attempt.client_order_id)
        if not is_asked or not is_named or number is None:
            raise OutcomeUnknown(f"a row of the orders of {attempt.symbol} can't be read")
        if split_client_order_id(name):
            continue  # another request of ours
        found = gateway.fetch_amendments(symbol=attempt.symbol, exchange_order_id=str(number))
        if any(each.client_order_id == attempt.client_order_id for each in found):
            raise OutcomeUnknown(f"the order was amended, and {row.subject} can't be read")
    return list(page)


def _orders_between(
    gateway: Gateway, attempt: ExchangeOrder, start_ms: int, end_ms: int
) -> list[OrderReport]:
    """Return all orders of a window, halving it until no page could hide some."""
    page = gateway.fetch_all_orders(
        symbol=attempt.symbol, start_ms=start_ms, end_ms=end_ms, limit=PAGE
    )
    if is_last(page):
        return _readable(gateway, attempt, page)
    if end_ms <= start_ms:
        found = _readable(gateway, attempt, page)
        if is_full(page) or _has_more(gateway, attempt, page, end_ms):
            raise OutcomeUnknown(f"more than {page.length} orders within one millisecond")
        return found
    middle = (start_ms + end_ms) // 2
    return _orders_between(gateway, attempt, start_ms, middle) + _orders_between(
        gateway, attempt, middle + 1, end_ms
    )


def _has_more(
    gateway: Gateway, attempt: ExchangeOrder, page: Rows[OrderReport], end_ms: int
) -> bool:
    """Return whether orders of the same millisecond follow those on the page."""
    start = next_id(0, page, order_numbers(page))
    behind = gateway.fetch_all_orders(symbol=attempt.symbol, from_order_id=str(start), limit=PAGE)
    is_of_then = (to_ms(each.created_at or each.updated_at) <= end_ms for each in behind)
    return bool(behind.unreadable) or any(is_of_then)


def _traded_numbers(
    gateway: Gateway, attempt: ExchangeOrder, start_ms: int, end_ms: int
) -> set[str]:
    """Return the orders on our side that traded in the window and are not in our book.

    The order of a trade that can't be read counts, too. Raise `OutcomeUnknown` if it has no number.
    """
    symbol, side = attempt.symbol, attempt.order.side
    page = gateway.fetch_trades(symbol=symbol, start_ms=start_ms, end_ms=end_ms, limit=PAGE)
    numbers, first = _numbers_of(page, side), 0
    for _ in range(_MAX_PAGES):
        ids = trade_ids(page)
        if is_last(page, start=first, ids=ids):
            break
        if any(to_ms(trade.traded_at) > end_ms for trade in page):
            break
        if not ids:
            raise OutcomeUnknown(f"a page of the trades of {symbol} can't be read")
        first = next_id(first, page, ids)
        page = gateway.fetch_trades(symbol=symbol, from_trade_id=str(first), limit=PAGE)
        numbers |= _numbers_of(page, side)
    else:
        raise OutcomeUnknown(f"more trades of {symbol} than can be read")
    known = ExchangeOrder.objects.filter(
        account=attempt.account_id, symbol=symbol, exchange_order_id__in=numbers
    )
    return numbers - set(known.values_list("exchange_order_id", flat=True))


def _numbers_of(page: Rows[FillReport], side: str) -> set[str]:
    numbers = {trade.exchange_order_id for trade in page if str(trade.side) == side}
    for row in page.unreadable:
        number = value_of(row, "orderId")
        if type(number) is not int:
            raise OutcomeUnknown(f"a trade can't be read: {row.subject}")
        numbers.add(str(number))
    return numbers
