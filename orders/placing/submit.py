"""Take an intent from its message to the exchange: the straight line of an order, on one page.

    intents.parse_intent -> claim (with the gate) -> send -> recording.apply

An order that can't go now is deferred: it waits as a CREATED row for the sweep. A worker of the
queue `trading` fetches nothing: if the gate lacks a fact, a worker of the queue `duties` continues.
"""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from exchanges import clock
from exchanges.binance.gateway import Gateway
from exchanges.binance.registry import get_gateway
from exchanges.errors import AccountError, GatewayError, NotSent
from exchanges.limits.budget import Permit
from exchanges.models import ExchangeAccount
from orders.accounts import forget_account, known_account
from orders.db_retry import with_db_retry
from orders.gate.decide import ClaimContext, Prerequisite, PrerequisiteMissing
from orders.intents import Intent
from orders.models import Order
from orders.placing.backoff import pause_after
from orders.placing.claim import AccountReplaced, Claim, claim
from orders.placing.claim_together import claim_with_others
from orders.placing.intent_order import intent_of
from orders.placing.judge_again import judge_again, waits_for_rules
from orders.placing.outcomes import stop_account
from orders.placing.prerequisites import fetch_prerequisite, read_balances_ahead
from orders.placing.record import cancel_unsent, defer, record_order
from orders.placing.send import send
from orders.stages import StageTimer
from orders.states import OrderStatus

# An order that waits for a reading is due again after so long, if its message is lost.
READING_SECONDS = 5.0


class ReadingMissing(Exception):
    """The gate lacks a reading of the exchange. A stored order is due after a while."""

    def __init__(self, order: Order | None) -> None:
        super().__init__("the gate lacks a reading of the exchange")
        self.order = order


def submit_order(intent: Intent, *, may_fetch: bool = True) -> Order:
    """Record a new intent with its claim, send it, and record the answer.

    Returns the order as it is known then: acknowledged, closed, deferred, or PENDING_NEW if the
    outcome is unknown. Raises `InvalidIntent` for an unknown account and `IntentConflict`. Then
    nothing is recorded. Raises `ReadingMissing` if the gate lacks a fact of the exchange and
    `may_fetch` is false: a thread that others wait for leaves the reading to another.
    """
    try:
        return _claim_and_send(known_account(intent.account), intent, may_fetch=may_fetch)
    except AccountReplaced:
        forget_account(intent.account)
        return _claim_and_send(known_account(intent.account), intent, may_fetch=may_fetch)


def place_order(order_id: UUID, *, is_due: bool = False, may_fetch: bool = True) -> Order:
    """Send a stored order if it is CREATED and its deadline lasts. Return any other as it is.

    A message is a doorbell that may ring twice or late. So a deferred order is left to the sweep,
    which passes `is_due` when the order's time has come. Raises `ReadingMissing` like
    `submit_order`.
    """
    order = Order.objects.select_related("account").get(pk=order_id)
    if order.status != OrderStatus.CREATED:
        return order
    if order.cancel_requested_at is not None:
        return cancel_unsent(order)
    if not is_due and _is_deferred(order):
        return order
    intent = intent_of(order, order.account.name)
    return _claim_and_send(order.account, intent, order, may_fetch=may_fetch)


def _claim_and_send(
    account: ExchangeAccount, intent: Intent, order: Order | None = None, *, may_fetch: bool
) -> Order:
    """Claim and send, or defer the order if the claim fails for now."""
    while True:
        try:
            gateway = get_gateway(account)
            if order is not None and waits_for_rules(order):
                if not may_fetch:
                    raise _Elsewhere("the symbol's rules")
                order = judge_again(account, order)
            claimed = _claim(gateway, account, intent, order, may_fetch=may_fetch)
        except AccountError as error:
            stop_account(account, error)
            return _defer(intent, order, str(error), None)
        except _Elsewhere as missing:
            return _leave(order, str(missing))
        except _Refused as refusal:
            order = order or _recorded(intent)
            pause = pause_after(order, refusal.error)
            return defer(order, _described(refusal.error), pause, is_exact=True)
        except GatewayError as error:
            return _defer(intent, order, _described(error), getattr(error, "retry_after", None))
        if isinstance(claimed, Order):
            return claimed
        order = send(gateway, account, *claimed)
        if not waits_for_rules(order):
            read_balances_ahead(account, claimed[0], may_fetch=may_fetch)
            return order


def _claim(
    gateway: Gateway,
    account: ExchangeAccount,
    intent: Intent,
    order: Order | None,
    *,
    may_fetch: bool,
) -> tuple[Claim, Permit] | Order:
    """Claim, and fetch missing prerequisites on the way.

    Raises `GatewayError` if that fails, and `_Elsewhere` if it isn't allowed.
    """
    started_at, timer, fetched = clock.now(), StageTimer(), frozenset[Prerequisite]()
    while True:
        context = ClaimContext(
            account_id=account.pk,
            environment=account.environment,
            signed_at=clock.monotonic(),
            exchange_now_ms=gateway.now_ms(),
            started_at=started_at,
            fetched=fetched,
            timer=timer,
        )
        try:
            return _claim_with_permit(gateway, intent, context, order)
        except PrerequisiteMissing as missing:
            prerequisite = missing.prerequisite
            if prerequisite in fetched:
                raise NotSent(f"{prerequisite.value} is still missing") from None
            if not may_fetch and prerequisite is not Prerequisite.IDENTITY:
                raise _Elsewhere(prerequisite.value) from None
            fetch_prerequisite(prerequisite, account, intent.symbol, started_at)
            fetched |= {prerequisite}


def _claim_with_permit(
    gateway: Gateway, intent: Intent, context: ClaimContext, order: Order | None
) -> tuple[Claim, Permit] | Order:
    """Ask the shared limits, then claim. Give the permit back unless there is something to send."""
    try:
        permit = gateway.acquire_placement()
    except NotSent as error:
        return _judge_refused(intent, context, order, error)
    claimed = None
    try:
        claimed = claim_with_others(intent, replace(context, memory=permit.memory), order)
    finally:
        if not isinstance(claimed, Claim):
            gateway.give_back(permit)
    return (claimed, permit) if isinstance(claimed, Claim) else claimed


def _judge_refused(
    intent: Intent, context: ClaimContext, order: Order | None, error: NotSent
) -> Order:
    """Return the order if it is known or denied, because that needs no permit."""
    try:
        judged = with_db_retry(claim, intent, replace(context, refused=error), order)
    except (NotSent, PrerequisiteMissing):
        raise _Refused(error) from None
    assert isinstance(judged, Order)
    return judged


class _Refused(Exception):
    """The shared limits let no order leave now. Nothing was written."""

    def __init__(self, error: NotSent) -> None:
        super().__init__(str(error))
        self.error = error


class _Elsewhere(Exception):
    """A reading is missing, and this thread may not fetch it. Nothing was written."""


def _leave(order: Order | None, reading: str) -> Order:
    """Let the order wait until another thread has fetched the reading. Raises `ReadingMissing`.

    If its message is lost, the sweep finds the order after `READING_SECONDS`.
    """
    if order is None:
        # A new intent is recorded after the reading, which may show that it conflicts with the
        # order that was sent before a restore.
        raise ReadingMissing(None)
    order = defer(order, f"waits for {reading}", READING_SECONDS, is_exact=True)
    if order.status != OrderStatus.CREATED:
        return order
    raise ReadingMissing(order)


def _defer(intent: Intent, order: Order | None, reason: str, retry_after: float | None) -> Order:
    """Let the order wait for the sweep. A new intent is recorded first."""
    return defer(order or _recorded(intent), reason, retry_after)


def _recorded(intent: Intent) -> Order:
    return with_db_retry(record_order, intent)[0]


def _described(error: GatewayError) -> str:
    return f"{type(error).__name__}: {error}"


def _is_deferred(order: Order) -> bool:
    next_check_at = order.next_check_at
    return order.check_count > 0 and next_check_at is not None and next_check_at > clock.now()
