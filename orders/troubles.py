"""What follows from an error: how long to wait, whether the account stops, what the order's event tells."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from exchanges.errors import AccountError, GatewayError
from exchanges.models import ExchangeAccount
from exchanges.services import halt_trading
from orders.book import open_account_break
from orders.models import BreakKind, ExchangeOrder, Order
from orders.states import UNSETTLED

# Pause before an order is looked at again, by the number of looks so far.
_BACK_OFF = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_UNSETTLED_PAUSE = 4.0


def pause_after(order: Order, error: GatewayError) -> float:
    """Seconds until the next step: what was asked for, and growing pauses where it was the exchange that failed.

    A shared limit or breaker of ours names the very moment from which it lets requests pass: to wait longer for each
    time it was asked would cost an order its deadline.
    """
    asked = getattr(error, "retry_after", None)
    if asked is not None and error.http_status is None:
        return float(asked) * random.uniform(1.0, 1.2)
    return max(asked or 0.0, back_off(order))


def back_off(order: Order) -> float:
    """Seconds to wait by the number of looks so far; short while the order has a deadline or an unknown outcome."""
    pause = _BACK_OFF[min(order.check_count, len(_BACK_OFF) - 1)]
    return min(pause, _UNSETTLED_PAUSE) if order.status in UNSETTLED else pause


def stop_account(account: ExchangeAccount, error: AccountError) -> None:
    """The exchange refuses the key or the account: nothing of it will pass until a person has looked.

    A key that this very process lacks (no answer, no status) says nothing about the account: other workers may have it.
    """
    if error.http_status is None:
        return
    halt_trading(account=account, reason=f"refused by the exchange: {error}"[:500], actor="exchange")
    open_account_break(
        account.pk,
        BreakKind.ACCOUNT_REFUSED,
        subject=account.name,
        details={"code": error.code, "message": error.message},
    )


@contextmanager
def stopping_refused(account: ExchangeAccount) -> Iterator[None]:
    """Questions about the account whose refusal stops it, as that of an order does."""
    try:
        yield
    except AccountError as error:
        stop_account(account, error)
        raise


def error_details(attempt: ExchangeOrder, error: GatewayError) -> dict[str, Any]:
    return {
        "client_order_id": attempt.client_order_id,
        "error": type(error).__name__,
        "code": error.code,
        "http_status": error.http_status,
        "message": error.message,
        "retry_after": getattr(error, "retry_after", None),
    }
