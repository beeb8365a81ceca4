"""Read an order's timeline and stop a strategy in a real browser, on a running exchange."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from backoffice.people.roles import setup_roles
from exchanges.mirror import instruments
from exchanges.models import ExchangeAccount
from orders import services
from orders.models import Order
from tests.harness.processes import ProcessFactory
from tests.harness.simulator import Simulator
from tests.harness.web import Web, session_of
from tests.steps import submit

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def web(
    page: Page, transactional_db: None, account: ExchangeAccount, processes: ProcessFactory
) -> Iterator[Web]:
    setup_roles()
    web = Web(processes)
    page.set_default_timeout(20_000)
    key = session_of(User.objects.create_superuser("boss"))
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": key, "url": web.url}])
    yield web
    page.goto("about:blank")  # a live page would miss its server, which ends first


@pytest.fixture
def orders(account: ExchangeAccount, simulator: Simulator) -> dict[str, Order]:
    simulator.control.set_price("BTCUSDT", "60000")
    instruments.sync_instruments(account)
    simulator.control.unfreeze()
    made = {"filled": submit("trend-1", order_type="MARKET", price=None, strategy="trend")}
    simulator.control.freeze()
    for number in range(3):
        made[f"grid-{number}"] = submit(f"grid-{number}", price="20000", strategy="grid")
    return made


def test_order_page__draws_the_timeline_and_the_market(
    page: Page, web: Web, orders: dict[str, Order]
) -> None:
    page.goto(f"{web.url}/admin/orders/order/{orders['filled'].pk}/change/")
    timeline = page.locator(".desk-timeline")
    for text in ("recorded", "passed the gate", "sent", "first fill", "closed: filled"):
        expect(timeline.get_by_text(text, exact=True)).to_be_visible()
    expect(page.locator("#desk-prices canvas").first).to_be_visible()
    page.get_by_text("As a message").click()
    expect(page.locator("[data-copy-source]")).to_contain_text('"intent_id": "trend-1"')


def test_order_page__follows_the_order_without_a_reload(
    page: Page, web: Web, orders: dict[str, Order]
) -> None:
    order = orders["grid-0"]
    page.goto(f"{web.url}/admin/orders/order/{order.pk}/change/")
    expect(page.get_by_role("status").get_by_text("Live", exact=True)).to_be_visible()
    page.evaluate("window.isSamePage = true")
    services.cancel_order(account="demo", intent_id="grid-0", reason="test")
    expect(page.locator(".desk-timeline").get_by_text("closed: canceled")).to_be_visible()
    assert page.evaluate("window.isSamePage")


@pytest.mark.core
def test_stop__by_its_key_halts_a_strategy_and_proves_it(
    page: Page, web: Web, orders: dict[str, Order]
) -> None:
    page.goto(f"{web.url}/admin/")
    page.keyboard.press("!")
    page.get_by_label("Strategy").fill("grid")
    page.get_by_role("button", name="Show the consequences").click()
    expect(page.get_by_text("3 orders are canceled:")).to_be_visible()
    page.get_by_label("Reason").fill("odd prices")
    page.get_by_role("button", name="Stop strategy grid").click()
    expect(page.locator("#desk-proof[data-state=proven]")).to_be_visible()
    expect(page.locator("[data-left]")).to_have_text("0")
    assert submit("grid-9", price="20000", strategy="grid").reason_code == "HALTED"
    page.get_by_role("link", name="Back to all halts").click()
    expect(page.get_by_text("odd prices")).to_be_visible()
