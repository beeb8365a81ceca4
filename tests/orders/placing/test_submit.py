"""Test placing and canceling in one process against the simulator."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from exchanges import clock
from exchanges.mirror.instruments import sync_instruments
from exchanges.models import Balance, ExchangeAccount
from exchanges.trading_state import halt_trading, resume_trading
from orders import services
from orders.db_retry import RowGone, is_database_away
from orders.intents import IntentConflict, InvalidIntent
from orders.models import ExchangeOrder, Fill, Order, OrderEvent
from orders.notifications import payloads
from orders.placing import send as sending
from tests.harness.simulator import Simulator
from tests.steps import as_a_restore, record, submit

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _market(account: ExchangeAccount, simulator: Simulator) -> None:
    simulator.control.set_price("BTCUSDT", "60000")


def lose_the_book() -> None:
    """Delete every order and nothing else, like a restored backup."""
    with as_a_restore():
        Fill.objects.all().delete()
        OrderEvent.objects.all().delete()
        ExchangeOrder.objects.all().delete()
        Order.objects.all().delete()


def events(order: Order) -> list[str]:
    return [event.event_type for event in order.events.all()]


def test_submit_order__rests_and_explains_itself(simulator: Simulator) -> None:
    order = submit()
    attempt = ExchangeOrder.objects.get(order=order)
    truth = simulator.control.truth().order(attempt.client_order_id)
    assert (order.status, order.attempt, order.next_check_at) == ("NEW", 1, None)
    assert truth is not None
    assert attempt.exchange_order_id == str(truth["order_id"])
    assert events(order) == ["CREATED", "CLAIMED", "REPORT"]
    assert order.acknowledged_at is not None
    assert order.closed_at is None


def test_submit_order__the_same_intent_again_is_the_same_order(simulator: Simulator) -> None:
    first, again = submit(quantity="0.010"), submit(quantity="0.01", time_in_force="GTC")
    assert first.pk == again.pk
    assert simulator.control.truth().accepted_total() == 1


@pytest.mark.parametrize(
    "changes", [{"quantity": "0.02"}, {"side": "SELL"}, {"price": "50001"}, {"symbol": "ETHUSDT"}]
)
def test_submit_order__other_arguments_under_a_known_intent_change_nothing(
    simulator: Simulator, changes: dict[str, str]
) -> None:
    submit()
    with pytest.raises(IntentConflict, match=f"^{next(iter(changes))}: "):
        submit(**changes)
    assert Order.objects.count() == 1
    assert simulator.control.truth().accepted_total() == 1


def test_submit_order__unknown_account_is_the_callers_mistake() -> None:
    with pytest.raises(InvalidIntent, match=r"^account: "):
        submit(account="nobody")
    assert not Order.objects.exists()


def test_submit_order__fills_are_stored_with_commission_and_average(simulator: Simulator) -> None:
    order = submit()
    client_order_id = order.exchange_orders.get().client_order_id
    simulator.control.fill("BTCUSDT", client_order_id=client_order_id, quantity="0.004")
    services.cancel_order(account="demo", intent_id="i-1")
    order.refresh_from_db()
    from orders.sweep import resolve_unconfirmed

    Order.objects.filter(pk=order.pk).update(next_check_at=clock.now())
    resolve_unconfirmed()
    order.refresh_from_db()
    fill = Fill.objects.get(order=order)
    assert (order.status, order.filled_quantity, order.average_price) == (
        "CANCELED",
        Decimal("0.004"),
        Decimal(50000),
    )
    assert (fill.quantity, fill.price, fill.commission_asset) == (
        Decimal("0.004"),
        Decimal(50000),
        "BTC",
    )


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"symbol": "NOPEUSDT"}, "UNKNOWN_INSTRUMENT"),
        ({"quantity": "0.000001"}, "ROUNDS_TO_ZERO"),
        ({"price": "1"}, "NOTIONAL"),
        ({"quantity": "50"}, "INSUFFICIENT_BALANCE"),
        ({"submitted_at": "2020-01-01T00:00:00Z"}, "PAST_DEADLINE"),
    ],
)
def test_submit_order__a_denial_is_recorded_and_nothing_sent(
    simulator: Simulator, changes: dict[str, str], code: str
) -> None:
    order = submit(**changes)
    assert order.reason_code == code
    assert order.status == ("NOT_PLACED" if code == "PAST_DEADLINE" else "DENIED")
    assert order.closed_at is not None
    assert order.next_check_at is None
    assert "POST /api/v3/order" not in simulator.control.truth().requests


def test_submit_order__a_halt_denies_and_a_resume_allows(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    halt_trading(account=None, reason="drill", actor="test")
    assert (submit().status, submit().reason_code) == ("DENIED", "HALTED")
    resume_trading(account=None, reason="drill over", actor="test")
    halt_trading(account=account, reason="drill", actor="test")
    assert submit(intent_id="i-2").reason_code == "HALTED"
    resume_trading(account=account, reason="drill over", actor="test")
    assert submit(intent_id="i-3").status == "NEW"


def test_submit_order__money_just_received_is_not_denied(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    submit()
    simulator.control.deposit("ETH", "5")
    order = submit(
        intent_id="i-2",
        symbol="ETHUSDT",
        side="SELL",
        order_type="LIMIT",
        quantity="5",
        price="9000",
    )
    assert order.status == "NEW"
    assert Balance.objects.get(account=account, asset="ETH").free >= 5


def test_submit_order__an_order_lost_from_our_book_is_adopted(simulator: Simulator) -> None:
    """Restore a backup: the exchange has the order, we don't, and the bot repeats its intent."""
    lost = submit()
    client_order_id = lost.exchange_orders.get().client_order_id
    simulator.control.fill("BTCUSDT", client_order_id=client_order_id)
    lose_the_book()
    order = submit()
    assert order.pk != lost.pk
    assert order.intent_id == "i-1"
    assert order.status == "FILLED"
    assert simulator.control.truth().accepted(client_order_id) == 1
    assert simulator.control.truth().accepted_total() == 1


def test_submit_order__a_lost_order_with_other_figures_is_a_conflict(simulator: Simulator) -> None:
    submit()
    lose_the_book()
    with pytest.raises(IntentConflict):
        submit(quantity="0.02")
    assert simulator.control.truth().accepted_total() == 1


@pytest.mark.parametrize(("step", "tick"), [("0.001", "1"), ("0.000001", "0.001")])
@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_submit_order__a_lost_order_is_adopted_if_the_symbol_has_another_grid_by_now(
    account: ExchangeAccount, simulator: Simulator, step: str, tick: str, side: str
) -> None:
    """The amounts that were sent are on a grid that is no longer known."""
    asked = {"side": side, "quantity": "0.0137968", "price": "60001.23456"}
    lost = submit(**asked).exchange_orders.get()
    lose_the_book()
    simulator.control.change_symbol("BTCUSDT", step=step, tick=tick)
    sync_instruments(account)

    order = submit(**asked)

    assert (order.intent_id, order.status) == ("i-1", "NEW")
    assert (order.quantity, order.price) == (Decimal("0.0137968"), Decimal("60001.23456"))
    adopted = order.exchange_orders.get()
    assert (adopted.quantity, adopted.price) == (lost.quantity, lost.price)
    assert simulator.control.truth().accepted_total() == 1


def test_submit_order__reads_nothing_twice(simulator: Simulator) -> None:
    """Check that prerequisites fetched once are not fetched again for the next order."""
    submit()
    before = simulator.control.truth().requests
    submit(intent_id="i-2")
    after = simulator.control.truth().requests
    assert {k: v - before.get(k, 0) for k, v in after.items() if v != before.get(k, 0)} == {
        "POST /api/v3/order": 1
    }


def test_cancel_order__an_unsent_order_is_withdrawn(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    record()
    order = services.cancel_order(
        account="demo", intent_id="i-1", requested_by="eva", reason="changed my mind"
    )
    assert (order.status, order.reason_code) == ("CANCELED", "WITHDRAWN")
    assert services.place_order(order.pk).status == "CANCELED"
    assert simulator.control.truth().accepted_total() == 0


def test_cancel_order__an_open_order_is_canceled_by_the_exchanges_word(
    simulator: Simulator,
) -> None:
    submit()
    order = services.cancel_order(
        account="demo", intent_id="i-1", requested_by="eva", reason="why not"
    )
    assert order.status == "CANCELED"
    assert events(order) == ["CREATED", "CLAIMED", "REPORT", "CANCEL_REQUESTED", "REPORT"]


def test_cancel_order__a_fill_beats_a_cancel(simulator: Simulator) -> None:
    order = submit()
    simulator.control.fill("BTCUSDT", client_order_id=order.exchange_orders.get().client_order_id)
    assert services.cancel_order(account="demo", intent_id="i-1").status == "FILLED"


def test_cancel_order__a_closed_order_is_told_so() -> None:
    submit()
    services.cancel_order(account="demo", intent_id="i-1")
    again = services.cancel_order(account="demo", intent_id="i-1")
    assert again.status == "CANCELED"
    assert events(again).count("CANCEL_REQUESTED") == 1


def test_cancel_order__unknown_intent() -> None:
    with pytest.raises(InvalidIntent, match=r"^intent_id: "):
        services.cancel_order(account="demo", intent_id="nothing")


def test_order_result__is_json_with_decimal_text() -> None:
    result = payloads.order_result(submit())
    assert result["status"] == "NEW"
    assert result["filled_quantity"] == "0"
    assert result["average_price"] is None
    assert set(result) == {
        "order_id", "intent_id", "status", "exchange_order_id", "filled_quantity", "average_price",
        "reason_code", "reason",
    }  # fmt: skip


def test_submit_order__deadline_counts_from_the_callers_decision() -> None:
    decided = clock.now() - timedelta(seconds=5)
    order = submit(submitted_at=decided.isoformat(), place_within_seconds=60)
    assert order.place_by == decided + timedelta(seconds=60)


def test_submit_order__a_book_that_goes_back_during_the_request_begins_the_work_again(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = sending._place

    def place_and_lose(*arguments: Any) -> Any:
        report = place(*arguments)
        lose_the_book()
        return report

    monkeypatch.setattr(sending, "_place", place_and_lose)
    with pytest.raises(RowGone) as gone:
        submit()
    assert is_database_away(gone.value)  # so that a worker puts the message back into its queue
    assert simulator.control.truth().accepted_total() == 1
