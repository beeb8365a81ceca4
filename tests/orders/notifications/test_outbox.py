"""Notify bots of their orders: which changes, in which order, and how lost messages come again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from celery import current_app
from django.db import connection, connections, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from kombu.exceptions import OperationalError

from exchanges import clock
from exchanges.models import ExchangeAccount
from exchanges.trading_state import halt_trading
from orders import services
from orders.models import Order, OrderNotice
from orders.notifications import outbox
from orders.reconciliation.questions import fetch_missing_fills
from orders.recording import apply
from orders.sweep import resolve_unconfirmed
from tests import steps
from tests.harness.locks import is_anybody_blocked
from tests.harness.simulator import Simulator
from tests.harness.waiting import wait_for
from tests.steps import client_id, record

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _market(account: ExchangeAccount, simulator: Simulator) -> None:
    simulator.control.set_price("BTCUSDT", "60000")


@pytest.fixture
def sent(settings: Any, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return the messages in the order in which they were enqueued."""
    settings.ORDER_EVENTS_TASK, settings.ORDER_EVENTS_QUEUE = "bot.order_changed", "bot"
    messages: list[dict[str, Any]] = []

    def send_task(name: str, *, kwargs: dict[str, Any], queue: str, **options: Any) -> None:
        assert (name, queue) == ("bot.order_changed", "bot")
        assert kwargs["order"]["order_id"] in options["kwargsrepr"]
        messages.append(kwargs)

    monkeypatch.setattr(current_app, "send_task", send_task)
    monkeypatch.setattr(outbox, "_broker_failed_at", float("-inf"))
    monkeypatch.setattr(outbox, "_broker_has_forgotten", lambda: False)
    return messages


submit = partial(steps.submit, strategy="s-1")


def look(order: Order) -> None:
    """Ask the exchange for the order and apply its answer."""
    from exchanges.binance.registry import get_gateway

    attempt = order.exchange_orders.select_related("order").get()
    report = get_gateway(order.account).fetch_order(
        symbol=attempt.symbol, client_order_id=attempt.client_order_id
    )
    apply.apply_report(attempt, report)


def complete_fills() -> None:
    """Let the sweep fetch the missing trades."""
    Order.objects.filter(next_check_at__isnull=False).update(next_check_at=clock.now())
    resolve_unconfirmed()


def statuses(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [
        (message["order"]["status"], message["order"]["filled_quantity"]) for message in messages
    ]


def test_note_change__sends_each_step_of_an_order(
    sent: list[dict[str, Any]], simulator: Simulator
) -> None:
    order = submit()
    simulator.control.fill("BTCUSDT", client_order_id=client_id(order), quantity="0.004")
    look(order)
    simulator.control.fill("BTCUSDT", client_order_id=client_id(order))
    look(order)
    assert statuses(sent) == [("NEW", "0"), ("PARTIALLY_FILLED", "0.004"), ("FILLED", "0.01")]
    versions = [message["version"] for message in sent]
    assert versions == sorted(set(versions))


def test_note_change__says_what_the_order_is(
    sent: list[dict[str, Any]], simulator: Simulator
) -> None:
    order = submit(quantity="0.010")
    simulator.control.fill("BTCUSDT", client_order_id=client_id(order), price="50000")
    look(order)
    complete_fills()
    details = sent[-1]["order"]
    assert (
        details.pop("acknowledged_at") == order.acknowledged_at.isoformat()
        if order.acknowledged_at
        else False
    )
    assert details.pop("closed_at") is not None
    assert details == {
        "order_id": str(order.pk), "intent_id": "i-1", "account": "demo", "symbol": "BTCUSDT",
        "side": "BUY",
        "order_type": "LIMIT", "time_in_force": "GTC", "quantity": "0.01", "quote_quantity": None,
        "price": "50000",
        "stop_price": None, "status": "FILLED", "exchange_order_id": order.exchange_order_id,
        "filled_quantity": "0.01", "filled_quote_quantity": "500", "average_price": "50000",
        "reason_code": "",
        "reason": "", "strategy": "s-1", "is_external": False,
    }  # fmt: skip
    [fill] = sent[-1]["fills"]
    assert fill["trade_id"] == order.fills.get().trade_id
    assert (fill["quantity"], fill["price"], fill["quote_quantity"]) == ("0.01", "50000", "500")


def test_note_change__sends_a_denial_and_of_an_order_too_late(
    sent: list[dict[str, Any]],
) -> None:
    submit(quantity="0.00000001")
    submit("i-2", submitted_at=(clock.now() - timedelta(hours=1)).isoformat())
    assert [(m["order"]["intent_id"], m["order"]["status"]) for m in sent] == [
        ("i-1", "DENIED"),
        ("i-2", "NOT_PLACED"),
    ]


def test_note_change__sends_a_denial_of_a_stored_order(
    sent: list[dict[str, Any]], account: ExchangeAccount
) -> None:
    order = record(order_type="MARKET", price=None)
    assert sent == [], "a recorded order is no news: it has not been tried yet"
    halt_trading(account=account, reason="test", actor="test")
    services.place_order(order.pk)
    assert statuses(sent) == [("DENIED", "0")]


def test_note_change__sends_a_cancel_and_of_a_refusal(
    sent: list[dict[str, Any]], simulator: Simulator
) -> None:
    submit()
    services.cancel_order(account="demo", intent_id="i-1")
    simulator.control.faults.add(
        "respond", match={"method": "POST", "path": "/api/v3/order"}, status=400,
        body={"code": -2010, "msg": "Account has insufficient balance for requested action."},
    )  # fmt: skip
    submit("i-2")
    assert statuses(sent) == [("NEW", "0"), ("CANCELED", "0"), ("REJECTED", "0")]


def test_note_change__sends_again_when_the_missing_trades_arrive(
    sent: list[dict[str, Any]], simulator: Simulator
) -> None:
    order = submit()
    for quantity in ("0.003", "0.002", "0.005"):
        simulator.control.fill("BTCUSDT", client_order_id=client_id(order), quantity=quantity)
    look(order)
    assert (statuses(sent)[-1], sent[-1]["fills"]) == (("FILLED", "0.01"), [])
    complete_fills()
    assert statuses(sent)[-1] == ("FILLED", "0.01")
    assert [fill["quantity"] for fill in sent[-1]["fills"]] == ["0.003", "0.002", "0.005"]


def test_send__shows_the_fills_that_make_the_filled_quantity_of_that_change(
    sent: list[dict[str, Any]], simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_send_unless_broker_is_away", lambda order_id: None)
    order = submit()
    for quantity in ("0.003", "0.002"):
        simulator.control.fill("BTCUSDT", client_order_id=client_id(order), quantity=quantity)
        look(order)
        attempt = order.exchange_orders.select_related("order").get()
        from exchanges.binance.registry import get_gateway

        fetch_missing_fills(get_gateway(order.account), attempt)
    outbox.sweep()
    parts = [message for message in sent if message["order"]["filled_quantity"] == "0.003"]
    assert [fill["quantity"] for fill in parts[-1]["fills"]] == ["0.003"]
    assert [fill["quantity"] for fill in sent[-1]["fills"]] == ["0.003", "0.002"]


def test_note_change__a_change_that_is_rolled_back_is_not_sent(sent: list[dict[str, Any]]) -> None:
    order = submit()
    sent.clear()
    with transaction.atomic():
        outbox.note_change(order)
        transaction.set_rollback(True)
    outbox.sweep()
    assert sent == []


def test_sweep__sends_what_a_broker_that_was_away_did_not_take(
    sent: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OperationalError("no broker")

    with monkeypatch.context() as away:
        away.setattr(current_app, "send_task", refuse)
        order = submit()
        services.cancel_order(account="demo", intent_id="i-1")
    assert Order.objects.get(pk=order.pk).status == "CANCELED"
    OrderNotice.objects.update(
        claimed_until=clock.now()
    )  # The worker that claimed it has failed, and its claim ends.
    assert outbox.sweep()["sent"] == 2
    assert statuses(sent) == [("NEW", "0"), ("CANCELED", "0")]
    assert outbox.sweep()["sent"] == 0


def test_sweep__sends_again_what_an_emptied_broker_has_lost(
    sent: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit()
    monkeypatch.setattr(outbox, "_broker_has_forgotten", lambda: True)
    outbox.sweep()
    assert statuses(sent) == [("NEW", "0"), ("NEW", "0")]
    assert sent[0]["version"] == sent[1]["version"]


def test_sweep__deletes_old_sent_messages(sent: list[dict[str, Any]]) -> None:
    submit()
    OrderNotice.objects.update(sent_at=clock.now() - timedelta(hours=2))
    outbox.sweep()
    assert not OrderNotice.objects.exists()


def test_send__only_the_oldest_can_be_claimed_and_by_one(sent: list[dict[str, Any]]) -> None:
    order = submit()
    notices_of = OrderNotice.objects.filter(order=order)
    notices_of.update(sent_at=None, claimed_until=clock.now() + timedelta(seconds=5))
    services.cancel_order(account="demo", intent_id="i-1")
    assert statuses(sent) == [("NEW", "0")], (
        "the cancel waits behind the acknowledgement that another sends"
    )
    notices_of.filter(details__status="NEW").update(sent_at=clock.now())
    outbox.send(order.pk)
    assert statuses(sent) == [("NEW", "0"), ("CANCELED", "0")]


def test_send__locks_the_messages_in_the_order_of_their_ids(
    sent: list[dict[str, Any]], simulator: Simulator
) -> None:
    """Two senders of the same orders can't block each other."""
    orders = [submit(f"i-{number}") for number in range(2)]
    OrderNotice.objects.update(sent_at=None, claimed_until=None)
    first, second = OrderNotice.objects.order_by("pk")
    # Now the table has the second row before the first.
    OrderNotice.objects.filter(pk=first.pk).update(version=F("version"))

    def send() -> None:
        try:
            with connection.cursor() as cursor:  # a plan that it may choose for any statement
                cursor.execute("SET enable_indexscan = off")
                cursor.execute("SET enable_bitmapscan = off")
            outbox.send(*[order.pk for order in orders])
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            OrderNotice.objects.select_for_update().get(pk=first.pk)
            done = pool.submit(send)
            wait_for(lambda: done.done() or is_anybody_blocked())
            OrderNotice.objects.select_for_update(nowait=True).get(pk=second.pk)
        done.result()
    assert len(sent) == 4


def test_note_change__costs_no_statement_without_a_task(settings: Any) -> None:
    submit("warm-up")

    def count(intent_id: str) -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            submit(intent_id)
        assert not any("ordernotice" in query["sql"] for query in queries)
        return len(queries)

    settings.ORDER_EVENTS_TASK = ""
    assert count("i-1") == count("i-2")
