"""What the gate and the reservation add to the recording of an order, on one warm connection; a program of its own.

Claims real intents, of which none is sent, in turn with the same rows written without asking anything.
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

    from exchanges import clock, rows
    from exchanges.models import ExchangeAccount
    from exchanges.rows import Insert
    from orders import claims
    from orders.book import record_event
    from orders.intents import Intent, parse_intent
    from orders.models import EventType

    account = ExchangeAccount.objects.get(name=account_name)

    def intent() -> Intent:
        given = {"intent_id": f"gate-{uuid4().hex}", "account": account_name, "symbol": "BTCUSDT", "side": "BUY"}
        return parse_intent({**given, "order_type": "LIMIT", "quantity": "0.001", "price": "42000"}, now=clock.now())

    def conditions() -> claims.Conditions:
        now = clock.now()
        return claims.Conditions(account.pk, account.environment, clock.now_ms(), now, frozenset(claims.Remedy))

    def through_the_gate() -> None:
        claimed = claims.claim_new(intent(), conditions())
        assert isinstance(claimed, claims.Claim), claimed

    def past_it() -> None:
        wanted, now = intent(), clock.now()
        with transaction.atomic():
            order = claims.new_order(wanted, account.pk, now)
            figures = claims.figures_of(wanted)
            attempt = claims._attempt(order, wanted, account.environment, figures, conditions(), now)
            claims._mark_claimed(order, attempt, now)
            events = [record_event(order, kind, actor="bench") for kind in (EventType.CREATED, EventType.CLAIMED)]
            rows.write(Insert([order]), Insert([attempt]), Insert(events), is_last=True)

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
