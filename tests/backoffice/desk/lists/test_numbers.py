"""Prices to the tick, quantities to the step, money to two decimals; every digit on hover."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from backoffice.desk.lists.numbers import UNKNOWN, Grid, decimals_of, grid_of, rounded
from exchanges.instrument_rules import InstrumentRules
from orders.models import Status
from tests.factories import FillFactory, InstrumentFactory, OrderFactory, exchange_filters

D = Decimal


@pytest.mark.parametrize(
    ("value", "decimals", "shown"),
    [
        ("20000", 2, "20000.00"),
        ("0.001", 5, "0.00100"),
        ("1.005", 2, "1.00"),  # half even
        ("1.015", 2, "1.02"),
        ("-12.345678", 2, "-12.35"),
        ("1234567.891", 0, "1234568"),
        ("1E+3", 2, "1000.00"),
        ("1E-8", 8, "0.00000001"),
        ("0", 2, "0.00"),
        ("-0.000", 2, "0.00"),
        ("99999999999999999999.999999999999999999", 18, "99999999999999999999.999999999999999999"),
        # Something other than zero is never shown as zero.
        ("0.00012", 2, "0.00012"),
        ("-0.004", 2, "-0.004"),
        # No rule is known: every digit, no more.
        ("0.1200", None, "0.12"),
        ("1E+3", None, "1000"),
    ],
)
def test_rounded__shows_a_value_on_its_grid(value: str, decimals: int | None, shown: str) -> None:
    assert rounded(D(value), decimals) == shown


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        # As orders are sent: quantities down, a buy's price down, a sell's price up.
        ("quantity", "0.00299", "0.002"),
        ("quantity", "-0.0029", "-0.002"),
        ("buy", "100.019", "100.01"),
        ("sell", "100.011", "100.02"),
        # An average is rounded to the nearest tick.
        ("price", "100.016", "100.02"),
        ("money", "9.994", "9.99"),
    ],
)
def test_grid__rounds_as_orders_are_sent(kind: str, value: str, shown: str) -> None:
    grid = Grid(price=2, quantity=3, money=2)
    writers: dict[str, Callable[[Decimal], str]] = {
        "quantity": grid.quantity_text,
        "price": grid.price_text,
        "money": grid.money_text,
        "buy": lambda number: grid.limit_price_text(number, "BUY"),
        "sell": lambda number: grid.limit_price_text(number, "SELL"),
    }
    assert writers[kind](D(value)) == shown


@pytest.mark.parametrize(
    ("step", "decimals"),
    [("0.01000000", 2), ("0.5", 1), ("1.00", 0), ("100", 0), ("1E-8", 8), ("0", None)],
)
def test_decimals_of__counts_the_digits_that_matter(step: str, decimals: int | None) -> None:
    assert decimals_of(D(step)) == decimals


@pytest.mark.parametrize(
    ("quote_asset", "filters", "grid"),
    [
        ("USDT", exchange_filters(tick="0.01", step="0.00001"), Grid(2, 5, 2, "USDT")),
        ("BTC", exchange_filters(tick="0.000001", step="0.001"), Grid(6, 3, 8, "BTC")),
        ("USDT", [], Grid(None, None, 2, "USDT")),
    ],
)
def test_grid_of__reads_the_rules(
    quote_asset: str, filters: list[dict[str, str]], grid: Grid
) -> None:
    rules = InstrumentRules(
        symbol="X",
        base_asset="ETH",
        quote_asset=quote_asset,
        status="TRADING",
        order_types=frozenset(),
        filters={row["filterType"]: row for row in filters},
    )
    assert grid_of(rules, money_assets=frozenset({"USDT"})) == grid


def test_unknown_grid__keeps_every_digit() -> None:
    assert UNKNOWN.price_text(D("0.123456789012345678")) == "0.123456789012345678"


# -- On the pages --------------------------------------------------------------------------------


@pytest.mark.django_db
def test_order_list__shows_numbers_on_the_grid_and_every_digit_on_hover(boss: Client) -> None:
    InstrumentFactory()
    order = OrderFactory(
        quantity=D("0.003"),
        price=D(20000),
        status=Status.PARTIALLY_FILLED,
        filled_quantity=D("0.001"),
        average_price=D("19999.987654321098765432"),
    )
    columns = "quantity_number,price_number,filled_quantity_number,average_price_number"
    listing = f"/admin/orders/order/?columns={columns}"
    for address in (listing, f"/admin/orders/order/{order.pk}/change/"):
        html = boss.get(address).content.decode()
        for text in (">0.00300<", ">20000.00<", ">0.00100<", ">19999.99<"):
            assert text in html, (address, text)
        assert 'title="19999.987654321098765432"' in html


@pytest.mark.django_db
def test_order_list__names_the_asset_of_a_quote_amount(boss: Client) -> None:
    InstrumentFactory()
    OrderFactory(quantity=None, quote_quantity=D(100), price=None, order_type="MARKET")
    html = boss.get("/admin/orders/order/").content.decode()
    assert ">100.00</span> USDT" in html


@pytest.mark.django_db
@pytest.mark.parametrize("page", ["/admin/orders/order/", "/admin/orders/fill/", "/admin/"])
def test_lists__read_the_rules_of_many_symbols_at_once(boss: Client, page: str) -> None:
    counts = []
    for number in (1, 12):
        for place in range(number):
            base = f"A{number}X{place}"
            InstrumentFactory(base_asset=base)
            FillFactory(exchange_order__order__symbol=f"{base}USDT")
        boss.get(page)  # the process keeps facts of the exchange, such as its rate limits
        with CaptureQueriesContext(connection) as queries:
            assert boss.get(page).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]


@pytest.mark.django_db
def test_order_page__shows_its_fills_and_requests_on_the_grid(boss: Client) -> None:
    InstrumentFactory()
    fill = FillFactory(quantity=D("0.5"), price=D(200), commission=D("0.0005"))
    for address in (
        f"/admin/orders/order/{fill.order_id}/change/",
        f"/admin/orders/fill/{fill.pk}/change/",
    ):
        html = boss.get(address).content.decode()
        for text in (">0.50000<", ">200.00<", ">100.00<", ">0.0005</span> BTC"):
            assert text in html, (address, text)
