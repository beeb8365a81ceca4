"""The search for orders by any ID: prefixes of each kind, limits, accounts, one query."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from backoffice.desk.lists import search
from backoffice.desk.lists.search import find_orders
from orders.models import ExchangeOrder, Fill, Order
from tests.factories import ExchangeOrderFactory, FillFactory, OrderFactory

pytestmark = pytest.mark.django_db


def traded() -> Fill:
    return FillFactory(trade_id="987654321", exchange_order__exchange_order_id="28000001234")


@pytest.mark.parametrize("text", ["280000012", "9876", "987654321"])
def test_find_orders__finds_numbers_by_their_beginning(text: str) -> None:
    fill = traded()
    assert find_orders(text, accounts=None) == {fill.order_id}
    assert find_orders(text[1:], accounts=None) == set()  # not by a middle


def test_find_orders__finds_a_short_number_only_as_a_whole() -> None:
    fill = FillFactory(trade_id="7", exchange_order__exchange_order_id="43")
    FillFactory(trade_id="71", exchange_order__exchange_order_id="431")
    assert find_orders("43", accounts=None) == find_orders("7", accounts=None) == {fill.order_id}
    assert find_orders("4", accounts=None) == set()


def test_find_orders__finds_every_word_with_one_query() -> None:
    fill = traded()
    order = OrderFactory(intent_id="entry-9")
    for text in ("9876", f"9876 entry {order.pk}", " ".join(f"word{n}" for n in range(20))):
        with CaptureQueriesContext(connection) as queries:
            found = find_orders(text, accounts=None)
        assert len(queries) == 1
        assert found == {pk for pk in (fill.order_id, order.pk) if "9876" in text} & (
            {fill.order_id, order.pk} if "entry" in text else {fill.order_id}
        )


def test_find_orders__keeps_the_newest_of_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MAX_FOUND", 3)
    for number in range(3):
        OrderFactory(intent_id=f"many-{number}")
        OrderFactory(intent_id=f"other-{number}")
    newest = list(Order.objects.order_by("-id").values_list("pk", flat=True)[:3])
    assert find_orders("many-,other-", accounts=None) == set(newest)


def test_find_orders__asks_only_the_accounts_it_may() -> None:
    fill = traded()
    attempt = ExchangeOrderFactory(order__account__name="hidden", order__intent_id="secret-1")
    texts = ("secret", attempt.client_order_id, str(attempt.order_id))
    for text in texts:
        assert find_orders(text, accounts=None) == {attempt.order_id}
        assert find_orders(text, accounts=[fill.account_id]) == set()
    assert find_orders("9876", accounts=[fill.account_id]) == {fill.order_id}


@pytest.mark.parametrize(
    ("model", "column"),
    [
        (Order, "intent_id"),
        (ExchangeOrder, "client_order_id"),
        (ExchangeOrder, "exchange_order_id"),
        (Fill, "trade_id"),
    ],
)
def test_ids__are_in_byte_order_in_a_database_of_any_language(model: type, column: str) -> None:
    """Only then can the unique indexes serve a search by a beginning."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT collation_name FROM information_schema.columns"
            " WHERE table_name = %s AND column_name = %s",
            [model._meta.db_table, column],  # type: ignore[attr-defined]
        )
        assert cursor.fetchall() == [("C",)]
