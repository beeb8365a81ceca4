"""Convert between an intent and the row of its order."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from django.conf import settings

from exchanges.instrument_rules import may_be_rounded
from exchanges.models import ExchangeAccount
from exchanges.types import Side, plain
from orders.amounts import PRICES, OrderAmounts
from orders.ids import hash_for
from orders.intents import COMPARED, Intent, IntentConflict
from orders.models import RECOVERED_PREFIX, Order
from orders.states import OrderStatus


def intent_of(order: Order, account: str) -> Intent:
    """Return the intent behind a stored order."""
    return Intent(
        intent_id=order.intent_id,
        account=account,
        symbol=order.symbol,
        amounts=OrderAmounts.of(order),
        strategy=order.strategy,
    )


def find_order(account: ExchangeAccount, intent_id: str) -> Order | None:
    """Return the order of an intent. None: the book has none.

    After a restore, the book may know an order by the hash of its intent alone.
    """
    names = names_of(account, intent_id)
    found = {
        order.intent_id: order
        for order in Order.objects.filter(account=account, intent_id__in=names)
    }
    return next((found[name] for name in names if name in found), None)


def names_of(account: ExchangeAccount, intent_id: str) -> tuple[str, str]:
    """Return the ids that the order of an intent may have in the book, its own one first."""
    hashed = hash_for(environment=account.environment, account=account.name, intent_id=intent_id)
    return intent_id, RECOVERED_PREFIX + hashed


def require_same_intent(
    order: Order, intent: Intent, *, as_sent: OrderAmounts | None = None
) -> None:
    """Raise `IntentConflict` that names the first argument in which the stored order differs.

    `as_sent` are the intent's amounts on the exchange's grid, for an order that we know only from
    the exchange. Amounts on any other grid are equal to them, too.
    """
    _require_same("symbol", order.symbol, intent.symbol, intent)
    for name in COMPARED:
        ours, theirs = getattr(order, name) or None, getattr(intent.amounts, name)
        if as_sent is not None and ours is not None and ours == getattr(as_sent, name):
            continue
        if as_sent is not None and _may_be_as_sent_then(name, ours, theirs, intent):
            continue
        _require_same(name, ours, theirs, intent)


def _may_be_as_sent_then(name: str, ours: object, theirs: object, intent: Intent) -> bool:
    """Return whether the amount was sent on another grid: the symbol's step may have changed."""
    if not isinstance(ours, Decimal) or not isinstance(theirs, Decimal):
        return False
    is_up = name in PRICES and intent.amounts.side is Side.SELL
    return may_be_rounded(theirs, ours, ROUND_CEILING if is_up else ROUND_FLOOR)


def _require_same(name: str, ours: object, theirs: object, intent: Intent) -> None:
    if ours != theirs:
        known, given = (
            value if isinstance(value, str | None) else plain(value)  # type: ignore[arg-type]
            for value in (ours, theirs)
        )
        raise IntentConflict(
            f"{name}: intent {intent.intent_id!r} is known with {known}, not {given}"
        )


def new_order(intent: Intent, account_id: int, now: datetime) -> Order:
    """Return an unsaved order for the intent, CREATED."""
    amounts = intent.amounts
    submitted_at = intent.submitted_at or now
    within = intent.place_within or timedelta(seconds=settings.PLACE_WITHIN_SECONDS)
    return Order(
        account_id=account_id,
        intent_id=intent.intent_id,
        symbol=intent.symbol,
        side=str(amounts.side),
        order_type=str(amounts.order_type),
        time_in_force=str(amounts.time_in_force or ""),
        **amounts.by_name,
        strategy=intent.strategy,
        status=str(OrderStatus.CREATED),
        created_at=now,
        submitted_at=submitted_at,
        place_by=submitted_at + within,
        next_check_at=now,
    )
