"""Let no page be wider than its window, on a desk of 1440 pixels and on a phone, nor fail axe."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.urls import reverse
from playwright.sync_api import Page
from pytest_django.fixtures import Settings
from pytest_django.live_server_helper import LiveServer

from backoffice.desk.models import BulkLine, BulkRun, Outcome
from exchanges import clock
from exchanges.models import ExchangeAccount
from orders.models import ResultSample, Status
from orders.positions.samples import sample_of
from tests.browser.test_budget import findings, sign_in
from tests.factories import (
    BalanceFactory,
    ExchangeAccountFactory,
    ExchangeOrderFactory,
    FillFactory,
    InstrumentFactory,
    OrderEventFactory,
    OrderFactory,
    ReconciliationBreakFactory,
)

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

DESK = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
#: The number of pixels by which the page, and the widest of its panels, are wider than they may be.
TOO_WIDE = """() => {
  const over = (one) => one.scrollWidth - one.clientWidth;
  const panels = [...document.querySelectorAll(".desk-panel, .desk-list")];
  return [over(document.documentElement), Math.max(0, ...panels.map(over))];
}"""

#: The lines of a card: the heights at which its visible cells stand, a few pixels apart or more.
TOPS = """(row) => [...row.children].map((one) => one.getBoundingClientRect())
  .filter((box) => box.height && box.left > 40).map((box) => Math.round(box.top + box.height / 2))
  .sort((a, b) => a - b).filter((top, rank, all) => !rank || top - all[rank - 1] > 6)"""

CULPRITS = """() => [...document.querySelectorAll("main *")]
  .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
  .map((one) => one.outerHTML.slice(0, 90)).slice(0, 8)"""


@pytest.fixture
def account(transactional_db: None) -> ExchangeAccount:
    """Return an account with everything that makes its pages wide."""
    InstrumentFactory()
    account: ExchangeAccount = ExchangeAccountFactory(name="a-market-maker")
    order = OrderFactory(
        account=account, status=Status.NEW, intent_id="momentum-20261130-133121-22", strategy="grid"
    )
    OrderEventFactory(order=order, previous_status=Status.CREATED, new_status=Status.PENDING_NEW)
    for status in Status:
        OrderFactory(
            account=account,
            status=status,
            order_type="LIMIT_MAKER",
            strategy="all-states",
            intent_id=f"momentum-20261130-133121-{status}",
            reason="LOSS_LIMIT the loss of today, 1234.56 USDT, is over the limit of 1000 USDT",
        )
    ReconciliationBreakFactory(account=account, order=order)
    amount = Decimal("123456.12345678")
    own = ExchangeOrderFactory(order=order)
    FillFactory(exchange_order=own, quantity=amount, quote_quantity=amount * 3)
    for asset in ("BTC", "USDT"):
        BalanceFactory(account=account, asset=asset, free=amount, locked=amount)
    return account


@pytest.mark.parametrize("language", ["en-GB", "ru-RU"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_pages__are_not_wider_than_their_window(
    page: Page,
    live_server: LiveServer,
    account: ExchangeAccount,
    size: dict[str, int],
    language: str,
) -> None:
    page.set_viewport_size(size)  # type: ignore[arg-type]
    page.set_extra_http_headers({"Accept-Language": language})
    sign_in(page, live_server.url)
    for address in (
        reverse("admin:index"),
        reverse("admin:orders_order_changelist"),
        reverse("admin:orders_fill_changelist"),
        reverse("admin:orders_orderevent_changelist"),
        reverse("admin:orders_reconciliationbreak_changelist"),
        reverse("admin:orders_position_changelist"),
        reverse("admin:people_journalentry_changelist"),
        reverse("admin:exchanges_tradinghalt_changelist"),
        reverse("admin:desk_workitem_changelist"),
        reverse("admin:exchanges_balance_tie_out"),
        reverse("admin:exchanges_exchangeaccount_change", args=[account.pk]),
        f"{reverse('stop')}?strategy=grid",
        reverse("bulk_run", args=[run_of(account).pk]),
    ):
        page.goto(live_server.url + address)
        assert page.evaluate(TOO_WIDE) == [0, 0], (address, page.evaluate(CULPRITS))


def test_phone__shows_an_order_as_three_lines_and_the_evidence_of_a_break(
    page: Page, live_server: LiveServer, account: ExchangeAccount
) -> None:
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    sign_in(page, live_server.url)
    page.goto(f"{live_server.url}{reverse('admin:orders_order_changelist')}?strategy=grid")
    tops = page.locator("tr.desk-row").evaluate(TOPS)
    assert len(tops) == 3, tops
    page.goto(live_server.url + reverse("admin:desk_workitem_changelist"))
    for cell in page.locator(".desk-evidence tbody td").all():
        assert cell.is_visible()


def test_pages__have_no_finding_of_axe(
    page: Page, live_server: LiveServer, account: ExchangeAccount, settings: Settings
) -> None:
    settings.DEMO_TOUR = True
    sign_in(page, live_server.url)
    ResultSample.objects.create(
        account=account, at=sample_of(clock.now()), quote_asset="USDT", realized=1, unrealized=2
    )
    for address in (
        reverse("admin:index"),
        f"{reverse('admin:orders_order_all', args=['cancel'])}?strategy=grid",
        reverse("bulk_run", args=[run_of(account).pk]),
    ):
        assert [*findings(page, live_server.url + address)] == []


def run_of(account: ExchangeAccount) -> BulkRun:
    run = BulkRun.objects.create(
        person=User.objects.get(), actor="boss", verb="cancel", reason="end of day", total=1
    )
    order = account.orders.first()
    assert order is not None
    BulkLine.objects.create(
        run=run,
        position=1,
        target=str(order.pk),
        name=order.intent_id,
        account=account,
        outcome=Outcome.SKIPPED,
        text="Skipped: you no longer have the right to do this, or the row is gone.",
    )
    return run
