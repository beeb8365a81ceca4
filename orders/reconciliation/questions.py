"""Query the exchange about one order: its state and its trades."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from exchanges.binance.gateway import Gateway
from exchanges.binance.json_fields import numbered
from exchanges.binance.registry import get_gateway
from exchanges.errors import OrderNotFound, OutcomeUnknown
from exchanges.models import ExchangeAccount
from exchanges.types import OrderReport, Unreadable
from orders.models import ExchangeOrder, Order
from orders.reconciliation.pages import PAGE, is_last, next_id, trade_ids
from orders.reconciliation.symbols import one_symbol
from orders.reconciliation.unreadable import note_reading
from orders.recording.apply import apply_fills
from orders.recording.attempts import is_about
from orders.recording.plan import attempt_state

log = structlog.get_logger(__name__)

_MAX_PAGES = 100
FAILURES_IN_A_ROW = 3


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
        ids = trade_ids(fills)
        if is_last(fills, start=first, ids=ids):
            break
        first = next_id(first, fills, ids)
    reader = f"trades of {numbered(attempt.symbol, attempt.exchange_order_id)}"
    note_reading(attempt.order.account, reader, unreadable)
    return attempt.order


@dataclass(slots=True)
class Failures:
    """Count the questions in a row that failed. A few of them stop only their orders."""

    in_a_row: int = 0
    attempts: list[ExchangeOrder] = field(default_factory=list)

    @contextmanager
    def one(self, attempt: ExchangeOrder) -> Iterator[None]:
        """Ask about one order in this block. Raise its error if it is the exchange that fails.

        The order's next check stays, so the sweep asks again.
        """
        try:
            yield
        except OutcomeUnknown as error:
            self.in_a_row += not error.was_answered
            if self.in_a_row >= FAILURES_IN_A_ROW:
                raise
            self.attempts.append(attempt)
            order = numbered(attempt.symbol, attempt.exchange_order_id)
            log.warning("trades_not_read", order=order, error=str(error))
        else:
            self.in_a_row = 0


def complete_fills(account: ExchangeAccount) -> None:
    """Fetch the trades that this account's orders lack, instead of waiting for the stream.

    An order whose question failed is asked for once more, and then left to the sweep.
    """
    rows = ExchangeOrder.objects.filter(account=account, order__next_check_at__isnull=False)
    rows = rows.exclude(exchange_order_id="").select_related("order")
    lacking = [attempt for attempt in rows if attempt_state(attempt).has_fill_gap]
    _fetch_fills(account, _fetch_fills(account, lacking))


def _fetch_fills(
    account: ExchangeAccount, attempts: Sequence[ExchangeOrder]
) -> list[ExchangeOrder]:
    """Fetch the missing trades of each attempt. Return those whose question failed."""
    gateway, failures = get_gateway(account), Failures()
    for attempt in attempts:
        with one_symbol(account, attempt.symbol), failures.one(attempt):
            fetch_missing_fills(gateway, attempt)
    return failures.attempts
