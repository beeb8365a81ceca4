"""The naive project's Celery application and its one task, with a stamp for each order."""

from __future__ import annotations

import os
import time
from typing import Any

import django
from celery import Celery

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.naive.settings"
django.setup()

from tests.benchmarks import STAMPS_FILE, SUBMIT_TASK  # noqa: E402  Django must be set up first
from tests.benchmarks.naive.models import NaiveOrder  # noqa: E402
from tests.benchmarks.traffic import BareExchange  # noqa: E402

app = Celery("naive")
app.config_from_object("django.conf:settings", namespace="CELERY")
_clients: dict[int, BareExchange] = {}


def _client() -> BareExchange:
    """Return this process's client, with the markets loaded once."""
    pid = os.getpid()
    if pid not in _clients:
        names = ("NAIVE_EXCHANGE_URL", "NAIVE_EXCHANGE_KEY", "NAIVE_EXCHANGE_SECRET")
        _clients[pid] = BareExchange(*(os.environ[name] for name in names))
    return _clients[pid]


@app.task(name=SUBMIT_TASK)  # type: ignore[untyped-decorator,unused-ignore]
def submit_order(
    *,
    intent_id: str,
    symbol: str,
    side: str,
    order_type: str,
    quantity: str,
    price: str | None = None,
    **_: Any,
) -> None:
    """Store the order, send it, store the answer."""
    started_at = time.time_ns()
    order = NaiveOrder(
        intent_id=intent_id,
        symbol=symbol,
        side=side,
        order_type=order_type,
        quantity=quantity,
        price=price,
    )
    order.save()
    answer = _client().create(symbol, order_type, side, quantity, price)
    order.exchange_order_id = str(answer["id"])
    order.status = {"open": "NEW", "closed": "FILLED"}[answer["status"]]
    order.save()
    line = f"{intent_id} {started_at} {time.time_ns()} {order.status}\n"
    file = os.open(os.environ[STAMPS_FILE], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(file, line.encode())
    os.close(file)
