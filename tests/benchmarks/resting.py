"""Leave orders open at the exchange and in the book, as if the placing path had placed them.

`python -m tests.benchmarks.resting ACCOUNT COUNT`, with the environment of a back office.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from decimal import Decimal

import django

from tests.benchmarks.traffic import _SYMBOLS, BareExchange

BATCH = 1000


def main(account_name: str, count: int) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
    django.setup()
    from exchanges import clock
    from exchanges.models import ExchangeAccount
    from orders.ids import client_order_id, hash_for
    from orders.models import AttemptOutcome, ExchangeOrder, Order, Status

    account = ExchangeAccount.objects.get(name=account_name)
    prefix = f"EXCHANGE_{account_name.upper().replace('-', '_')}"
    exchange = BareExchange(
        *(os.environ[f"{prefix}_{name}"] for name in ("REST_URL", "API_KEY", "API_SECRET"))
    )
    orders, attempts = [], []
    for number in range(count):
        symbol, intent_id = _SYMBOLS[number % len(_SYMBOLS)], f"rest-{number}"
        name, now = (
            client_order_id(
                hash_for(
                    environment=account.environment, account=account_name, intent_id=intent_id
                ),
                1,
            ),
            clock.now(),
        )
        answer = exchange.place_at(f"{symbol.base}USDT", symbol.quantity, symbol.far_price, name)
        acknowledged_at = clock.now() - timedelta(
            minutes=1
        )  # old enough that nothing about them counts as fresh
        figures = {"quantity": Decimal(symbol.quantity), "price": Decimal(symbol.far_price)}
        order = Order(
            account=account,
            intent_id=intent_id,
            symbol=answer["symbol"],
            side="BUY",
            order_type="LIMIT",
            time_in_force="GTC",
            status=Status.NEW,
            exchange_order_id=str(answer["orderId"]),
            attempt=1,
            created_at=now,
            acknowledged_at=acknowledged_at,
            next_check_at=None,
            **figures,
        )
        orders.append(order)
        attempts.append(
            ExchangeOrder(
                order=order,
                account=account,
                attempt=1,
                client_order_id=name,
                exchange_order_id=order.exchange_order_id,
                symbol=order.symbol,
                outcome=AttemptOutcome.ACKNOWLEDGED,
                exchange_status="NEW",
                request_timestamp_ms=clock.now_ms(),
                recv_window_ms=5000,
                sent_at=now,
                acknowledged_at=acknowledged_at,
                **figures,
            )
        )
    Order.objects.bulk_create(orders, batch_size=BATCH)
    ExchangeOrder.objects.bulk_create(attempts, batch_size=BATCH)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
