"""Test placing in the bot's own process: `OrderExecutionService(...).execute_…(wait=True)`."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction

from exchanges.limits import redis as shared
from exchanges.models import ExchangeAccount
from exchanges.trading_state import halt_trading
from orders import execution
from orders.execution import OrderExecutionService
from orders.intents import IntentConflict, InvalidIntent
from orders.models import Order
from tests.fakes import FakeExchange
from tests.harness.redis import TestRedis

pytestmark = pytest.mark.django_db(transaction=True)
ORDER: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "order_type": "LIMIT",
    "quantity": "0.01",
    "price": "50000",
}


@pytest.fixture(autouse=True)
def no_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing pass through the queue."""
    monkeypatch.setattr(shared, "_away_until", 0.0)

    def enqueue(_order_id: object) -> None:
        raise AssertionError("a direct order must not need a message")

    monkeypatch.setattr(execution, "enqueue_place", enqueue)


def place(intent_id: str = "i-1", **changes: Any) -> Order:
    service = OrderExecutionService("demo")
    return service.execute_buy_order(intent_id=intent_id, wait=True, **{**ORDER, **changes})


def placements(exchange: FakeExchange) -> int:
    return sum(call == "place" for call, _ in exchange.calls)


def test_wait__returns_the_acknowledged_order(
    demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    order = place()
    assert (order.status, order.attempt, order.next_check_at) == ("NEW", 1, None)
    assert order.exchange_order_id
    assert [event.event_type for event in order.events.all()] == ["CREATED", "CLAIMED", "REPORT"]
    assert shared.is_required(), "it spends from the budgets that all processes share"


def test_wait__the_same_intent_again_is_the_same_order(
    demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    first, again = place(), place()
    assert first.pk == again.pk
    assert placements(exchange) == 1
    with pytest.raises(IntentConflict, match=r"^quantity: "):
        place(quantity="0.02")


def test_wait__sells_and_returns_a_closed_order(
    demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    service = OrderExecutionService("demo")
    order = service.execute_sell_order(
        intent_id="i-1", symbol="BTCUSDT", order_type="MARKET", quantity="0.01", wait=True
    )
    assert (order.status, order.side, order.filled_quantity) == ("FILLED", "SELL", order.quantity)


def test_wait__without_an_answer_the_order_is_unconfirmed_and_due(
    demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    exchange.lose_answer("place", executed=True)
    order = place()
    assert order.status == "PENDING_NEW"
    assert order.next_check_at is not None


def test_wait__passes_the_gate(demo: ExchangeAccount, exchange: FakeExchange) -> None:
    halt_trading(account=demo, reason="drill", actor="eva")
    order = place()
    assert (order.status, order.reason_code) == ("DENIED", "HALTED")
    assert placements(exchange) == 0


def test_wait__leaves_the_order_to_the_sweep_while_the_shared_limits_are_unknown(
    demo: ExchangeAccount, exchange: FakeExchange, redis_server: TestRedis
) -> None:
    assert place("before").status == "NEW"
    redis_server.stop()
    order = place()
    assert (order.status, order.attempt) == ("CREATED", 0)
    assert order.next_check_at is not None
    assert placements(exchange) == 1


def test_wait__is_refused_inside_a_transaction(
    demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    with transaction.atomic(), pytest.raises(InvalidIntent, match=r"^wait: .* transaction"):
        place()
    assert not Order.objects.exists()
    assert exchange.calls == []
