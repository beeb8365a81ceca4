"""Measure the cost of the gate and the reservation per order, on one warm connection.

This program claims real intents without sending them, in turn with writing the same rows without
a gate.
"""

from __future__ import annotations

import json
import os
import sys
import time
from uuid import uuid4

import django

ORDERS = 300
WARM_UP = 30


def main(account_name: str) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
    django.setup()
    from django.db import transaction

    from exchanges import clock
    from exchanges.db import batch_writes
    from exchanges.db.batch_writes import Insert
    from exchanges.models import ExchangeAccount
    from orders.gate import decide
    from orders.gate.facts import facts_for
    from orders.intents import Intent, parse_intent
    from orders.models import EventType
    from orders.placing import claim, intent_order
    from orders.recording.changes import record_event, set_fields

    account = ExchangeAccount.objects.get(name=account_name)

    def intent() -> Intent:
        given = {
            "intent_id": f"gate-{uuid4().hex}",
            "account": account_name,
            "symbol": "BTCUSDT",
            "side": "BUY",
        }
        return parse_intent(
            {**given, "order_type": "LIMIT", "quantity": "0.001", "price": "42000"}, now=clock.now()
        )

    def context() -> decide.ClaimContext:
        return decide.ClaimContext(
            account_id=account.pk,
            environment=account.environment,
            exchange_now_ms=clock.now_ms(),
            signed_at=clock.monotonic(),
            started_at=clock.now(),
            fetched=frozenset(decide.Prerequisite),
        )

    def through_the_gate() -> None:
        claimed = claim.claim(intent(), context())
        assert isinstance(claimed, claim.Claim), claimed

    with transaction.atomic():
        known = facts_for(intent(), account.environment)

    def past_it() -> None:
        wanted, now = intent(), clock.now()
        with transaction.atomic():
            order = intent_order.new_order(wanted, account.pk, now)
            attempt = claim._attempt(order, wanted, known, wanted.amounts, context(), now)
            set_fields(order, claim._claimed(order, attempt))
            events = [
                record_event(order, kind, actor="bench")
                for kind in (EventType.CREATED, EventType.CLAIMED)
            ]
            batch_writes.write(Insert([order]), Insert([attempt]), Insert(events), then_commit=True)

    took: dict[str, list[float]] = {"with": [], "without": []}
    for number in range(WARM_UP + ORDERS):
        for name, work in (("with", through_the_gate), ("without", past_it)):
            began = time.perf_counter()
            work()
            if number >= WARM_UP:
                took[name].append((time.perf_counter() - began) * 1000)
    print(json.dumps({name: sorted(values)[len(values) // 2] for name, values in took.items()}))


if __name__ == "__main__":
    main(sys.argv[1])
