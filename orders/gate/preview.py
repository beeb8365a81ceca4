"""Preview the gate's answer to an order, on the facts that are known now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from django.db import transaction

from exchanges import clock
from exchanges.errors import NotSent
from exchanges.types import plain, to_ms
from orders.accounts import account_named
from orders.amounts import OrderAmounts
from orders.gate.checks import quantize
from orders.gate.decide import ClaimContext, Prerequisite, decide
from orders.gate.facts import facts_for
from orders.gate.review import review_reason
from orders.intents import parse_intent

PASSES = "PASSES"
WAITS = "WAITS"
HELD = "HELD"


@dataclass(frozen=True, slots=True)
class GatePreview:
    """The gate's answer: `code` is `PASSES`, `WAITS`, `HELD`, or the code of the denial.

    `amounts` are on the exchange's grid, as the exchange would see them. None if the instrument
    is unknown.
    """

    code: str
    text: str
    amounts: OrderAmounts | None = None

    @property
    def passes(self) -> bool:
        return self.code == PASSES


def simulate_gate(arguments: Mapping[str, Any], *, strategy: str | None = None) -> GatePreview:
    """Ask the gate about an order without sending, fetching or storing anything.

    `arguments` are those of `orders.submit_order` without an intent id. Stale facts (old balances,
    an old last trade) that a real order would fetch again are used as they are. `strategy` is used
    instead of the one in `arguments`. Raises `InvalidIntent`.
    """
    now = clock.now()
    intent = parse_intent({**arguments, "intent_id": f"simulated-{uuid4().hex}"}, now=now)
    if strategy is not None:
        intent = replace(intent, strategy=strategy)
    with transaction.atomic():
        facts = facts_for(intent, account_named(intent.account).environment)
        context = ClaimContext(
            account_id=facts.account_id,
            environment=facts.environment,
            exchange_now_ms=to_ms(now),
            signed_at=clock.monotonic(),
            started_at=now,
            fetched=frozenset(Prerequisite),
        )
        sent_as = None if facts.rules is None else quantize(facts.rules, intent.amounts)
        try:
            denial, amounts = decide(intent, facts, context, None, now)
        except NotSent as error:
            return GatePreview(WAITS, error.message, sent_as)
    if denial is not None:
        return GatePreview(denial.code, denial.text, sent_as)
    if reason := review_reason(facts.review_rules, amounts, facts.last_trade):
        return GatePreview(HELD, f"would wait for a second person: {reason}", amounts)
    return GatePreview(PASSES, f"would be sent as {_described(intent.symbol, amounts)}", amounts)


def _described(symbol: str, amounts: OrderAmounts) -> str:
    words = [str(amounts.side), symbol, str(amounts.order_type)]
    words += [f"{name} {plain(value)}" for name, value in amounts.given.items()]
    return " ".join(words)
