"""Judge an order again after the exchange has refused it by rules that may be newer than ours.

The order is CREATED meanwhile and keeps the exchange's words, so a killed worker loses nothing. If
the reading changes the rules, the gate judges the same intent by the new ones. Else the refusal
stands.
"""

from __future__ import annotations

from exchanges.mirror.instruments import learn_symbol, pause_symbol
from exchanges.models import ExchangeAccount, Instrument
from orders.models import ExchangeOrder, Order
from orders.recording.apply import apply_refusal
from orders.states import OrderStatus

_MARKET_CLOSED = "Market is closed"
_FILTER_FAILURE = "Filter failure"  # with -1013 before the matching engine, with -2010 in it
_RULES = frozenset({"-1013", "-1111", "-1121"})  # a filter, too many digits, an unknown symbol


def may_be_old_rules(code: str, message: str) -> bool:
    """Return whether newer rules of the symbol may have prevented this refusal."""
    return code in _RULES or message.startswith((_MARKET_CLOSED, _FILTER_FAILURE))


def waits_for_rules(order: Order) -> bool:
    """Return whether the exchange has refused the order and its rules must be read first."""
    return order.status == OrderStatus.CREATED and may_be_old_rules(order.reason_code, order.reason)


def judge_again(account: ExchangeAccount, order: Order) -> Order:
    """Read the rules. Return the order REJECTED, or CREATED to be claimed by the new rules.

    Raises `GatewayError` if the rules can't be read now.
    """
    attempt = ExchangeOrder.objects.filter(order=order).order_by("attempt").last()
    assert attempt is not None  # it was refused
    attempt.order = order
    if order.reason.startswith(_MARKET_CLOSED):
        pause_symbol(account, order.symbol)
    else:
        learn_symbol(account, order.symbol)
    if not _has_changed(account, attempt):
        return apply_refusal(attempt, code=order.reason_code, message=order.reason)
    unchanged = Order.objects.filter(pk=order.pk, version=order.version)
    if unchanged.update(reason_code="", reason=""):
        order.reason_code = order.reason = ""
    return order


def _has_changed(account: ExchangeAccount, attempt: ExchangeOrder) -> bool:
    """Return whether the rules are newer than the request, or the market is closed by them."""
    row = Instrument.objects.filter(
        exchange=account.exchange, environment=account.environment, symbol=attempt.symbol
    ).first()
    if row is None or attempt.sent_at is None:
        return False
    if attempt.order.reason.startswith(_MARKET_CLOSED):
        return row.status != "TRADING"
    return row.updated_at > attempt.sent_at
