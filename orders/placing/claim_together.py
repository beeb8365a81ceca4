"""Claim the sends that wait in this process with one transaction, as far as they are plain.

Plain is a new order that passes the gate on known facts. Any other (known, denied, canceled early,
short of a prerequisite or of money, beside another of its account that a limit counts) is left to
`claim`, which does it alone. So is every order of a group that fails. Both build a claim by the
same functions, and the same unique rows let only one worker win it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from django.db import Error, connection, transaction

from exchanges import clock
from exchanges.db import batch_writes
from exchanges.db.batch_writes import Write
from exchanges.db.prepared import SHORT_LOCKS
from exchanges.db.together import Together
from exchanges.errors import NotSent
from orders.db_retry import with_db_retry
from orders.gate.decide import ClaimContext, PrerequisiteMissing, decide, limits_of, spent
from orders.gate.facts import GateSnapshot, facts_for_all
from orders.intents import Intent
from orders.models import Order
from orders.placing.claim import Claim, claim, make_claim, writes_of_new
from orders.placing.intent_order import new_order
from orders.stages import Stage

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A claim that a thread wants. `order` is the stored order, None for a new intent."""

    intent: Intent
    context: ClaimContext
    order: Order | None

    @property
    def may_share(self) -> bool:
        return self.order is None and self.context.refused is None


@dataclass(frozen=True, slots=True)
class _Ready:
    """A claim to store. `place` is its number in the group."""

    place: int
    claim: Claim
    money: tuple[int, str]  # account and asset of the balance that it locks
    writes: Sequence[Write]


def claim_with_others(intent: Intent, context: ClaimContext, order: Order | None) -> Claim | Order:
    """Claim like `claim`, repeated while the database is away, with what waits in this process."""
    wanted = Wanted(intent, context, order)
    if wanted.may_share and not connection.in_atomic_block:
        return _claims.do(wanted)
    return _claim_alone(wanted)


def _claim_alone(wanted: Wanted) -> Claim | Order:
    return with_db_retry(claim, wanted.intent, wanted.context, wanted.order)


def _claim_together(group: Sequence[Wanted]) -> Sequence[Claim | Order | None]:
    claims: list[Claim | Order | None] = [None] * len(group)
    try:
        with transaction.atomic():
            ready = _ready_claims(group)
            if not ready:
                return claims
            written = batch_writes.write_all([each.writes for each in ready])
    except Error as error:
        # Which order is to blame shows when each is claimed alone.
        log.info("claims_not_shared", count=len(group), error=type(error).__name__)
        return claims
    for each, counts in zip(ready, written, strict=True):
        if counts[0]:  # else another order reserved the money in between
            each.claim.timer.reach(Stage.CLAIMED)
            claims[each.place] = each.claim
    return claims


def _ready_claims(group: Sequence[Wanted]) -> list[_Ready]:
    """Read the facts of all, and return the plain claims in the order of their locks.

    Every group locks accounts, and then balances, in the same order, so no two can block each
    other.
    """
    places = sorted(range(len(group)), key=lambda place: group[place].context.account_id)
    facts = facts_for_all([_question(group[place]) for place in places], first=[SHORT_LOCKS])
    ready: dict[int, _Ready] = {}
    for place, known in zip(places, facts, strict=True):
        if known is not None:
            accounts = {each.claim.order.account_id for each in ready.values()}
            made = _ready(place, group[place], known, is_first=known.account_id not in accounts)
            if made is not None:
                ready[place] = made
    return sorted(ready.values(), key=lambda each: (each.money, each.place))


def _question(wanted: Wanted) -> tuple[Intent, str, Sequence[str]]:
    memory = wanted.context.memory
    return wanted.intent, wanted.context.environment, memory.claims if memory else ()


def _ready(place: int, wanted: Wanted, facts: GateSnapshot, *, is_first: bool) -> _Ready | None:
    """Return the claim if the order is plain. `is_first`: of its account in this group."""
    intent, context = wanted.intent, wanted.context
    is_known = facts.order_id is not None or facts.recovered_order_id is not None
    is_other = (facts.account_id, facts.environment) != (context.account_id, context.environment)
    if is_known or is_other or facts.is_canceled_early or facts.rules is None:
        return None
    if facts.review_rules:
        return None  # a second person may have to release it
    if not is_first and any(row.needs_usage for row in limits_of(facts, facts.rules)):
        return None  # the counts lack the orders of this group
    now = clock.now()
    draft = new_order(intent, facts.account_id, now)
    try:
        denial, amounts = decide(intent, facts, context, draft.place_by, now)
    except (PrerequisiteMissing, NotSent):
        return None
    if denial is not None:
        return None
    made = make_claim(draft, intent, facts, amounts, context, now)
    asset, _ = spent(facts, facts.rules, amounts, now)
    return _Ready(place, made, (facts.account_id, asset), writes_of_new(made, facts))


_claims: Together[Wanted, Claim | Order] = Together(
    alone=_claim_alone,
    together=_claim_together,
    owner=lambda wanted: wanted.intent.account,
)
