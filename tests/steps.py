"""Steps that tests of many areas take in this process: send an intent, look at its order.

`tests.scenarios.steps` does the same through a broker and real workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import OperationalError, connection

from exchanges import clock
from orders import services
from orders.intents import Intent, parse_intent
from orders.models import ExchangeOrder, Order

#: A limit buy that rests in the simulator's book and passes its filters.
LIMIT_BUY: dict[str, Any] = {
    "account": "demo",
    "symbol": "BTCUSDT",
    "side": "BUY",
    "order_type": "LIMIT",
    "quantity": "0.01",
    "price": "50000",
}


def make_intent(intent_id: str = "i-1", **changes: Any) -> Intent:
    """Return a `LIMIT_BUY` under this id, with `changes` to its arguments (None leaves one out)."""
    arguments = {**LIMIT_BUY, "intent_id": intent_id, **changes}
    return parse_intent(
        {name: value for name, value in arguments.items() if value is not None}, now=clock.now()
    )


def submit(intent_id: str = "i-1", **changes: Any) -> Order:
    """Submit such an intent in this process, as the task `orders.submit_order` does."""
    return services.submit_order(make_intent(intent_id, **changes))


def record(intent_id: str = "i-1", **changes: Any) -> Order:
    """Record such an intent without sending it, as `OrderExecutionService` does."""
    order, _ = services.record_order(make_intent(intent_id, **changes))
    return order


def attempt_of(order: Order) -> ExchangeOrder:
    """Return the only attempt of the order, with its order."""
    return order.exchange_orders.select_related("order").get()


def client_id(order: Order) -> str:
    """Return the client order id of the order's only attempt."""
    return attempt_of(order).client_order_id


@contextmanager
def as_a_restore() -> Iterator[None]:
    """Let this block change the history, as only a restored backup or an intruder can."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        try:
            yield
        finally:
            cursor.execute("SET session_replication_role = origin")


def no_database(*_: object, **__: object) -> None:
    """Fail like a query without a database, with a message that must stay in the log."""
    raise OperationalError(
        'connection to "10.0.0.7" failed: password authentication failed for user "backoffice"'
    )
