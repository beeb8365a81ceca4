"""Decide whether an order may leave: run the checks of the gate in their order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum

from celery import current_app
from django.conf import settings

from exchanges.errors import NotSent
from exchanges.instrument_rules import InstrumentRules
from exchanges.limits.book_memory import Memory
from exchanges.mirror.instruments import LEARN_SECONDS
from exchanges.models import Environment
from exchanges.types import EXACT
from orders import book_identity
from orders.amounts import OrderAmounts
from orders.gate.checks import (
    Denial,
    check_balance,
    check_duties,
    check_filters,
    check_instrument,
    check_permission,
    check_reducing,
    quantize,
)
from orders.gate.facts import GateSnapshot
from orders.gate.limits import (
    LOSS_UNKNOWN,
    PRICE_FRESH_FOR,
    PRICE_TOO_OLD,
    PRICE_USABLE_FOR,
    LastTrade,
    Limits,
    check_limits,
    check_usage,
    market_spending,
    needs_price,
    with_live_defaults,
)
from orders.gate.usage import read_usage
from orders.intents import Intent
from orders.stages import StageTimer

PAST_DEADLINE = "PAST_DEADLINE"
# Within this time the exchange usually acknowledges an order, so its reserved money becomes locked.
_RESERVED_RETRY_SECONDS = 0.5
# Pause before we ask again about a symbol in HALT or BREAK.
_PAUSED_RETRY_SECONDS = 2.0


class Prerequisite(Enum):
    """A fact that must be fetched from the exchange before the gate can decide."""

    IDENTITY = "identity"
    INSTRUMENTS = "instruments"
    SYNC = "sync"
    CATCH_UP = "catch_up"
    BALANCES = "balances"
    PRICE = "price"
    NEW_PRICE = "new_price"
    FEE_PRICES = "fee_prices"
    SYMBOL = "symbol"
    RULES = "rules"


class PrerequisiteMissing(Exception):
    """The gate can't decide on the known facts. Nothing was written."""

    def __init__(self, prerequisite: Prerequisite) -> None:
        super().__init__(prerequisite.value)
        self.prerequisite = prerequisite


@dataclass(frozen=True, slots=True)
class ClaimContext:
    """Account, clocks and fetched prerequisites of one try to claim.

    `exchange_now_ms` becomes the request's timestamp. `signed_at` is our monotonic clock when
    it was read. `started_at` is when the whole pass began. `memory` is the memory of the book
    outside the database, None if nothing will be sent. `refused` is the refusal of the shared
    limits, with which an order may still be denied. `timer` notes the stages of the placement.
    """

    account_id: int
    environment: str
    exchange_now_ms: int
    signed_at: float
    started_at: datetime
    fetched: frozenset[Prerequisite]
    memory: Memory | None = None
    refused: NotSent | None = None
    timer: StageTimer = field(default_factory=StageTimer)

    def require(self, prerequisite: Prerequisite) -> None:
        """Raise `PrerequisiteMissing` unless this pass has fetched it already."""
        if prerequisite not in self.fetched:
            raise PrerequisiteMissing(prerequisite)


def decide(
    intent: Intent,
    facts: GateSnapshot,
    context: ClaimContext,
    place_by: datetime | None,
    now: datetime,
) -> tuple[Denial | None, OrderAmounts]:
    """Return None and the amounts to send, or the denial and the amounts it is about.

    Raises `PrerequisiteMissing` for a fact that must be fetched first, and `NotSent` if the order
    must wait.
    """
    requested = intent.amounts
    if place_by is not None and now >= place_by:
        return Denial(
            PAST_DEADLINE, f"not sent before the deadline {place_by.isoformat()}"
        ), requested
    if denial := check_permission(facts.permission, requested.side) or _check_duties(facts):
        return denial, requested
    if facts.rules is None:
        context.require(Prerequisite.INSTRUMENTS)
    if denial := check_instrument(facts.rules, intent.symbol, requested):
        _require_rules(facts, context, now)
        return denial, requested
    rules = facts.rules
    assert rules is not None
    if denial := check_reducing(facts.permission, rules, in_money=_is_in_money(facts, rules)):
        return denial, requested
    amounts = quantize(rules, requested)
    # Filters on the market's price compare with an average over minutes, which we don't have: the
    # last trade in its place would refuse orders that the exchange accepts.
    if denial := check_filters(rules, requested, amounts):
        _require_rules(facts, context, now)
        return denial, amounts
    if rules.is_paused:
        context.require(Prerequisite.SYMBOL)
        raise NotSent(
            f"{intent.symbol} has status {rules.status}", retry_after=_PAUSED_RETRY_SECONDS
        )
    _require_fresh(facts, context, now)
    if denial := _check_limits(intent, facts, rules, amounts, context, now):
        return denial, amounts
    _require_price(facts, rules, amounts, context, now)
    return _check_balance(facts, rules, amounts, context, now), amounts


def _require_rules(facts: GateSnapshot, context: ClaimContext, now: datetime) -> None:
    """Require the symbol's rules to be read again before they deny an order: they may be old."""
    if _is_older(facts.rules_changed_at, now, LEARN_SECONDS):
        context.require(Prerequisite.RULES)


def _is_in_money(facts: GateSnapshot, rules: InstrumentRules) -> bool:
    """Return whether the quote asset is money: by the setting, else by the stored instruments."""
    named: Collection[str] = settings.MONEY_ASSETS
    return rules.quote_asset in named if named else facts.quote_is_money


def _check_duties(facts: GateSnapshot) -> Denial | None:
    """Check the duties of a live account. In eager mode there is no beat to run any."""
    if facts.environment != Environment.LIVE or current_app.conf.task_always_eager:
        return None
    return check_duties(facts.duty_ages, settings.MAX_DUTY_AGE_SECONDS)


def limits_of(facts: GateSnapshot, rules: InstrumentRules) -> Sequence[Limits]:
    """Return the limits that apply: the account's rows, and the defaults of a live account."""
    if facts.environment != Environment.LIVE:
        return facts.limits
    return with_live_defaults(
        facts.limits, quote_asset=rules.quote_asset, in_money=_is_in_money(facts, rules)
    )


def _check_limits(
    intent: Intent,
    facts: GateSnapshot,
    rules: InstrumentRules,
    amounts: OrderAmounts,
    context: ClaimContext,
    now: datetime,
) -> Denial | None:
    """Check the firm's own limits. An account without limits costs no query."""
    limits = limits_of(facts, rules)
    if not limits:
        return None
    last = facts.last_trade
    is_fresh = last is not None and now - last.asked_at <= PRICE_FRESH_FOR
    if not is_fresh and needs_price(limits, amounts):
        context.require(Prerequisite.PRICE)
    if denial := check_limits(limits, rules, amounts, last, now):
        if denial.code == PRICE_TOO_OLD and last is not None and last.asked_at < context.started_at:
            context.require(Prerequisite.NEW_PRICE)  # there may have been a trade since we asked
        return denial
    counting = [row for row in limits if row.needs_usage]
    if not counting:
        return None
    usages = read_usage(counting, facts.account_id, intent, rules, now)
    for row, usage in zip(counting, usages, strict=True):
        if denial := check_usage(row, usage, rules, amounts, last):
            if denial.code == LOSS_UNKNOWN:
                context.require(Prerequisite.FEE_PRICES)
            return denial
    return None


def _require_fresh(facts: GateSnapshot, context: ClaimContext, now: datetime) -> None:
    """Require a book to trust, a recent sync, the symbol's history and recent balances."""
    if context.memory is not None and not book_identity.agrees(
        context.memory, facts.book_token, facts.missing_claims
    ):
        raise PrerequisiteMissing(Prerequisite.IDENTITY)
    if _is_older(facts.last_synced_at, now, settings.MAX_UNSYNCED_SECONDS):
        context.require(Prerequisite.SYNC)
    _require_history(facts, context, now)
    if _is_older(facts.balances_synced_at, now, settings.BALANCE_MAX_AGE_SECONDS):
        context.require(Prerequisite.BALANCES)


def _require_history(facts: GateSnapshot, context: ClaimContext, now: datetime) -> None:
    """Require the symbol's history: once, and again after the book was distrusted.

    Before the fence a first look recovers the orders that it shows, but only a reading that began
    after it proves that no other order was lost.
    """
    read_at, distrusted_at = facts.caught_up_at, facts.distrusted_at
    if distrusted_at is None:
        if read_at is None:
            context.require(Prerequisite.CATCH_UP)
        return
    trusted_from = book_identity.trusted_from(distrusted_at)
    if read_at is not None and read_at >= trusted_from:
        return
    if now >= trusted_from or read_at is None or read_at < distrusted_at:
        context.require(Prerequisite.CATCH_UP)
    raise NotSent(
        "the database went back in time, so the order waits until its past is read",
        retry_after=max((trusted_from - now).total_seconds(), 0.0),
    )


def _require_price(
    facts: GateSnapshot,
    rules: InstrumentRules,
    amounts: OrderAmounts,
    context: ClaimContext,
    now: datetime,
) -> None:
    """Require the last trade if the spending of a market order depends on it."""
    if spent(facts, rules, amounts, now)[1] is not None:
        return
    context.require(Prerequisite.PRICE)
    raise NotSent(
        f"no last trade on {rules.symbol} is known, so neither is the cost of a market order",
        retry_after=None,
    )


def _is_older(moment: datetime | None, now: datetime, seconds: float) -> bool:
    return moment is None or now - moment > timedelta(seconds=seconds)


def _check_balance(
    facts: GateSnapshot,
    rules: InstrumentRules,
    amounts: OrderAmounts,
    context: ClaimContext,
    now: datetime,
) -> Denial | None:
    estimate = spent(facts, rules, amounts, now)[1]
    unreserved = EXACT.subtract(facts.free, facts.reserved)
    shortage = check_balance(rules, amounts, unreserved, estimate)
    if shortage is None:
        return None
    # Only a balance that was fetched in this pass is recent enough to deny an order.
    context.require(Prerequisite.BALANCES)
    if facts.balances_synced_at is None and not facts.free:
        needs = shortage.text.partition(",")[0]
        return Denial("BALANCE_UNKNOWN", f"{needs}, but no balance is known yet")
    if denial := check_balance(rules, amounts, facts.free, estimate):
        return denial
    raise money_is_reserved(shortage.text)


def spent(
    facts: GateSnapshot, rules: InstrumentRules, amounts: OrderAmounts, now: datetime | None
) -> tuple[str, Decimal | None]:
    """Return the asset and the amount that the order may spend.

    The amount is None if it depends on the market's price and no usable last trade is known.
    """
    asset, amount = amounts.spent(rules)
    if amount is None:
        amount = market_spending(amounts, _usable_trade(facts, now))
    return asset, amount


def _usable_trade(facts: GateSnapshot, now: datetime | None) -> LastTrade | None:
    """Return the last trade if we asked for it within `PRICE_USABLE_FOR`."""
    last = facts.last_trade
    if last is None or now is None or now - last.asked_at > PRICE_USABLE_FOR:
        return None
    return last


def money_is_reserved(text: str) -> NotSent:
    """Return the error that lets an order wait for money reserved by orders in flight.

    A reservation denies nothing, because it shows in a moment whether its order spends the money.
    """
    return NotSent(
        f"{text} (the rest is reserved for orders in flight)",
        retry_after=_RESERVED_RETRY_SECONDS,
    )
