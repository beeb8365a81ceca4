"""Query the exchange about one order: its state and its trades."""

from __future__ import annotations

from exchanges.binance.gateway import Gateway
from exchanges.binance.json_fields import numbered
from exchanges.binance.registry import get_gateway
from exchanges.errors import OrderNotFound
from exchanges.models import ExchangeAccount
from exchanges.types import OrderReport, Unreadable
from orders.models import ExchangeOrder, Order
from orders.reconciliation.pages import PAGE, is_last, next_id, trade_ids
from orders.reconciliation.symbols import one_symbol
from orders.reconciliation.unreadable import note_reading
from orders.recording.apply import apply_fills
from orders.recording.attempts import is_about
from orders.recording.plan import attempt_state

_MAX_PAGES = 100


def ask_for(gateway: Gateway, attempt: ExchangeOrder) -> OrderReport:
    """Query the order by the exchange's number, or by our client order id if that isn't known yet.

    An amended order has another client order id, and another order may have ours. Raises
    `OrderNotFound` if the exchange doesn't know it, or answers with another order.
    """
    number = attempt.exchange_order_id
    by_id = (
        {"exchange_order_id": number} if number else {"client_order_id": attempt.client_order_id}
    )
    report = gateway.fetch_order(symbol=attempt.symbol, **by_id)
    if not is_about(attempt, report):
        raise OrderNotFound("the exchange has another order under this id")
    return report


def fetch_missing_fills(gateway: Gateway, attempt: ExchangeOrder) -> Order:
    """Fetch the trades of one order, page by page, and store the new ones."""
    first = 0  # Without a first id the exchange returns the newest page.
    unreadable: list[Unreadable] = []
    for _ in range(_MAX_PAGES):
        fills = gateway.fetch_trades(
            symbol=attempt.symbol,
            exchange_order_id=attempt.exchange_order_id,
            from_trade_id=str(first),
            limit=PAGE,
        )
        unreadable += fills.unreadable
        mine = [fill for fill in fills if fill.exchange_order_id == attempt.exchange_order_id]
        if mine:
            apply_fills(attempt, mine)
        if is_last(fills):
            break
        first = next_id(first, trade_ids(fills))
    reader = f"trades of {numbered(attempt.symbol, attempt.exchange_order_id)}"
    note_reading(attempt.order.account, reader, unreadable)
    return attempt.order


def complete_fills(account: ExchangeAccount) -> None:
    """Fetch the trades that this account's orders lack, instead of waiting for the stream."""
    gateway = get_gateway(account)
    rows = ExchangeOrder.objects.filter(account=account, order__next_check_at__isnull=False)
    for attempt in rows.exclude(exchange_order_id="").select_related("order"):
        if attempt_state(attempt).has_fill_gap:
            with one_symbol(account, attempt.symbol):
                fetch_missing_fills(gateway, attempt)
