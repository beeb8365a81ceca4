"""Celery tasks: an intent or an id in, one service call. The database holds every duty; a message is a doorbell."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import structlog
from celery import current_app, shared_task
from django.db import InterfaceError, OperationalError

from exchanges import clock, metrics
from exchanges.errors import AccountError, GatewayError
from exchanges.models import ExchangeAccount
from orders import catchup, compare, halt_rules, history, notices, positions, reconcile, services
from orders.accounts import account_named
from orders.intents import (
    IntentConflict,
    InvalidIntent,
    bind_arguments,
    invalid,
    parse_account,
    parse_intent,
    parse_known_intent_id,
)
from orders.models import Order
from orders.troubles import stopping_refused

log = structlog.get_logger(__name__)

# `throws`: reported without a traceback, they are the caller's mistakes. `typing=False`: an unknown argument shall be
# answered by name, not by a TypeError.
_FROM_CALLERS: dict[str, Any] = {"throws": (InvalidIntent, IntentConflict), "typing": False}
_READS: dict[str, Any] = {
    "autoretry_for": (GatewayError, OperationalError, InterfaceError),  # the exchange, or our database, is away
    "dont_autoretry_for": (AccountError,),
    "retry_backoff": 2,
    "retry_backoff_max": 60,
    "retry_jitter": True,
    "max_retries": 4,
}


@shared_task(name="orders.submit_order", **_FROM_CALLERS)
def submit_order(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Place an order, once for ever per intent. Arguments: `orders.intents.FIELDS`."""
    try:
        intent = parse_intent(bind_arguments(args, kwargs), now=clock.now())
        return services.order_result(services.submit_order(intent))
    except InvalidIntent as error:
        _note_invalid("submit_order", error, kwargs)
        raise


@shared_task(name="orders.place_order", throws=(InvalidIntent,))
def place_order(order_id: str) -> dict[str, Any]:
    """Drive a stored order."""
    try:
        key = UUID(order_id)
    except (ValueError, AttributeError, TypeError):
        raise invalid("order_id", f"{order_id!r} is not the id of an order") from None
    try:
        return services.order_result(services.place_order(key))
    except Order.DoesNotExist:
        raise invalid("order_id", f"there is no order {order_id}") from None


@shared_task(name="orders.cancel_order", **_FROM_CALLERS)
def cancel_order(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Cancel by intent: `account, intent_id, requested_by="", reason=""`."""
    try:
        arguments = _cancel_arguments(args, kwargs)
        return services.order_result(services.cancel_order(**arguments))
    except InvalidIntent as error:
        _note_invalid("cancel_order", error, kwargs)
        raise


_CANCEL_FIELDS = ("account", "intent_id", "requested_by", "reason")


def _cancel_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, str]:
    bound = bind_arguments(args, kwargs, fields=_CANCEL_FIELDS)
    for name, value in bound.items():
        if name not in _CANCEL_FIELDS:
            raise invalid(str(name)[:64], "unknown argument")
        if not isinstance(value, str):
            raise invalid(name, f"expected text, got {type(value).__name__}")
    for name in ("account", "intent_id"):
        if name not in bound:
            raise invalid(name, "is missing")
    parse_account(bound["account"])
    parse_known_intent_id(bound["intent_id"])
    return bound


def _note_invalid(task: str, error: InvalidIntent, kwargs: dict[str, Any]) -> None:
    metrics.count("invalid_intents", task=task, field=error.field)
    log.warning("intent_invalid", task=task, error=str(error), intent_id=str(kwargs.get("intent_id", ""))[:64])


@shared_task(name="orders.resolve_unconfirmed")
def resolve_unconfirmed() -> dict[str, int]:
    """Sweep over every order that is due for its next step."""
    return reconcile.resolve_unconfirmed()


@shared_task(name="orders.apply_halt_rules")
def apply_halt_rules() -> dict[str, int]:
    """Halt the accounts that a rule says must stop."""
    return halt_rules.apply_halt_rules()


@shared_task(name="orders.send_order_events")
def send_order_events() -> dict[str, int]:
    """Tell the orchestrator what it could not be told at once."""
    return notices.sweep()


@shared_task(name="orders.sync_accounts")
def sync_accounts() -> dict[str, int]:
    """Have every enabled account's open orders and balances compared, each by a task of its own."""
    due = catchup.accounts_due_for_sync()
    for name in due:
        sync_open_orders.apply_async((name,), expires=60)
        current_app.tasks["exchanges.sync_balances"].apply_async((name,), expires=60)
    return {"accounts": len(due)}


@shared_task(name="orders.reconcile_accounts")
def reconcile_accounts() -> dict[str, int]:
    """Have every enabled account compared with its exchange, each by a task of its own."""
    names = list(ExchangeAccount.objects.filter(is_enabled=True).values_list("name", flat=True))
    for name in names:
        reconcile_account.apply_async((name,), expires=300)
    return {"accounts": len(names)}


@shared_task(name="orders.sync_open_orders", throws=(InvalidIntent,), **_READS)
def sync_open_orders(account: str) -> dict[str, int]:
    """Compare one account's open orders with the exchange's; while its stream is down, read its history, too."""
    owner = account_named(account)
    with stopping_refused(owner):
        counts = catchup.sync_open_orders(owner)
        if not counts.get("skipped") and not catchup.has_healthy_stream(owner):
            history.read_on(owner)
    return counts


@shared_task(name="orders.reconcile_account", throws=(InvalidIntent,), **_READS)
def reconcile_account(account: str) -> dict[str, int]:
    """Compare one account with the exchange and repair what evidence decides."""
    owner = account_named(account)
    with stopping_refused(owner):
        counts = compare.reconcile_account(owner)
    if counts.get("history_unread"):
        reconcile_account.apply_async((account,), expires=300)
    return counts


@shared_task(name="orders.refresh_positions")
def refresh_positions() -> dict[str, int]:
    """Have the positions of every enabled account folded and priced, each by a task of its own."""
    names = list(ExchangeAccount.objects.filter(is_enabled=True).values_list("name", flat=True))
    for name in names:
        refresh_positions_of.apply_async((name,), expires=60)
    return {"accounts": len(names)}


@shared_task(name="orders.refresh_positions_of", throws=(InvalidIntent,), **_READS)
def refresh_positions_of(account: str) -> dict[str, int]:
    """Fold one account's settled fills into its positions, and price them."""
    owner = account_named(account)
    return {**positions.fold_settled(owner), "priced": positions.refresh_prices(owner)}
