"""What the gate would answer to an order, on what is known now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from django.db import transaction

from exchanges import clock
from exchanges.errors import NotSent
from exchanges.types import plain, to_ms
from orders.claims import Conditions, Remedy, decide, facts_for, figures_of
from orders.intents import parse_intent
from orders.risk import Figures, quantise

PASSES = "PASSES"
WAITS = "WAITS"


@dataclass(frozen=True, slots=True)
class Answer:
    """`code` is `PASSES`, `WAITS`, or the code that the order would be denied with.

    `figures` are what the exchange would see, on its grid; None where the instrument is not known.
    """

    code: str
    text: str
    figures: Figures | None = None

    @property
    def passes(self) -> bool:
        return self.code == PASSES


def simulate_gate(arguments: Mapping[str, Any]) -> Answer:
    """`arguments` as of `orders.submit_order`, without an intent id; raises `InvalidIntent`.

    Nothing is fetched: what the gate would ask the exchange for first (older balances, the last trade) counts as it is.
    """
    now = clock.now()
    intent = parse_intent({**arguments, "intent_id": f"simulated-{uuid4().hex}"}, now=now)
    with transaction.atomic():
        facts = facts_for(intent)
        conditions = Conditions(facts.account_id, facts.environment, to_ms(now), now, frozenset(Remedy))
        sent_as = None if facts.rules is None else quantise(facts.rules, figures_of(intent))
        try:
            denial, figures = decide(intent, facts, conditions, None, now)
        except NotSent as error:
            return Answer(WAITS, error.message, sent_as)
    if denial is not None:
        return Answer(denial.code, denial.text, sent_as)
    return Answer(PASSES, f"would be sent as {_shown(intent.symbol, figures)}", figures)


def _shown(symbol: str, figures: Figures) -> str:
    parts = [str(figures.side), symbol, str(figures.order_type)]
    for name in ("quantity", "quote_quantity", "price", "stop_price"):
        value = getattr(figures, name)
        if value is not None:
            parts.append(f"{name} {plain(value)}")
    return " ".join(parts)
