"""Find the attempt that a report is about: client order id, number and time must agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from exchanges import clock
from exchanges.binance.registry import get_gateway
from exchanges.errors import OrderNotFound
from exchanges.models import ExchangeAccount
from exchanges.types import FillReport, OrderReport, ReportSource, Side
from orders import services
from orders.models import ExchangeOrder, Fill, Order, ReconciliationBreak
from orders.placing.cancel import cancel_attempt
from orders.reconciliation.adopt import record_report
from orders.reconciliation.counts import RunCounts
from orders.reconciliation.open_orders import sync_open_orders
from orders.reconciliation.questions import ask_for
from orders.recording.apply import apply_fills
from orders.recording.attempts import Clash, Foreign, Unknown, attempt_of, attempts_of
from orders.sweep import resolve_unconfirmed
from tests import steps
from tests.factories import ExchangeAccountFactory, ExchangeOrderFactory, OrderFactory
from tests.fakes import FakeExchange

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("without_limits")]
D = Decimal


@pytest.fixture
def exchange() -> Iterator[FakeExchange]:
    with FakeExchange().installed() as exchange:
        yield exchange


@pytest.fixture
def owner(exchange: FakeExchange) -> ExchangeAccount:
    account: ExchangeAccount = ExchangeAccountFactory(name="demo")
    return account


def row(owner: ExchangeAccount, created_at: datetime | None = None, **changes: Any) -> Any:
    status = "PENDING_NEW" if changes.get("exchange_order_id") == "" else "NEW"
    order = OrderFactory(account=owner, status=status)
    return ExchangeOrderFactory(order=order, exchange_created_at=created_at, **changes)


def report(attempt: ExchangeOrder, **changes: Any) -> OrderReport:
    said = OrderReport(
        source=ReportSource.STREAM,
        symbol="BTCUSDT",
        client_order_id=attempt.client_order_id,
        exchange_order_id=attempt.exchange_order_id,
        status="NEW",
        side=Side.BUY,
        order_type="LIMIT",
        time_in_force="GTC",
        quantity=D("0.01"),
        price=D(50_000),
        filled_quantity=D(0),
        filled_quote_quantity=D(0),
        updated_at=clock.now(),
        created_at=attempt.exchange_created_at or attempt.sent_at,
    )
    return replace(said, **changes)


LATER, SOON = timedelta(seconds=30), timedelta(seconds=4)
CASES: dict[str, tuple[bool, dict[str, Any], Any]] = {
    # known number?, what the report says differently, what is found
    "all agree": (True, {}, "ours"),
    "amended by hand": (True, {"client_order_id": "web_1"}, "ours"),
    "the first answer": (False, {"exchange_order_id": "7"}, "ours"),
    "amended before the first answer": (
        False,
        {"exchange_order_id": "7", "client_order_id": "web_1", "previous": True},
        "ours",
    ),
    "our client id, another number": (True, {"exchange_order_id": "7"}, Clash.CLIENT_ID),
    "our client id, long after the request": (
        False,
        {"exchange_order_id": "7", "later": LATER, "quantity": D("0.02")},
        Clash.CLIENT_ID,
    ),
    "our client id, before the request": (
        False,
        {"exchange_order_id": "7", "later": -LATER},
        Clash.CLIENT_ID,
    ),
    "exactly as sent, but accepted too late": (
        False,
        {"exchange_order_id": "7", "later": LATER},
        "ours",
    ),
    "our client id, on the other side": (
        False,
        {"exchange_order_id": "7", "side": Side.SELL},
        Clash.CLIENT_ID,
    ),
    "our number, another time": (
        True,
        {"client_order_id": "web_1", "later": LATER},
        Clash.NUMBER,
    ),
    "our number and client id, another time": (True, {"later": LATER}, Clash.NUMBER),
    "our number and client id, long before": (True, {"later": -LATER}, Clash.NUMBER),
    "our number and client id, another time and filled": (
        True,
        {"later": LATER, "status": "FILLED", "filled_quantity": D("0.01")},
        Clash.NUMBER,
    ),
    # The exchange stamps an order on arrival or when the engine takes it.
    "the same order, and its engine was slow": (True, {"later": SOON}, "ours"),
    "the same order, stamped on arrival": (True, {"later": -SOON}, "ours"),
    "an old state of the same order, and its engine was slow": (
        True,
        {"later": SOON, "ours": {"exchange_status": "FILLED", "filled_quantity": D("0.01")}},
        "ours",
    ),
    "amended by hand, and its engine was slow": (
        True,
        {"client_order_id": "web_1", "later": -SOON},
        "ours",
    ),
    "amended by hand, with a time before our last message of it": (
        True,
        {
            "client_order_id": "web_1",
            "later": LATER,
            "ours": {"exchange_updated_at": datetime(2126, 1, 1, tzinfo=UTC)},
        },
        "ours",
    ),
    "our number, a little later": (True, {"client_order_id": "web_1", "later": SOON}, Clash.NUMBER),
    "our number, long before": (True, {"client_order_id": "web_1", "later": -LATER}, Clash.NUMBER),
    "our number on another symbol": (
        True,
        {"client_order_id": "web_1", "symbol": "ETHUSDT"},
        "unknown",
    ),
    "nothing of ours": (
        True,
        {"client_order_id": "web_1", "exchange_order_id": "7"},
        "unknown",
    ),
}


@pytest.mark.parametrize("in_a_list", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_attempt_of__asks_for_number_client_id_and_time(
    owner: ExchangeAccount, case: str, in_a_list: bool
) -> None:
    has_number, said, expected = CASES[case]
    said = dict(said)
    attempt = (
        row(owner, clock.now(), exchange_order_id="5", **said.pop("ours", {}))
        if has_number
        else row(owner, exchange_order_id="")
    )
    later = said.pop("later", timedelta())
    created_at = (attempt.exchange_created_at or attempt.sent_at) + later
    if said.pop("previous", False):
        if in_a_list:
            pytest.skip("only the stream says which id an amendment has replaced")
        said["previous_client_order_id"] = attempt.client_order_id
    told = report(attempt, created_at=created_at, **said)
    listed = [found for _, found in attempts_of(owner, [told])]
    found = listed[0] if in_a_list else attempt_of(owner, told)
    if expected == "ours":
        assert found == attempt
    elif expected == "unknown":
        assert found == Unknown()
    else:
        assert found == Foreign(attempt, expected)


def test_attempt_of__a_row_of_an_earlier_version_has_only_our_time(owner: ExchangeAccount) -> None:
    attempt = row(owner, exchange_order_id="5")
    close, far = attempt.sent_at + timedelta(seconds=20), attempt.sent_at + timedelta(hours=1)
    theirs = {"client_order_id": "web_1", "created_at": far}
    assert attempt_of(owner, report(attempt, created_at=close)) == attempt
    assert attempt_of(owner, report(attempt, created_at=far)) == Foreign(attempt, Clash.NUMBER)
    assert attempt_of(owner, report(attempt, **theirs)) == Foreign(attempt, Clash.NUMBER)


def breaks() -> dict[str, int]:
    found: dict[str, int] = {}
    for kind in ReconciliationBreak.objects.values_list("kind", flat=True):
        found[kind] = found.get(kind, 0) + 1
    return found


def test_sync__our_client_id_at_the_exchange_again_is_another_order(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    """Binance takes a client order id again once its order is filled."""
    ours = steps.submit(quantity="0.02")
    name = steps.client_id(ours)
    exchange.fill(name)
    ours = services_refresh(ours)
    number = exchange.place_by_hand(owner, name, quantity="0.01")
    sync_open_orders(owner)
    other = Order.objects.get(is_external=True)
    assert (other.status, other.quantity, other.exchange_order_id) == ("NEW", D("0.01"), number)
    assert breaks() == {"CLIENT_ID_REUSED": 1}
    exchange.simulator.engine.fill("BTCUSDT", int(number))
    sync_open_orders(owner)
    for order in Order.objects.filter(next_check_at__isnull=False):
        Order.objects.filter(pk=order.pk).update(next_check_at=clock.now())
    resolve_unconfirmed()
    ours.refresh_from_db()
    other.refresh_from_db()
    assert (ours.status, ours.filled_quantity) == ("FILLED", D("0.02"))
    assert (other.status, other.filled_quantity) == ("FILLED", D("0.01"))
    assert sum(fill.quantity for fill in Fill.objects.all()) == D("0.03")
    assert breaks() == {"CLIENT_ID_REUSED": 1}


def services_refresh(order: Order) -> Order:
    attempt = order.exchange_orders.select_related("order").get()
    gateway = get_gateway(order.account)
    record_report(order.account, ask_for(gateway, attempt), attempt, RunCounts())
    Order.objects.filter(pk=order.pk, next_check_at__isnull=False).update(next_check_at=clock.now())
    resolve_unconfirmed()
    order.refresh_from_db()
    return order


def test_cancel__an_order_whose_client_id_another_one_has_cancels_ours_only(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    """Amended by hand, its id is free: a stranger's order has it now."""
    ours = steps.submit(quantity="0.02")
    name = steps.client_id(ours)
    exchange.amend_by_hand(name, "0.01", "web_1")
    exchange.place_by_hand(owner, name, price="40000")
    canceled = services.cancel_order(account="demo", intent_id="i-1")
    assert (canceled.status, exchange.status("web_1")) == ("NEW", "NEW"), "only its state is read"
    canceled = services.cancel_order(account="demo", intent_id="i-1")
    canceled.refresh_from_db()
    assert (canceled.status, exchange.status("web_1")) == ("CANCELED", "CANCELED")
    assert exchange.status(name) == "NEW"
    attempt = canceled.exchange_orders.get()
    assert (attempt.client_order_id, attempt.amended_client_order_id) == (name, "web_1")


# -- after a reset --------------------------------------------------------------------------------


def wipe(exchange: FakeExchange, owner: ExchangeAccount) -> None:
    exchange.wipe()
    exchange.gateway(owner)


def test_sync__a_strangers_order_with_our_number_is_another_order(
    owner: ExchangeAccount,
    exchange: FakeExchange,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    """After a reset numbers begin again. One open order is enough to notice it."""
    ours = steps.submit()
    wipe(exchange, owner)
    after_a_while(monkeypatch)
    assert exchange.place_by_hand(owner, "web_1") == ours.exchange_order_id
    with django_capture_on_commit_callbacks(execute=True):
        sync_open_orders(owner)
    ours.refresh_from_db()
    other = Order.objects.get(is_external=True)
    assert (ours.status, other.status) == ("NEW", "NEW")
    assert other.exchange_orders.get().client_order_id == "web_1"
    assert breaks()["NUMBERS_REUSED"] == 1
    owner.refresh_from_db()
    assert owner.trading_state == "HALTED"
    assert "begun again" in owner.trading_state_reason


def after_a_while(monkeypatch: pytest.MonkeyPatch, seconds: float = 30) -> None:
    now, now_ms = clock.now, clock.now_ms
    monkeypatch.setattr(clock, "now", lambda: now() + timedelta(seconds=seconds))
    monkeypatch.setattr(clock, "now_ms", lambda: now_ms() + int(seconds * 1000))


def test_cancel__by_number_never_hits_a_strangers_order(
    owner: ExchangeAccount, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = steps.submit()
    wipe(exchange, owner)
    after_a_while(monkeypatch)
    assert exchange.place_by_hand(owner, "web_1") == ours.exchange_order_id
    with pytest.raises(OrderNotFound):
        cancel_attempt(get_gateway(owner), steps.attempt_of(ours))
    services.cancel_order(account="demo", intent_id="i-1")
    ours.refresh_from_db()
    assert ours.status == "NEW"
    assert exchange.status("web_1") == "NEW"


def test_submit__our_next_order_after_a_reset_is_recorded_with_its_number(
    owner: ExchangeAccount, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = steps.submit()
    wipe(exchange, owner)
    after_a_while(monkeypatch)
    second = steps.submit("i-2")
    assert (second.status, second.exchange_order_id) == ("NEW", first.exchange_order_id)
    attempts = ExchangeOrder.objects.order_by("epoch")
    assert [attempt.epoch for attempt in attempts] == [0, 1]
    assert breaks() == {"NUMBERS_REUSED": 1}
    exchange.fill(steps.client_id(second), "0.004")
    services_refresh(second)
    assert second.filled_quantity == D("0.004")


def test_record__trade_ids_that_begin_again_count_for_their_own_order(
    owner: ExchangeAccount, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = steps.submit()
    exchange.fill(steps.client_id(first))
    services_refresh(first)
    wipe(exchange, owner)
    after_a_while(monkeypatch)
    exchange.place_by_hand(owner, "web_1", price="40000")
    ExchangeAccount.objects.update(trading_state="ACTIVE")
    second = steps.submit("i-2")
    exchange.fill(steps.client_id(second))
    services_refresh(second)
    assert (second.status, second.filled_quantity) == ("FILLED", D("0.01"))
    trades = Fill.objects.order_by("epoch").values_list("trade_id", "order__intent_id")
    assert len(trades) == 2
    assert {intent for _, intent in trades} == {"i-1", "i-2"}


def test_record__a_trade_with_oneself_after_a_reset_stays_in_one_epoch(
    owner: ExchangeAccount, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sides share one trade id, and the sell's fill is in the new epoch already."""
    first = steps.submit()
    exchange.fill(steps.client_id(first))
    services_refresh(first)
    old = Fill.objects.get()
    wipe(exchange, owner)
    after_a_while(monkeypatch)
    sell = steps.submit("i-2", side="SELL", price="90000")
    buy = steps.submit("i-3")
    assert sell.exchange_order_id == first.exchange_order_id != buy.exchange_order_id
    attempts = [steps.attempt_of(order) for order in (sell, buy)]
    assert [attempt.epoch for attempt in attempts] == [1, 0]
    for attempt in attempts:
        fill = FillReport(
            symbol="BTCUSDT",
            trade_id=old.trade_id,
            exchange_order_id=attempt.exchange_order_id,
            side=Side(attempt.order.side),
            quantity=D("0.01"),
            price=D(60_000),
            quote_quantity=D(600),
            commission=D(0),
            commission_asset="",
            is_maker=False,
            traded_at=clock.now(),
        )
        for _ in range(2):
            apply_fills(attempt, [fill])
    stored = Fill.objects.order_by("epoch", "side").values_list("epoch", "side", "trade_id")
    expected = [(0, "BUY"), (1, "BUY"), (1, "SELL")]
    assert [*stored] == [(epoch, side, old.trade_id) for epoch, side in expected]
    assert {order.status for order in Order.objects.all()} == {"FILLED"}
