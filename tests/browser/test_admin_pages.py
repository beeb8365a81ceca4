"""Use the admin in a real browser, light and dark: sign in, filter, open an order, cancel it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from django.contrib.auth.models import Group, Permission, User
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from exchanges.mirror import instruments
from exchanges.models import ExchangeAccount
from orders.models import Order, Status
from tests.harness.simulator import Simulator
from tests.steps import submit

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PASSWORD = "a-long-enough-password"


@pytest.fixture
def trader(transactional_db: None) -> User:
    user = User.objects.create_user("tess", password=PASSWORD, is_staff=True)
    user.groups.add(Group.objects.get(name="Trader"))
    user.user_permissions.add(Permission.objects.get(codename="all_accounts"))
    return user


@pytest.fixture
def orders(trader: User, account: ExchangeAccount, simulator: Simulator) -> dict[str, Order]:
    """Send orders to the simulator: two working ones, a filled one and a denied one."""
    simulator.control.set_price("BTCUSDT", "60000")
    instruments.sync_instruments(account)
    simulator.control.unfreeze()
    made = {"filled": submit("trend-1", order_type="MARKET", price=None)}
    simulator.control.freeze()
    made["working"] = submit("grid-1", quantity="0.001", price="20000", strategy="grid")
    made["another"] = submit("grid-2", quantity="0.002", price="20100", strategy="grid")
    made["denied"] = submit("tiny-1", quantity="0.00001", price="20000")
    return made


def sign_in(page: Page, live_server: LiveServer) -> None:
    page.set_default_timeout(15_000)
    page.goto(f"{live_server.url}/admin/")
    page.get_by_label("Username").fill("tess")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def keep(page: Page, name: str) -> None:
    """Save a picture of the page for people, if SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.core)])
def test_admin__filters_opens_and_cancels_an_order(
    page: Page, live_server: LiveServer, orders: dict[str, Order], simulator: Simulator, scheme: str
) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    sign_in(page, live_server)
    assert ("dark" in (page.locator("html").get_attribute("class") or "")) == (scheme == "dark")
    expect(page.get_by_text("Latest orders")).to_be_visible()
    keep(page, f"index-{scheme}")

    page.locator("#nav-sidebar-apps a", has_text=re.compile(r"\bOrders\s*$")).click()
    rows = page.locator("#result_list .desk-row")
    expect(rows).to_have_count(4)
    keep(page, f"orders-{scheme}")

    page.locator("#changelist a", has_text="Filters").click()
    page.get_by_label("Open: working at the exchange").check()
    page.locator("input[name=strategy]").fill("grid")
    keep(page, f"filters-{scheme}")
    page.get_by_role("button", name="Apply Filters").click()
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("grid-2")

    page.get_by_role("link", name="grid-1").click()
    expect(page.locator(".desk-head")).to_contain_text("The order is working at the exchange")
    expect(page.locator(".desk-head")).to_contain_text("BUY 0.00100 BTCUSDT @ 20000.00")
    keep(page, f"order-{scheme}")

    page.get_by_role("link", name="Cancel this order").click()
    page.get_by_role("button", name="Cancel at the exchange").click()
    # The browser, or the server behind it, requires the reason first.
    assert Order.objects.get(intent_id="grid-1").status == Status.NEW
    page.get_by_label("Reason").fill("no longer wanted")
    keep(page, f"confirm-{scheme}")
    page.get_by_role("button", name="Cancel at the exchange").click()
    expect(page.get_by_text("grid-1: Canceled, confirmed by the exchange.")).to_be_visible()
    expect(page.locator(".desk-head")).to_contain_text("Nothing more is due")
    expect(page.get_by_role("link", name="Cancel this order")).to_have_count(0)
    keep(page, f"canceled-{scheme}")
    assert Order.objects.get(intent_id="grid-1").status == Status.CANCELED
    client_order_id = orders["working"].exchange_orders.get().client_order_id
    row = simulator.control.truth().order(client_order_id)
    assert row is not None
    assert row["status"] == "CANCELED"


def test_admin__cancels_the_selected_orders_with_an_answer_for_each(
    page: Page, live_server: LiveServer, orders: dict[str, Order]
) -> None:
    sign_in(page, live_server)
    page.goto(f"{live_server.url}/admin/orders/order/")
    for intent_id in ("grid-1", "grid-2", "trend-1"):
        page.locator("tr", has_text=intent_id).locator("input.action-select").check()
    page.locator("select[name=action]").select_option("cancel_selected")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("Cancel these 3 orders at the exchange?")).to_be_visible()
    expect(page.get_by_text("1 of them is already closed")).to_be_visible()
    page.get_by_label("Reason").fill("end of day")
    page.get_by_role("button", name="Cancel at the exchange").click()
    for text in ("grid-1: Canceled", "grid-2: Canceled", "trend-1: Order already closed: filled."):
        expect(page.get_by_text(text)).to_be_visible()
    keep(page, "answers")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_admin__asks_the_gate_without_sending(
    page: Page, live_server: LiveServer, orders: dict[str, Order], scheme: str
) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    sign_in(page, live_server)
    page.locator("#nav-sidebar-apps a", has_text="Ask the gate").click()
    page.get_by_label("Symbol").fill("BTCUSDT")
    page.get_by_label("Type").select_option("LIMIT")
    page.get_by_label("Quantity", exact=True).fill("0.0010009")
    page.get_by_role("button", name="Ask the gate").click()
    expect(page.get_by_role("alert")).to_have_text("is missing: LIMIT needs it")
    keep(page, f"ask-error-{scheme}")
    page.get_by_label("Price", exact=True).fill("20000")
    page.get_by_role("button", name="Ask the gate").click()
    expect(page.get_by_role("status")).to_contain_text(
        "would be sent as BUY BTCUSDT LIMIT quantity 0.001 price 20000"
    )
    keep(page, f"ask-allowed-{scheme}")
    page.get_by_label("Quantity", exact=True).fill("100")
    page.get_by_role("button", name="Ask the gate").click()
    expect(page.get_by_role("status")).to_contain_text("INSUFFICIENT_BALANCE")
    keep(page, f"ask-denied-{scheme}")
    assert Order.objects.count() == len(orders)


def test_admin__switches_the_language(
    page: Page, live_server: LiveServer, orders: dict[str, Order]
) -> None:
    sign_in(page, live_server)
    page.get_by_text("tess", exact=True).click()
    page.get_by_role("button", name=re.compile("Русский")).click()
    expect(page.get_by_text("Последние заявки")).to_be_visible()
    keep(page, "index-russian")


def test_admin__finds_an_order_by_the_exchanges_id(
    page: Page, live_server: LiveServer, orders: dict[str, Order]
) -> None:
    sign_in(page, live_server)
    page.goto(f"{live_server.url}/admin/orders/order/")
    number = orders["filled"].exchange_orders.get().exchange_order_id
    page.locator("#searchbar").fill(number)
    page.locator("#searchbar").press("Enter")
    expect(page.locator("#result_list .desk-row")).to_have_count(1)
    expect(page.locator("#result_list .desk-row")).to_contain_text("trend-1")


def test_admin__runs_nothing_that_the_exchange_wrote(
    page: Page, live_server: LiveServer, orders: dict[str, Order]
) -> None:
    hostile = '<img src=x onerror="document.title=1"><script>document.title=2</script>{{ 7*7 }}'
    Order.objects.filter(pk=orders["denied"].pk).update(reason=hostile, strategy=hostile[:64])
    sign_in(page, live_server)
    for address in (
        "/admin/",
        "/admin/orders/order/",
        f"/admin/orders/order/{orders['denied'].pk}/change/",
    ):
        page.goto(f"{live_server.url}{address}")
        expect(page).to_have_title(re.compile("Trading back office"))
    expect(page.locator(".desk-head-reason")).to_contain_text(hostile)
