"""Claiming a send: the gate and the attempt's row in one transaction, committed before a byte leaves.

Exactly one worker wins a claim, by a unique insert (a new intent) or by a compare-and-swap (a stored order). The
request's timestamp and recvWindow are committed with it and never renewed, so that the exchange refuses a winner who
comes too late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from uuid import UUID

from django.conf import settings
from django.db import transaction

from exchanges import clock, rows
from exchanges.errors import NotSent
from exchanges.models import Environment
from exchanges.reservations import reserve
from exchanges.rows import Insert, Write
from exchanges.types import EXACT, InstrumentRules, OrderRequest, OrderType, Side, TimeInForce, plain
from orders import memory, notices
from orders.book import own_version, record_event, swap
from orders.gate import GateFacts, ensure_halt_row, read_facts
from orders.ids import client_order_id, intent_hash
from orders.intents import COMPARED, Intent, IntentConflict, invalid
from orders.models import (
    RECOVERED_PREFIX,
    EventType,
    ExchangeOrder,
    Fill,
    Order,
    OrderEvent,
    Outcome,
    ReconciliationBreak,
)
from orders.risk import (
    Denial,
    Figures,
    check_balance,
    check_figures,
    check_instrument,
    check_reducing,
    check_standing,
    quantise,
)
from orders.risk_limits import (
    PRICE_ASKED_WITHIN,
    PRICE_KNOWN_FOR,
    LastTrade,
    Limits,
    check_limits,
    check_usage,
    market_spending,
    needs_price,
    with_live_defaults,
)
from orders.states import OrderStatus, next_status
from orders.usage import read_usage

PAST_DEADLINE = "PAST_DEADLINE"
INTENT_CONFLICT = "INTENT_CONFLICT"

# A claim whose sender has not reported by then is looked into; the request's own time-out is shorter.
_SENDER_GRACE = timedelta(seconds=1)
# Until an order on its way is acknowledged, and its money no longer reserved but locked.
_RESERVED_SECONDS = 0.5
# Until a symbol in HALT or BREAK is looked at again.
_PAUSED_SECONDS = 2.0


class Remedy(Enum):
    """What has to be fetched from the exchange before the gate can decide."""

    INSTRUMENTS = "instruments"
    SYNC = "sync"
    CATCH_UP = "catch_up"
    BALANCES = "balances"
    PRICE = "price"
    SYMBOL = "symbol"


class AccountReplaced(Exception):
    """The account of this name is another row than the caller thought; nothing was written."""


class RemedyNeeded(Exception):
    """The gate cannot decide on what is known; nothing was written."""

    def __init__(self, remedy: Remedy) -> None:
        super().__init__(remedy.value)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Claim:
    """The right, and the duty, to send one request."""

    order: Order
    attempt: ExchangeOrder
    balances_at: datetime | None  # when the balances were asked for that the gate went by

    def request(self) -> OrderRequest:
        order, attempt = self.order, self.attempt
        return OrderRequest(
            symbol=order.symbol,
            side=Side(order.side),
            order_type=OrderType(order.order_type),
            client_order_id=attempt.client_order_id,
            timestamp_ms=attempt.request_timestamp_ms or 0,  # a claim always has both
            recv_window_ms=attempt.recv_window_ms or 0,
            quantity=attempt.quantity,
            quote_quantity=attempt.quote_quantity,
            price=attempt.price,
            stop_price=attempt.stop_price,
            time_in_force=TimeInForce(order.time_in_force) if order.time_in_force else None,
        )


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a claim is made under: the account, the exchange's clock, when this pass began, what it has fetched."""

    account_id: int
    environment: str
    exchange_now_ms: int
    started_at: datetime
    remedied: frozenset[Remedy]


def hash_for(environment: str, account: str, intent_id: str) -> str:
    return intent_hash(
        deployment_id=settings.DEPLOYMENT_ID, environment=environment, account=account, intent_id=intent_id
    )


def intent_of(order: Order, account: str) -> Intent:
    """The intent behind a stored order."""
    return Intent(
        intent_id=order.intent_id,
        account=account,
        symbol=order.symbol,
        side=Side(order.side),
        order_type=OrderType(order.order_type),
        quantity=order.quantity,
        quote_quantity=order.quote_quantity,
        price=order.price,
        stop_price=order.stop_price,
        time_in_force=TimeInForce(order.time_in_force) if order.time_in_force else None,
        strategy=order.strategy,
    )


def require_same_intent(order: Order, intent: Intent, *, as_sent: Figures | None = None) -> None:
    """Raises `IntentConflict` naming the first argument in which the stored order differs.

    `as_sent`: the intent's figures on the exchange's grid, for an order that is known from the exchange alone.
    """
    for name in COMPARED:
        ours, theirs = getattr(order, name) or None, getattr(intent, name)
        if ours != theirs and (as_sent is None or ours is None or ours != getattr(as_sent, name, None)):
            shown = [value if isinstance(value, str | None) else plain(value) for value in (ours, theirs)]
            raise IntentConflict(f"{name}: intent {intent.intent_id!r} is known with {shown[0]}, not {shown[1]}")


def new_order(intent: Intent, account_id: int, now: datetime) -> Order:
    """An unsaved order for the intent, CREATED."""
    submitted_at = intent.submitted_at or now
    within = intent.place_within or timedelta(seconds=settings.PLACE_WITHIN_SECONDS)
    return Order(
        account_id=account_id,
        intent_id=intent.intent_id,
        symbol=intent.symbol,
        side=str(intent.side),
        order_type=str(intent.order_type),
        time_in_force=str(intent.time_in_force or ""),
        quantity=intent.quantity,
        quote_quantity=intent.quote_quantity,
        price=intent.price,
        stop_price=intent.stop_price,
        strategy=intent.strategy,
        status=str(OrderStatus.CREATED),
        created_at=now,
        submitted_at=submitted_at,
        place_by=submitted_at + within,
        next_check_at=now,
    )


def claim_new(intent: Intent, conditions: Conditions) -> Claim | Order:
    """Record a new intent: claimed for sending, denied, or too late. An intent known already gives its order.

    Raises `RemedyNeeded`, `InvalidIntent` for an unknown account, `IntentConflict`, and lets `IntegrityError` pass
    where another worker recorded the intent in the same moment.
    """
    with transaction.atomic():
        facts = facts_for(intent)
        if (facts.account_id, facts.environment) != (conditions.account_id, conditions.environment):
            raise AccountReplaced(intent.account)
        if facts.order_id is not None:
            order = Order.objects.get(pk=facts.order_id)
            require_same_intent(order, intent)
            return order
        if facts.recovered_order_id is not None:
            return _adopt_recovered(facts.recovered_order_id, intent, facts.rules)
        now = clock.now()
        order = new_order(intent, facts.account_id, now)
        verdict, figures = decide(intent, facts, conditions, order.place_by, now)
        created = record_event(order, EventType.CREATED, actor=intent.strategy or "orchestrator")
        if verdict is not None:
            _close(order, verdict, now, attempts_left=False)
            rows.write(Insert([order]), Insert([created, _closing_event(order, verdict)]))
            notices.note_change(order)
            return order
        attempt = _attempt(order, intent, facts.environment, figures, conditions, now)
        _mark_claimed(order, attempt, now)
        events = [created, _claim_event(order, attempt)]
        held = _reservation(facts, figures, attempt, after=None)
        # Without the money none of the others is written, and the commit is one of nothing.
        written = rows.write(*held, Insert([order]), Insert([attempt]), Insert(events), is_last=True)
        if not written[0]:
            raise _lacks_money(facts, figures, attempt, conditions)
        return Claim(order, attempt, facts.balances_synced_at)


def claim_stored(order: Order, account: str, conditions: Conditions) -> Claim | Order:
    """Claim a CREATED order for one more attempt; gives the order where it was denied, too late or taken by another."""
    intent = intent_of(order, account)
    with transaction.atomic():
        facts = facts_for(intent)
        if order.status != OrderStatus.CREATED:
            return order
        now = clock.now()
        if facts.recovered_order_id is not None:
            return _join_recovered(order, facts.recovered_order_id, intent, facts.rules)
        verdict, figures = decide(intent, facts, conditions, order.place_by, now)
        previous = order.status
        if verdict is not None:
            return _close_stored(order, verdict, now)
        attempt = _attempt(order, intent, facts.environment, figures, conditions, now)
        draft = Order(pk=order.pk, status=order.status, attempt=order.attempt)
        _mark_claimed(draft, attempt, now)
        changes = {
            "version": order.version + 1,
            **{name: getattr(draft, name) for name in ("status", "attempt", "next_check_at", "reason_code", "reason")},
        }
        held = _reservation(facts, figures, attempt, after=0)
        event = _claim_event(draft, attempt, previous)
        won, *written = rows.write(own_version(order, changes), *held, Insert([attempt]), Insert([event]))
        if not won:
            order.refresh_from_db()
            return order
        if not all(written):
            raise _lacks_money(facts, figures, attempt, conditions)
        for name, value in changes.items():
            setattr(order, name, value)
        return Claim(order, attempt, facts.balances_synced_at)


def _close_stored(order: Order, verdict: Denial, now: datetime) -> Order:
    left = order.exchange_orders.exclude(outcome=Outcome.NOT_SENT).exists()
    draft = Order(pk=order.pk, status=order.status)
    _close(draft, verdict, now, attempts_left=left)
    if swap(
        order,
        status=draft.status,
        reason_code=draft.reason_code,
        reason=draft.reason,
        closed_at=now,
        next_check_at=None,
    ):
        _closing_event(order, verdict).save(force_insert=True)
    else:
        order.refresh_from_db()
    return order


def facts_for(intent: Intent) -> GateFacts:
    """The gate's reading for an intent; raises `InvalidIntent` for an unknown account."""
    for _ in range(2):
        facts = read_facts(
            account=intent.account,
            symbol=intent.symbol,
            side=intent.side,
            strategy=intent.strategy,
            intent_id=intent.intent_id,
            recovered_intent_ids=[
                RECOVERED_PREFIX + hash_for(environment, intent.account, intent.intent_id)
                for environment in Environment.values
            ],
            remembered_client_order_id=memory.remembered(intent.account),
        )
        if facts is not None:
            return facts
        ensure_halt_row()
    raise invalid("account", f"there is no account named {intent.account!r}")


def figures_of(intent: Intent) -> Figures:
    return Figures(
        side=intent.side,
        order_type=intent.order_type,
        quantity=intent.quantity,
        quote_quantity=intent.quote_quantity,
        price=intent.price,
        stop_price=intent.stop_price,
        time_in_force=intent.time_in_force,
    )


def decide(
    intent: Intent, facts: GateFacts, conditions: Conditions, place_by: datetime | None, now: datetime
) -> tuple[Denial | None, Figures]:
    """The gate: None and the figures to send, or why not. `RemedyNeeded` where what is known does not suffice."""
    figures = figures_of(intent)
    if place_by is not None and now >= place_by:
        return Denial(PAST_DEADLINE, f"not sent by {place_by.isoformat()}"), figures
    if denial := check_standing(facts.standing, intent.side):
        return denial, figures
    if facts.rules is None and Remedy.INSTRUMENTS not in conditions.remedied:
        raise RemedyNeeded(Remedy.INSTRUMENTS)
    if denial := check_instrument(facts.rules, intent.symbol, figures):
        return denial, figures
    assert facts.rules is not None
    if denial := check_reducing(facts.standing, facts.rules, settings.MONEY_ASSETS):
        return denial, figures
    quantised = quantise(facts.rules, figures)
    last = _known_trade(facts, now)
    if denial := check_figures(facts.rules, figures, quantised, last.price if last else None):
        return denial, quantised
    if facts.rules.is_paused:
        if Remedy.SYMBOL not in conditions.remedied:
            raise RemedyNeeded(Remedy.SYMBOL)
        raise NotSent(f"{intent.symbol} has status {facts.rules.status}", retry_after=_PAUSED_SECONDS)
    _require_fresh(facts, conditions, now)
    if denial := _check_limits(intent, facts, facts.rules, quantised, conditions, now):
        return denial, quantised
    _require_price(facts, facts.rules, quantised, conditions, now)
    return _check_balance(facts, facts.rules, quantised, conditions, now), quantised


def _check_limits(
    intent: Intent, facts: GateFacts, rules: InstrumentRules, quantised: Figures, done: Conditions, now: datetime
) -> Denial | None:
    """The firm's own limits; an account without any pays nothing for them."""
    limits: Sequence[Limits] = facts.limits
    if facts.environment == Environment.LIVE:
        limits = with_live_defaults(limits, in_money=rules.quote_asset in settings.MONEY_ASSETS)
    if not limits:
        return None
    last = facts.last_trade
    is_known = last is not None and now - last.asked_at <= PRICE_ASKED_WITHIN
    if needs_price(limits, quantised) and not is_known and Remedy.PRICE not in done.remedied:
        raise RemedyNeeded(Remedy.PRICE)
    if denial := check_limits(limits, rules, quantised, last, now):
        return denial
    counting = [row for row in limits if row.needs_usage]
    if not counting:
        return None
    for row, usage in zip(counting, read_usage(counting, facts.account_id, intent, rules, now), strict=True):
        if denial := check_usage(row, usage, rules, quantised, last):
            return denial
    return None


def _require_fresh(facts: GateFacts, conditions: Conditions, now: datetime) -> None:
    done = conditions.remedied
    if Remedy.SYNC not in done and _older(facts.last_synced_at, now, settings.MAX_UNSYNCED_SECONDS):
        raise RemedyNeeded(Remedy.SYNC)
    if Remedy.CATCH_UP not in done:
        if facts.remembered_order_is_gone:
            memory.distrust_the_book()
            raise RemedyNeeded(Remedy.CATCH_UP)
        if facts.caught_up_at is None or facts.caught_up_at < memory.trusted_since():
            raise RemedyNeeded(Remedy.CATCH_UP)
    if Remedy.BALANCES not in done and _older(facts.balances_synced_at, now, settings.BALANCE_MAX_AGE_SECONDS):
        raise RemedyNeeded(Remedy.BALANCES)


def _require_price(
    facts: GateFacts, rules: InstrumentRules, quantised: Figures, done: Conditions, now: datetime
) -> None:
    """What a market order may spend, the last trade tells: it is asked for first where none is known, or an old one."""
    if _spent(facts, rules, quantised, now)[1] is not None:
        return
    if Remedy.PRICE not in done.remedied:
        raise RemedyNeeded(Remedy.PRICE)
    raise NotSent(f"no trade on {rules.symbol} is known to tell what a market order may spend", retry_after=None)


def _older(moment: datetime | None, now: datetime, seconds: float) -> bool:
    return moment is None or now - moment > timedelta(seconds=seconds)


def _check_balance(
    facts: GateFacts, rules: InstrumentRules, quantised: Figures, conditions: Conditions, now: datetime
) -> Denial | None:
    estimate = _spent(facts, rules, quantised, now)[1]
    held_back = check_balance(rules, quantised, EXACT.subtract(facts.free, facts.reserved), estimate)
    if held_back is None:
        return None
    if Remedy.BALANCES not in conditions.remedied:
        # A refusal for lack of money is made on a figure of this very moment only.
        raise RemedyNeeded(Remedy.BALANCES)
    if facts.balances_synced_at is None and not facts.free:
        return Denial("BALANCE_UNKNOWN", f"{held_back.text.partition(',')[0]}, no balance was ever known")
    if denial := check_balance(rules, quantised, facts.free, estimate):
        return denial
    raise _money_is_on_its_way(held_back.text)


def _spent(
    facts: GateFacts, rules: InstrumentRules, figures: Figures, now: datetime | None
) -> tuple[str, Decimal | None]:
    """Asset and amount that the order may spend; None where the market's price tells it, and the last trade is not
    known or was asked for too long ago.
    """
    asset, amount = figures.spent(rules)
    if amount is None:
        amount = market_spending(figures, _known_trade(facts, now))
    return asset, amount


def _known_trade(facts: GateFacts, now: datetime | None) -> LastTrade | None:
    """The last trade, if it was asked for within `PRICE_KNOWN_FOR`."""
    last = facts.last_trade
    return last if last is not None and now is not None and now - last.asked_at <= PRICE_KNOWN_FOR else None


def _money_is_on_its_way(text: str) -> NotSent:
    """Reservations of orders on their way decide nothing: what becomes of these shows in a moment."""
    return NotSent(f"{text} (the rest is reserved for orders on their way)", retry_after=_RESERVED_SECONDS)


def _reservation(facts: GateFacts, figures: Figures, attempt: ExchangeOrder, *, after: int | None) -> Sequence[Write]:
    """The writes that hold back what the attempt may spend; none where that is not known."""
    assert facts.rules is not None
    asset, amount = _spent(facts, facts.rules, figures, attempt.sent_at)
    if amount is None:
        return ()
    return reserve(
        account_id=facts.account_id,
        asset=asset,
        reference=attempt.client_order_id,
        amount=amount,
        free=facts.free,
        reserved=facts.reserved,
        after=after,
    )


def _lacks_money(facts: GateFacts, figures: Figures, attempt: ExchangeOrder, done: Conditions) -> Exception:
    """Another order has reserved it since the gate looked."""
    if Remedy.BALANCES not in done.remedied:
        return RemedyNeeded(Remedy.BALANCES)
    assert facts.rules is not None
    asset, amount = _spent(facts, facts.rules, figures, attempt.sent_at)
    return _money_is_on_its_way(f"needs {plain(amount or Decimal(0))} {asset}")


def _adopt_recovered(order_id: UUID, intent: Intent, rules: InstrumentRules | None) -> Order:
    """The intent of an order that was found at the exchange without its row has come again: it is that order."""
    order = Order.objects.get(pk=order_id)
    _require_same_as_sent(order, intent, rules)
    previous_id = order.intent_id
    requested = {name: getattr(intent, name) for name in ("quantity", "quote_quantity", "price", "stop_price")}
    if not swap(order, intent_id=intent.intent_id, strategy=intent.strategy, **requested):
        order.refresh_from_db()
        return order
    record_event(
        order, EventType.ADOPTED, actor="gate", previous_status=order.status, details={"recovered_as": previous_id}
    ).save(force_insert=True)
    return order


def _require_same_as_sent(recovered: Order, intent: Intent, rules: InstrumentRules | None) -> None:
    figures = figures_of(intent)
    require_same_intent(recovered, intent, as_sent=figures if rules is None else quantise(rules, figures))


# What the exchange's words have made of an order; `attempt` counts the requests behind them.
_KNOWN_FROM_REPORTS = (
    "status",
    "exchange_order_id",
    "reason_code",
    "reason",
    "filled_quantity",
    "filled_quote_quantity",
    "average_price",
    "acknowledged_at",
    "closed_at",
    "attempt",
    "next_check_at",
)


def _join_recovered(order: Order, recovered_id: UUID, intent: Intent, rules: InstrumentRules | None) -> Order:
    """The order was recorded anew while its first life was recovered from the exchange: they become one."""
    recovered = Order.objects.get(pk=recovered_id)
    try:
        _require_same_as_sent(recovered, intent, rules)
    except IntentConflict as conflict:
        return _close_stored(order, Denial(INTENT_CONFLICT, str(conflict)), clock.now())
    # Both are held by their versions until the commit: nobody else changes, or claims, either of them.
    if not swap(recovered) or not swap(order, **{name: getattr(recovered, name) for name in _KNOWN_FROM_REPORTS}):
        raise NotSent("the order changes at this moment", retry_after=None)
    for model in (ExchangeOrder, Fill, OrderEvent, ReconciliationBreak):
        model.objects.filter(order=recovered).update(order=order)
    recovered.delete()
    record_event(
        order,
        EventType.ADOPTED,
        actor="gate",
        previous_status=OrderStatus.CREATED,
        details={"recovered_as": recovered.intent_id},
    ).save(force_insert=True)
    return order


def _attempt(
    order: Order, intent: Intent, environment: str, figures: Figures, conditions: Conditions, now: datetime
) -> ExchangeOrder:
    number = order.attempt + 1
    return ExchangeOrder(
        order=order,
        account_id=order.account_id,
        attempt=number,
        client_order_id=client_order_id(hash_for(environment, intent.account, intent.intent_id), number),
        symbol=order.symbol,
        quantity=figures.quantity,
        quote_quantity=figures.quote_quantity,
        price=figures.price,
        stop_price=figures.stop_price,
        request_timestamp_ms=conditions.exchange_now_ms,
        recv_window_ms=settings.EXCHANGE_RECV_WINDOW_MS,
        sent_at=now,
    )


def _mark_claimed(order: Order, attempt: ExchangeOrder, now: datetime) -> None:
    order.status = str(next_status(OrderStatus(order.status), OrderStatus.PENDING_NEW))
    order.attempt = attempt.attempt
    order.next_check_at = now + timedelta(milliseconds=settings.EXCHANGE_REQUEST_TIMEOUT_MS) + _SENDER_GRACE


def _close(order: Order, verdict: Denial, now: datetime, *, attempts_left: bool) -> None:
    """DENIED if nothing ever left, NOT_PLACED if the deadline passed or an earlier attempt is proven absent."""
    late = verdict.code == PAST_DEADLINE or attempts_left
    status = OrderStatus.NOT_PLACED if late else OrderStatus.DENIED
    order.status = str(next_status(OrderStatus(order.status), status))
    order.reason_code, order.reason = verdict.code, verdict.text
    order.closed_at, order.next_check_at = now, None


def _closing_event(order: Order, verdict: Denial) -> OrderEvent:
    denied = order.status == OrderStatus.DENIED
    return record_event(
        order,
        EventType.DENIED if denied else EventType.NOT_PLACED,
        actor="gate",
        previous_status=OrderStatus.CREATED,
        details={"code": verdict.code, "reason": verdict.text},
    )


def _claim_event(order: Order, attempt: ExchangeOrder, previous: str = OrderStatus.CREATED) -> OrderEvent:
    return record_event(
        order,
        EventType.CLAIMED,
        actor="worker",
        previous_status=previous,
        details={
            "client_order_id": attempt.client_order_id,
            "request_timestamp_ms": attempt.request_timestamp_ms,
            "recv_window_ms": attempt.recv_window_ms,
            **{
                name: plain(value)
                for name in ("quantity", "quote_quantity", "price", "stop_price")
                if (value := getattr(attempt, name)) is not None
            },
        },
    )
