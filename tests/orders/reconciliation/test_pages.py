"""Page on through rows that can't be read: by their ids, or by their number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from exchanges.binance.http import HttpResult
from exchanges.binance.registry import get_gateway
from exchanges.models import ExchangeAccount, SymbolCatchUp
from exchanges.types import Rows, Unreadable
from orders.models import Fill, Order, ReconciliationBreak
from orders.reconciliation.evidence import find_order
from orders.reconciliation.history import catch_up_symbol
from orders.reconciliation.open_orders import sync_open_orders
from orders.reconciliation.pages import id_of, is_last, next_id, order_numbers
from orders.reconciliation.questions import fetch_missing_fills
from tests import steps
from tests.factories import ExchangeAccountFactory
from tests.fakes import METHODS, FakeExchange
from tests.orders.reconciliation.test_compare import many_open_orders, place_by_hand

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("without_limits")]

SIZE = 10
Spoil = Callable[[dict[str, Any]], object]


@pytest.fixture
def exchange(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeExchange]:
    for module in ("pages", "behind", "evidence", "history", "questions"):
        monkeypatch.setattr(f"orders.reconciliation.{module}.PAGE", SIZE)
    with FakeExchange({"USDT": "9000000", "BTC": "10"}).installed() as exchange:
        yield exchange


@pytest.fixture
def owner(exchange: FakeExchange, settings: Settings) -> ExchangeAccount:
    settings.EXCHANGE_READ_LAG_MS = 0
    account: ExchangeAccount = ExchangeAccountFactory(name="demo")
    return account


def spoil_pages(exchange: FakeExchange, call: str, spoil: Spoil, *, which: set[int]) -> None:
    """Spoil all rows of these pages of a list, counted from 0."""
    request, answered = exchange.request, iter(range(1000))

    def spoiled(account_name: str, method: str, parameters: dict[str, str]) -> HttpResult:
        result = request(account_name, method, parameters)
        if METHODS[method][2] == call and next(answered) in which:
            for row in result.body:
                spoil(row)
        return result

    exchange.request = spoiled  # type: ignore[method-assign]


SPOILED: dict[str, Spoil] = {
    "with ids": lambda row: row.update(side="HOLD", isBuyer="?"),
    "with ids as texts": lambda row: row.update(
        {name: str(row[name]) for name in ("id", "orderId") if name in row}, side="?", isBuyer="?"
    ),
    "without ids": lambda row: [row.pop(name, None) for name in ("id", "orderId")],
}
spoiled = pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)


def kinds() -> set[str]:
    return set(ReconciliationBreak.objects.values_list("kind", flat=True))


@spoiled
def test_sync__an_unreadable_page_is_not_the_last(
    owner: ExchangeAccount, exchange: FakeExchange, spoil: Spoil
) -> None:
    many_open_orders(owner, 70, filled_by=exchange)
    spoil_pages(exchange, "fetch_all_orders", spoil, which={1})
    sync_open_orders(owner)
    assert Order.objects.filter(status="FILLED").count() >= 60
    assert kinds() == {"UNREADABLE_REPORT"}
    owner.refresh_from_db()
    assert owner.trading_state == "ACTIVE"


def test_sync__orders_behind_the_last_page_of_a_run_are_not_missing(
    owner: ExchangeAccount, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orders.reconciliation.behind._MOST_PAGES", 2)
    many_open_orders(owner, 70, filled_by=exchange)
    sync_open_orders(owner)
    assert kinds() == set()
    sync_open_orders(owner)
    assert Order.objects.filter(status="FILLED").count() == 70


@spoiled
def test_catch_up__an_unreadable_page_is_not_the_last(
    owner: ExchangeAccount, exchange: FakeExchange, spoil: Spoil
) -> None:
    SymbolCatchUp.objects.create(account=owner, symbol="BTCUSDT", read_until=0)
    for number in range(25):
        place_by_hand(owner, f"web_{number}")
    spoil_pages(exchange, "fetch_all_orders", spoil, which={1})
    caught_up = catch_up_symbol(owner, "BTCUSDT", include_external=True)
    shown = Order.objects.filter(is_external=True)
    assert (caught_up.is_complete, shown.count(), kinds()) == (True, 15, {"UNREADABLE_REPORT"})


def test_catch_up__an_exchange_that_repeats_an_unreadable_page_ends(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    SymbolCatchUp.objects.create(account=owner, symbol="BTCUSDT", read_until=0)
    exchange.answer_body("fetch_all_orders", [{"x": 1}] * SIZE, times=1000)
    caught_up = catch_up_symbol(owner, "BTCUSDT", include_external=True)
    assert (caught_up.is_complete, caught_up.pages) == (False, 20)


def test_catch_up__an_unreadable_first_page_imports_no_history(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    last = 0
    for number in range(25):
        last = int(place_by_hand(owner, f"web_{number}").exchange_order_id)
    spoil_pages(exchange, "fetch_all_orders", SPOILED["with ids"], which={0})
    catch_up_symbol(owner, "BTCUSDT", include_external=True)
    assert SymbolCatchUp.objects.get().read_until == last


@spoiled
@pytest.mark.parametrize("which", [{0}, {1}], ids=["first page", "second page"])
def test_fetch_missing_fills__goes_on_behind_unreadable_trades(
    owner: ExchangeAccount, exchange: FakeExchange, spoil: Spoil, which: set[int]
) -> None:
    order = steps.submit(quantity="0.025", price="40000")
    name = steps.client_id(order)
    for _ in range(25):
        exchange.fill(name, "0.001")
    spoil_pages(exchange, "fetch_trades", spoil, which=which)
    attempt = steps.attempt_of(order)
    fetch_missing_fills(get_gateway(owner), attempt)
    assert Fill.objects.count() >= 15  # a page without ids is read again in part
    assert kinds() == {"UNREADABLE_REPORT"}
    fetch_missing_fills(get_gateway(owner), attempt)
    assert Fill.objects.count() == 25
    assert not ReconciliationBreak.objects.filter(resolved_at=None).exists()


CAP = 4


def test_sync__an_exchange_with_shorter_pages_is_read_to_the_end(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    exchange.longest_page = CAP
    many_open_orders(owner, 40, filled_by=exchange)
    sync_open_orders(owner)
    assert (Order.objects.filter(status="FILLED").count(), kinds()) == (40, set())


def test_catch_up__an_exchange_with_shorter_pages_is_read_to_the_end(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    exchange.longest_page = CAP
    SymbolCatchUp.objects.create(account=owner, symbol="BTCUSDT", read_until=0)
    for number in range(2 * CAP):
        place_by_hand(owner, f"web_{number}")
    caught_up = catch_up_symbol(owner, "BTCUSDT", include_external=True)
    found = Order.objects.filter(is_external=True).count()
    assert (caught_up.is_complete, found, caught_up.pages) == (True, 2 * CAP, 3)


def test_catch_up__an_exchange_that_ignores_the_first_id_ends(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    SymbolCatchUp.objects.create(account=owner, symbol="BTCUSDT", read_until=0)
    for number in range(3):
        place_by_hand(owner, f"web_{number}")
    rows = [dict(row.raw) for row in get_gateway(owner).fetch_all_orders(symbol="BTCUSDT")]
    exchange.answer_body("fetch_all_orders", rows, times=1000)
    caught_up = catch_up_symbol(owner, "BTCUSDT", include_external=True)
    assert (caught_up.is_complete, caught_up.pages) == (True, 2)


def test_fetch_missing_fills__an_exchange_with_shorter_pages_is_read_to_the_end(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    exchange.longest_page = CAP
    order = steps.submit(quantity="0.010", price="40000")
    for _ in range(10):
        exchange.fill(steps.client_id(order), "0.001")
    fetch_missing_fills(get_gateway(owner), steps.attempt_of(order))
    assert Fill.objects.count() == 10


def test_find_order__an_exchange_with_shorter_pages_hides_no_order(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    exchange.longest_page = CAP
    for number in range(CAP + 2):
        place_by_hand(owner, f"web_{number}")
        exchange.cancel(f"web_{number}")
    exchange.lose_answer("place", executed=True)
    order = steps.submit(quantity="0.001", price="40000")
    exchange.cancel(steps.client_id(order))
    found = find_order(get_gateway(owner), steps.attempt_of(order))
    assert found is not None
    assert found.client_order_id == steps.client_id(order)


def test_lists__a_row_of_another_symbol_or_order_is_set_apart(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    order, other = steps.submit(quantity="0.004"), steps.submit("i-2")
    exchange.fill(steps.client_id(order), "0.001")
    exchange.fill(steps.client_id(order))
    number = int(other.exchange_order_id)

    def strange(row: dict[str, Any]) -> None:
        if row["orderId"] == number:
            row["symbol"] = "ETHUSDT"

    spoil_pages(exchange, "fetch_all_orders", strange, which={0})
    page = get_gateway(owner).fetch_all_orders(symbol="BTCUSDT")
    assert [report.exchange_order_id for report in page] == [order.exchange_order_id]
    assert [row.subject for row in page.unreadable] == [f"ETHUSDT#{number}"]
    spoil_pages(exchange, "fetch_trades", lambda row: row.update(orderId=number), which={0})
    fetch_missing_fills(get_gateway(owner), steps.attempt_of(order))
    assert Fill.objects.count() == 0
    fetch_missing_fills(get_gateway(owner), steps.attempt_of(order))
    assert Fill.objects.count() == 2


def test_next_id__never_stands_still_and_leaves_nothing_out() -> None:
    page: Rows[Any] = Rows([], [Unreadable("orders row", "", "")] * 1000)
    assert next_id(5, page, []) == 1005
    assert next_id(5, page, [7]) == 1005
    assert next_id(5, page, [9_000]) == 9_001
    assert next_id(5, Rows([], page.unreadable[:10]), [7]) == 15


def test_id_of__takes_the_row_or_else_its_name() -> None:
    cut = '{"orderId": 7, "x": "' + "y" * 4000
    assert id_of(Unreadable("orders row 1", "", '{"orderId": 7}'), "orderId") == 7
    assert id_of(Unreadable("BTCUSDT#7", "", cut), "orderId") == 7
    assert id_of(Unreadable("BTCUSDT trade 7", "", cut), "id") == 7
    assert id_of(Unreadable("orders row 1", "", cut), "orderId") is None
    assert id_of(Unreadable("orders row 1", "", '{"orderId": true}'), "orderId") is None
    assert id_of(Unreadable("BTCUSDT#-7", "", '{"orderId": -7}'), "orderId") is None
    page: Rows[Any] = Rows([], [Unreadable("BTCUSDT#7", "", "")])
    assert (is_last(page), order_numbers(page)) == (True, [7])
