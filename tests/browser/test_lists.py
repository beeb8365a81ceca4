"""Use the lists in a real browser: keys, columns, views, the palette, an export."""

from __future__ import annotations

import csv
from decimal import Decimal
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect
from pytest_django.live_server_helper import LiveServer

from exchanges import clock
from exchanges.models import MidPrice
from orders.models import Status
from tests.browser.test_budget import sign_in
from tests.factories import OrderFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def orders_page(page: Page, live_server: LiveServer, transactional_db: None) -> Page:
    for number in range(3):
        OrderFactory(intent_id=f"grid-{number}", strategy="grid", status=Status.NEW)
    OrderFactory(intent_id="trend-1", strategy="trend", reason="=1+1", status=Status.CANCELED)
    sign_in(page, live_server.url)
    page.goto(f"{live_server.url}/admin/orders/order/")
    return page


def test_list__is_walked_by_keys(orders_page: Page) -> None:
    page = orders_page
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator(".desk-row-current")).to_contain_text("grid-2")
    page.keyboard.press("k")
    expect(page.locator(".desk-row-current")).to_contain_text("trend-1")
    page.keyboard.press("Escape")
    expect(page.locator(".desk-row-current")).to_have_count(0)
    page.keyboard.press("/")
    page.keyboard.type("grid-0")
    page.keyboard.press("Enter")
    expect(page.locator("#result_list .desk-row")).to_have_count(1)
    page.wait_for_load_state()  # the rows are there before the script that hears the keys
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.locator(".desk-head")).to_contain_text("grid-0")


def test_list__shows_the_age_of_a_price_that_gets_old_on_the_page(
    page: Page, live_server: LiveServer, transactional_db: None
) -> None:
    order = OrderFactory(status=Status.NEW, price=Decimal(50_000))
    MidPrice.objects.create(
        exchange=order.account.exchange, environment=order.account.environment,
        symbol=order.symbol, bid=Decimal(50_990), ask=Decimal(51_010), asked_at=clock.now(),
    )  # fmt: skip
    page.clock.install()
    sign_in(page, live_server.url)
    page.goto(f"{live_server.url}/admin/orders/order/")
    cell = page.locator("td.field-distance_number")
    expect(cell).to_have_text("1.96 %")
    page.clock.run_for(40_000)
    expect(cell).to_have_text("1.96 %")
    page.clock.run_for(30_000)
    expect(cell).to_have_text("1.96 % 1 min")
    page.clock.run_for(2 * 3_600_000)
    expect(cell).to_have_text("1.96 % 2 hr")


def test_list__keeps_columns_and_views(orders_page: Page) -> None:
    page = orders_page
    page.get_by_text("Columns", exact=True).click()
    page.get_by_role("checkbox", name="Strategy").check()
    page.get_by_role("checkbox", name="From market").uncheck()
    page.get_by_role("button", name="Show these").click()
    expect(page.locator("thead")).to_contain_text("Strategy")
    expect(page.locator("thead")).not_to_contain_text("From market")
    page.goto(f"{page.url.partition('?')[0]}?strategy=grid")
    page.get_by_text("Save view", exact=True).click()
    page.get_by_label("Name of the view").fill("Grid")
    page.get_by_role("button", name="Save", exact=True).click()
    page.goto(page.url.partition("?")[0])
    expect(page.locator("#result_list .desk-row")).to_have_count(4)
    page.get_by_role("link", name="Grid", exact=True).click()
    expect(page.locator("#result_list .desk-row")).to_have_count(3)


def test_list__exports_its_filter(orders_page: Page, tmp_path: Path) -> None:
    page = orders_page
    page.goto(f"{page.url}?strategy=trend")
    page.get_by_text("Export", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    download.value.save_as(tmp_path / "orders.csv")
    with (tmp_path / "orders.csv").open(newline="") as file:
        [row] = csv.DictReader(file)
    assert (row["intent_id"], row["reason"]) == ("trend-1", "'=1+1")


def test_palette__leads_to_pages_verbs_and_orders(orders_page: Page) -> None:
    page = orders_page
    page.keyboard.press("Control+k")
    page.locator("#search-input-command").press_sequentially("trend-1")
    result = page.locator("#command-results-list")
    expect(result).to_contain_text("BUY BTCUSDT trend-1")
    page.locator("#search-input-command").fill("")
    page.locator("#search-input-command").press_sequentially("cancel")
    expect(result).to_contain_text("Cancel orders")
    expect(result.locator("li.active")).to_contain_text("Cancel orders")
    page.keyboard.press("Enter")
    page.wait_for_url("**/orders/order/?phase=open")


def palette(page: Page) -> Locator:
    """Open the palette and return its field."""
    page.keyboard.press("Control+k")
    field = page.locator("#search-input-command")
    expect(field).to_be_visible()
    field.focus()  # the theme does it after 20 ms, too early on a busy machine
    return field


def test_palette__opens_the_best_match_of_a_text_typed_fast(orders_page: Page) -> None:
    page = orders_page
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    marked = page.locator("#command-results-list li.active a")
    field = palette(page)
    field.press("Enter")  # nothing is typed, so it opens nothing
    field.press_sequentially("no such thing")
    field.press("Enter")
    field.fill("")
    field.press_sequentially("cancel")
    expect(marked).to_have_attribute("data-title", "Cancel orders")
    field.fill("")
    field.press_sequentially("balances")
    field.press("Enter")  # the results are still those of "cancel"
    page.wait_for_url("**/exchanges/balance/")
    field = palette(page)
    field.press_sequentially("Orders")  # the theme lists another page of the app before it
    expect(marked).to_have_attribute("data-title", "Orders")
    assert page.locator("#command-results-list a").first.get_attribute("data-title") != "Orders"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    field.press("Enter")
    page.wait_for_url("**/orders/order/")
    assert errors == []


def test_list__shows_times_in_the_zone_of_the_browser(page: Page, live_server: LiveServer) -> None:
    zoned = page.context.browser.new_context(timezone_id="Asia/Tokyo")  # type: ignore[union-attr]
    tokyo = zoned.new_page()
    order = OrderFactory()
    sign_in(tokyo, live_server.url)
    tokyo.goto(f"{live_server.url}/admin/orders/order/")
    tokyo.reload()  # from the second page on
    time = tokyo.locator("#result_list time").first
    hour = (order.created_at.hour + 9) % 24
    expect(time).to_contain_text(f" {hour:02}:{order.created_at:%M:%S}")
    assert (time.get_attribute("title") or "").endswith("+00:00")
    zoned.close()
