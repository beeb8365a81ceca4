"""Claim a send: pass the gate and store the attempt in one transaction, before any byte leaves.

Exactly one worker wins a claim, by a unique insert (a new intent) or by a compare-and-swap (a
stored order). The request's timestamp and recvWindow are committed with the claim and never
renewed, so the exchange refuses a winner that sends too late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from exchanges import clock
from exchanges.db import batch_writes
from exchanges.db.batch_writes import Insert, Write
from exchanges.known_prices import KnownPrice, PriceSource, market_price
from exchanges.mirror.reservations import reserve
from exchanges.types import OrderRequest, plain
from orders.amounts import AMOUNTS, OrderAmounts
from orders.gate.decide import (
    ClaimContext,
    Prerequisite,
    PrerequisiteMissing,
    decide,
    money_is_reserved,
    spent,
)
from orders.gate.facts import GateSnapshot, facts_for
from orders.ids import client_order_id, hash_for
from orders.intents import Intent
from orders.models import EventType, ExchangeOrder, Order, OrderEvent
from orders.placing.early_cancels import withdraw, withdraw_new
from orders.placing.holding import hold, why_held
from orders.placing.intent_order import new_order, require_same_intent
from orders.placing.record import deny_new, deny_stored
from orders.placing.recovered import adopt_recovered, join_recovered
from orders.recording.changes import own_version, record_event, set_fields
from orders.stages import Stage, StageTimer
from orders.states import OrderStatus

# If the sender hasn't reported by then, the sweep resolves the order. The request's own time-out
# is shorter.
_SENDER_GRACE = timedelta(seconds=1)


class AccountReplaced(Exception):
    """The account of this name is another row than the caller thought. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right and the duty to send one request."""

    order: Order
    attempt: ExchangeOrder
    amounts: OrderAmounts  # as sent, on the exchange's grid
    signed_at: float  # our monotonic clock when the request's timestamp was read
    balances_at: datetime | None  # age of the balances that the gate used
    timer: StageTimer

    def request(self) -> OrderRequest:
        attempt, amounts = self.attempt, self.amounts
        return OrderRequest(
            symbol=attempt.symbol,
            side=amounts.side,
            order_type=amounts.order_type,
            client_order_id=attempt.client_order_id,
            timestamp_ms=attempt.request_timestamp_ms or 0,  # a claim always has both
            recv_window_ms=attempt.recv_window_ms or 0,
            **amounts.by_name,
            time_in_force=amounts.time_in_force,
        )


def claim(intent: Intent, context: ClaimContext, order: Order | None = None) -> Claim | Order:
    """Claim one attempt for a new intent, or for its stored order if that is CREATED.

    Returns the order if there is nothing to send: it was known already, denied, too late or
    changed by another worker. Raises `PrerequisiteMissing`, `NotSent` if the order must wait
    (`context.refused` if that is why),
    `InvalidIntent` for an unknown account, `IntentConflict` and `AccountReplaced`.
    """
    try:
        return _claim(intent, context, order)
    except IntegrityError:
        # Another worker recorded this intent, or recovered its order, in the same moment. Now we
        # find it.
        return _claim(intent, context, order)


def _claim(intent: Intent, context: ClaimContext, order: Order | None) -> Claim | Order:
    with transaction.atomic():
        noted = context.memory.claims if context.memory else ()
        facts = facts_for(intent, context.environment, noted)
        if (facts.account_id, facts.environment) != (context.account_id, context.environment):
            raise AccountReplaced(intent.account)
        known = _known_order(intent, facts, order)
        if known is not None:
            return known
        now = clock.now()
        draft = order or new_order(intent, facts.account_id, now)
        if facts.is_canceled_early:
            return withdraw(order) if order else withdraw_new(draft)
        denial, amounts = decide(intent, facts, context, draft.place_by, now)
        if denial is not None:
            return deny_stored(order, denial) if order else deny_new(draft, denial)
        if reason := why_held(draft, facts, amounts, is_new=order is None):
            return hold(draft, facts, amounts, context, reason, is_new=order is None)
        if context.refused is not None:
            raise context.refused
        made = make_claim(draft, intent, facts, amounts, context, now)
        store = _store_new if order is None else _store_stored
        if not store(made, facts, context):
            draft.refresh_from_db()
            return draft
    context.timer.reach(Stage.CLAIMED)
    return made


def make_claim(
    order: Order,
    intent: Intent,
    facts: GateSnapshot,
    amounts: OrderAmounts,
    context: ClaimContext,
    now: datetime,
) -> Claim:
    """Return the claim of the order's next attempt, to be stored."""
    attempt = _attempt(order, intent, facts, amounts, context, now)
    balances_at = facts.balances_synced_at
    return Claim(order, attempt, amounts, context.signed_at, balances_at, context.timer)


def writes_of_new(claim: Claim, facts: GateSnapshot) -> list[Write]:
    """Return the writes that store the claim of a new order. The first decides about all."""
    order, attempt = claim.order, claim.attempt
    created = record_event(order, EventType.CREATED, actor=order.strategy or "orchestrator")
    set_fields(order, _claimed(order, attempt))
    events = [created, _claim_event(order, attempt)]
    money = _reservation(facts, claim.amounts, attempt, after=None)
    return [*money, Insert([order]), Insert([attempt]), Insert(events)]


def _known_order(intent: Intent, facts: GateSnapshot, order: Order | None) -> Order | None:
    """Return the order if it must not be sent: it exists already, or was recovered."""
    if order is not None:
        if order.status != OrderStatus.CREATED:
            return order
        if facts.recovered_order_id is not None:
            return join_recovered(order, facts.recovered_order_id, intent, facts.rules)
        return None
    if facts.order_id is not None:
        known = Order.objects.get(pk=facts.order_id)
        require_same_intent(known, intent)
        return known
    if facts.recovered_order_id is not None:
        return adopt_recovered(facts.recovered_order_id, intent, facts.rules)
    return None


def _store_new(claim: Claim, facts: GateSnapshot, context: ClaimContext) -> bool:
    """Insert the order with its attempt, as one message with the commit."""
    # Without the money none of the others is written, and the commit is empty.
    written = batch_writes.write(*writes_of_new(claim, facts), then_commit=True)
    if not written[0]:
        raise _lacks_money(facts, claim.amounts, claim.attempt, context)
    return True


def _store_stored(claim: Claim, facts: GateSnapshot, context: ClaimContext) -> bool:
    """Add the attempt to a stored order. Return False if another worker has changed the order."""
    order, attempt, amounts = claim.order, claim.attempt, claim.amounts
    changes = {"version": order.version + 1, **_claimed(order, attempt)}
    event = _claim_event(order, attempt)
    event.new_status = changes["status"]
    money = _reservation(facts, amounts, attempt, after=0)
    is_ours, *written = batch_writes.write(
        own_version(order, changes), *money, Insert([attempt]), Insert([event])
    )
    if not is_ours:
        return False
    if not all(written):
        raise _lacks_money(facts, amounts, attempt, context)
    set_fields(order, changes)
    return True


def _reservation(
    facts: GateSnapshot, amounts: OrderAmounts, attempt: ExchangeOrder, *, after: int | None
) -> Sequence[Write]:
    """Return the writes that reserve the attempt's spending, none if the amount is unknown."""
    assert facts.rules is not None
    asset, amount = spent(facts, facts.rules, amounts, attempt.sent_at)
    if amount is None:
        return ()
    return reserve(
        account_id=facts.account_id,
        asset=asset,
        reference=attempt.client_order_id,
        amount=amount,
        after=after,
    )


def _lacks_money(
    facts: GateSnapshot, amounts: OrderAmounts, attempt: ExchangeOrder, context: ClaimContext
) -> Exception:
    """Return the error if another order reserved the money after the gate had looked."""
    if Prerequisite.BALANCES not in context.fetched:
        return PrerequisiteMissing(Prerequisite.BALANCES)
    assert facts.rules is not None
    asset, amount = spent(facts, facts.rules, amounts, attempt.sent_at)
    return money_is_reserved(f"needs {plain(amount or Decimal(0))} {asset}")


def _attempt(
    order: Order,
    intent: Intent,
    facts: GateSnapshot,
    amounts: OrderAmounts,
    context: ClaimContext,
    now: datetime,
) -> ExchangeOrder:
    number, arrival = order.attempt + 1, _arrival(facts, now)
    hashed = hash_for(
        environment=facts.environment, account=intent.account, intent_id=intent.intent_id
    )
    context.timer.reach(Stage.GATED)
    return ExchangeOrder(
        order=order,
        account_id=order.account_id,
        attempt=number,
        client_order_id=client_order_id(hashed, number),
        symbol=order.symbol,
        **amounts.by_name,
        request_timestamp_ms=context.exchange_now_ms,
        recv_window_ms=settings.EXCHANGE_RECV_WINDOW_MS,
        sent_at=now,
        epoch=facts.epoch,
        stage_us=context.timer.microseconds(),
        arrival_price=arrival.price if arrival else None,
        arrival_price_at=arrival.at if arrival else None,
        arrival_price_source=str(arrival.source) if arrival else "",
    )


def _arrival(facts: GateSnapshot, now: datetime) -> KnownPrice | None:
    """Return the price of the market at this moment, as far as we know it."""
    last, traded = facts.last_trade, None
    if last is not None:
        traded = KnownPrice(last.price, last.traded_at, PriceSource.LAST_TRADE)
    return market_price(facts.mid, traded, now)


def _claimed(order: Order, attempt: ExchangeOrder) -> dict[str, Any]:
    """Return the order's fields as the claim of this attempt sets them."""
    assert attempt.sent_at is not None
    timeout = timedelta(milliseconds=settings.EXCHANGE_REQUEST_TIMEOUT_MS)
    return {
        "status": str(OrderStatus.PENDING_NEW),
        "attempt": attempt.attempt,
        "open_attempts": 1,  # A CREATED order has none whose fate is open.
        "next_check_at": attempt.sent_at + timeout + _SENDER_GRACE,
        "reason_code": "",
        "reason": "",
    }


def _claim_event(order: Order, attempt: ExchangeOrder) -> OrderEvent:
    return record_event(
        order,
        EventType.CLAIMED,
        actor="worker",
        previous_status=OrderStatus.CREATED,
        details={
            "client_order_id": attempt.client_order_id,
            "request_timestamp_ms": attempt.request_timestamp_ms,
            "recv_window_ms": attempt.recv_window_ms,
            **{
                name: plain(value)
                for name in AMOUNTS
                if (value := getattr(attempt, name)) is not None
            },
        },
    )
