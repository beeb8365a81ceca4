"""The page of one order: timeline, gate, quality, message, market, and asking the exchange."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from backoffice.desk.order_page.fill_sums import fill_sums_of
from backoffice.desk.order_page.gate import gate_of
from backoffice.desk.order_page.message import message_of
from backoffice.desk.order_page.quality import Quality, fee_bps, quality_of, slippage
from backoffice.desk.order_page.timeline import Moment, timeline_of
from exchanges import clock
from exchanges.mirror.candles import interval_for
from exchanges.models import ExchangeAccount, MidPrice
from orders import tasks
from orders.models import ExchangeOrder, Order, Status
from tests.factories import (
    ExchangeOrderFactory,
    FillFactory,
    InstrumentFactory,
    OrderFactory,
)
from tests.fakes import FakeExchange
from tests.steps import submit

pytestmark = pytest.mark.django_db


@pytest.fixture
def filled(demo: ExchangeAccount, exchange: FakeExchange) -> Order:
    submit("filled", order_type="MARKET", price=None, strategy="trend")
    return Order.objects.get(intent_id="filled")


def page_of(order: Order) -> str:
    return f"/admin/orders/order/{order.pk}/change/"


# -- timeline ------------------------------------------------------------------------------------


def test_timeline__has_every_stage_in_order_with_its_gap(filled: Order) -> None:
    moments = timeline_of(filled, fill_sums_of(filled))
    names = [moment.name for moment in moments]
    for name in ("recorded", "passed the gate", "sent", "answered by the exchange"):
        assert name in names
    assert names.index("passed the gate") < names.index("sent")
    assert [moment.at for moment in moments] == sorted(moment.at for moment in moments)
    assert moments[0].gap is None
    assert all(moment.gap is not None for moment in moments[1:])
    total = sum((moment.gap for moment in moments[1:] if moment.gap), timedelta())
    assert total == moments[-1].at - moments[0].at


def test_timeline__names_the_attempts_of_an_order_with_several() -> None:
    order = OrderFactory(status=Status.NEW, attempt=2)
    ExchangeOrderFactory(order=order, attempt=1)
    ExchangeOrderFactory(order=order, attempt=2)
    names = [moment.name for moment in timeline_of(order, fill_sums_of(order))]
    assert "attempt 1: passed the gate" in names
    assert "attempt 2: passed the gate" in names


@pytest.mark.parametrize(
    ("gap", "text"),
    [(0.0004, "0.4 ms"), (0.25, "250 ms"), (12.34, "12.3 s"), (-0.02, "-20 ms")],
)
def test_moment__writes_its_gap(gap: float, text: str) -> None:
    assert Moment("x", clock.now(), timedelta(seconds=gap)).gap_text == text


# -- gate ----------------------------------------------------------------------------------------


def test_gate__shows_what_it_read(filled: Order) -> None:
    (decision,) = gate_of(filled, filled.exchange_orders.all())
    assert decision.passed
    figures = dict(decision.figures)
    assert figures["quantity"] == "0.01"
    assert Decimal(figures["arrival price (last trade)"]) > 0


def test_gate__shows_a_denial(demo: ExchangeAccount, exchange: FakeExchange) -> None:
    (decision,) = gate_of(submit("tiny", quantity="0.00001", price="20000"), [])
    assert not decision.passed
    assert "denied by the gate" in decision.text
    assert "NOTIONAL" in decision.text


def quality_for(order: Order) -> Quality:
    return quality_of(order, "USDT", order.exchange_orders.all(), fill_sums_of(order))


# -- quality -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "average", "bps"),
    [("BUY", "50050", "10.0"), ("BUY", "49950", "-10.0"), ("SELL", "49950", "10.0")],
)
def test_slippage__is_positive_if_the_price_was_worse(side: str, average: str, bps: str) -> None:
    order = OrderFactory.build(side=side, average_price=Decimal(average), account=None)
    assert slippage(order, Decimal(50_000)) == Decimal(bps)
    assert slippage(order, None) is None


def test_quality__of_a_market_order_is_known(filled: Order) -> None:
    quality = quality_for(filled)
    assert quality.arrival_price is not None
    assert quality.arrival_age is not None
    assert quality.arrival_source == "last trade"
    assert quality.slippage_bps is not None
    assert quality.fee_bps == Decimal("10.0")  # 0.1 %, paid in the asset that was bought


def test_page__names_the_mid_as_arrival_price_with_its_age(
    boss: Client, demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    MidPrice.objects.create(
        exchange="binance", environment="simulator", symbol="BTCUSDT",
        bid=Decimal("60000.01"), ask=Decimal("60000.02"),
        asked_at=clock.now() - timedelta(seconds=4),
    )  # fmt: skip
    order = submit("i-mid")
    html = boss.get(page_of(order)).content.decode()
    assert re.search(r"<small>mid, \d+ s old</small>", html)
    (decision,) = gate_of(order, order.exchange_orders.all())
    assert dict(decision.figures)["arrival price (mid)"] == "60000.015"  # every digit


def test_page__of_an_order_of_an_earlier_version_names_the_last_trade(boss: Client) -> None:
    now = clock.now()
    attempt = ExchangeOrderFactory(
        order=OrderFactory(status=Status.NEW), sent_at=now, arrival_price=Decimal(50_000),
        arrival_price_at=now - timedelta(seconds=7),
    )  # fmt: skip
    html = boss.get(page_of(attempt.order)).content.decode()
    assert "<small>last trade, 7 s old</small>" in html


def test_quality__without_a_source_is_unknown_and_not_zero() -> None:
    fill = FillFactory(commission=Decimal("0.01"), commission_asset="BNB")
    quality = quality_for(fill.order)
    assert quality.slippage_bps is None
    assert quality.fee_bps is None
    assert quality.unpriced == ("BNB",)
    assert fee_bps(OrderFactory.build(account=None), {}, {}) is None


# -- message -------------------------------------------------------------------------------------


def test_message__sent_again_is_the_same_order(filled: Order, eager: None) -> None:
    before = Order.objects.count()
    answer = tasks.submit_order(**json.loads(message_of(filled)))
    assert answer["order_id"] == str(filled.pk)
    assert Order.objects.count() == before


# -- page ----------------------------------------------------------------------------------------


def test_page__shows_all_of_it(boss: Client, filled: Order) -> None:
    html = boss.get(page_of(filled)).content.decode()
    for text in ("Timeline", "passed the gate", "Slippage", "bps", "All orders of this strategy"):
        assert text in html, text
    assert "https://www.tradingview.com/" in html
    link = boss.get(page_of(filled)).context["strategy_link"]
    assert list(boss.get(link).context["cl"].result_list) == [filled]


def test_page__runs_nothing_that_a_bot_wrote(boss: Client) -> None:
    order = OrderFactory(strategy="</pre><script>alert(1)</script>", status=Status.NEW)
    assert "<script>alert(1)" not in boss.get(page_of(order)).content.decode()


def test_page__says_that_nothing_changed_since_the_version_that_is_shown(
    boss: Client, filled: Order
) -> None:
    same = boss.get(page_of(filled), headers={"X-Desk-Version": str(filled.version)})
    assert (same.status_code, same.content) == (204, b"")
    newer = boss.get(page_of(filled), headers={"X-Desk-Version": str(filled.version - 1)})
    assert newer.status_code == 200


def test_order_page__shows_one_reading_of_an_order_that_changes_meanwhile(
    boss: Client, filled: Order
) -> None:
    changes: list[int] = []

    def change(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        answer = execute(sql, params, many, context)
        if sql.startswith("SELECT") and 'FROM "orders_order" ' in sql and not changes:
            changes.append(filled.version + 1)
            Order.objects.filter(pk=filled.pk).update(version=filled.version + 1)
        return answer

    with connection.execute_wrapper(change):
        page = boss.get(page_of(filled)).content.decode()
    assert changes
    assert f'data-live-version="{filled.version}"' in page


# -- market --------------------------------------------------------------------------------------


def test_prices__show_candles_fills_and_limits(boss: Client, filled: Order) -> None:
    data = boss.get(f"/admin/desk/order/{filled.pk}/prices/").json()
    assert data["candles"], data
    assert Decimal(data["candles"][0]["high"]) >= Decimal(data["candles"][0]["low"]) > 0
    assert {fill["side"] for fill in data["fills"]} == {"BUY"}
    assert [line["title"] for line in data["lines"]] == ["average"]


def test_prices__mark_the_limit_as_it_was_sent(boss: Client, filled: Order) -> None:
    Order.objects.filter(pk=filled.pk).update(price="60000.004")
    filled.exchange_orders.update(price="60000")
    data = boss.get(f"/admin/desk/order/{filled.pk}/prices/").json()
    assert {"title": "limit", "price": "60000"} in data["lines"]


def test_prices__say_why_there_are_none(
    boss: Client, filled: Order, exchange: FakeExchange
) -> None:
    exchange.refuse_connection("fetch_candles", times=1)
    data = boss.get(f"/admin/desk/order/{filled.pk}/prices/").json()
    assert "could not be read" in data["error"]


def test_prices__need_the_permission(client: Client, filled: Order) -> None:
    client.force_login(User.objects.create_user("new", is_staff=True))
    assert client.get(f"/admin/desk/order/{filled.pk}/prices/").status_code == 403


@pytest.mark.parametrize(
    ("minutes", "interval"), [(5, "1s"), (60, "1m"), (60 * 24, "5m"), (60 * 24 * 365, "1d")]
)
def test_interval__keeps_the_chart_small(minutes: int, interval: str) -> None:
    assert interval_for(timedelta(minutes=minutes)) == interval


# -- ask now -------------------------------------------------------------------------------------


def ask(client: Client, order: Order) -> str:
    response = client.post(f"/admin/orders/order/{order.pk}/ask/", follow=True)
    return " ".join(str(message) for message in response.context["messages"])


def test_ask_now__records_what_the_exchange_knows(
    boss: Client, demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    exchange.lose_answer("place", executed=True)
    order = submit("lost")
    assert order.status == Status.PENDING_NEW
    assert ask(boss, order) == "The exchange knew more. The order is now: working."
    order.refresh_from_db()
    assert order.status == Status.NEW
    assert ask(boss, order) == "The exchange agrees: working."


def test_ask_now__is_no_verdict_about_an_order_that_is_not_found(
    boss: Client, demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    exchange.lose_answer("place", executed=False)
    order = submit("lost")
    name = ExchangeOrder.objects.get().client_order_id
    assert ask(boss, order).startswith(f"The exchange doesn't know {name} at this moment.")
    order.refresh_from_db()
    assert order.status == Status.PENDING_NEW


def test_ask_now__says_that_the_exchange_is_away(
    boss: Client, filled: Order, exchange: FakeExchange
) -> None:
    exchange.refuse_connection("fetch_order", times=1)
    assert ask(boss, filled).startswith("Could not ask the exchange: ")


def test_ask_now__needs_an_order_that_was_sent_and_the_permission(
    boss: Client, client: Client
) -> None:
    InstrumentFactory()
    denied = OrderFactory(status=Status.DENIED)
    assert "Ask the exchange now" not in boss.get(page_of(denied)).content.decode()
    sent = OrderFactory(status=Status.NEW)
    client.force_login(User.objects.create_user("new", is_staff=True))
    assert client.get(f"/admin/orders/order/{sent.pk}/ask/").status_code == 403
    assert client.post(f"/admin/orders/order/{sent.pk}/ask/").status_code == 403


def test_ask_now__asks_nothing_before_its_button_is_pressed(
    boss: Client, demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    exchange.lose_answer("place", executed=True)
    order = submit("lost")
    page = boss.get(f"/admin/orders/order/{order.pk}/ask/")
    assert page.status_code == 200
    assert "csrfmiddlewaretoken" in page.content.decode()
    order.refresh_from_db()
    assert order.status == Status.PENDING_NEW
