"""The export of a list as CSV and XLSX: filters, digits, hostile text, rights, streaming."""

from __future__ import annotations

import asyncio
import csv
import io
import time
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connections
from django.test import AsyncClient, Client

from backoffice.desk.admin.orders import OrderAdmin
from backoffice.desk.lists import exports
from backoffice.desk.lists.exports import csv_chunks
from backoffice.people.models import JournalEntry
from orders.models import Order, Status
from tests.benchmarks.many_orders import analyze, fill_book
from tests.factories import (
    FillFactory,
    OrderEventFactory,
    OrderFactory,
    ReconciliationBreakFactory,
)

pytestmark = pytest.mark.django_db

ORDERS = "/admin/orders/order/export/"
HOSTILE = ("=1+1", "+cmd|' /C calc'!A0", "-2", "@SUM(A1)", "\tx", "\r=2", '"><script>', "a,b\nc")


def body(response: Any) -> bytes:
    assert response.status_code == 200
    return b"".join(response.streaming_content)


def rows_of(client: Client, address: str, **query: str) -> list[dict[str, str]]:
    text = body(client.get(address, query)).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def cells(content: bytes) -> Iterator[list[tuple[str, str]]]:
    """Yield each row of a workbook as (kind, text) of its cells."""
    space = {"x": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}
    with zipfile.ZipFile(io.BytesIO(content)) as book:
        sheet = ET.fromstring(book.read("xl/worksheets/sheet1.xml"))
    assert sheet.findall(".//x:f", space) == []  # no formula
    for row in sheet.findall(".//x:row", space):
        yield [(one.get("t", "n"), "".join(one.itertext())) for one in row.findall("x:c", space)]


def test_csv__holds_the_filtered_rows_with_every_digit(boss: Client) -> None:
    OrderFactory(
        intent_id="mine",
        symbol="ETHUSDT",
        quantity=Decimal("12345678901234567890.123456789012345678"),
        price=Decimal("0.000000000000000001"),
        created_at=datetime(2026, 11, 2, 3, 4, 5, 6, tzinfo=UTC),
    )
    OrderFactory(intent_id="other", symbol="BTCUSDT")
    [row] = rows_of(boss, f"{ORDERS}csv/", symbol="ETHUSDT")
    assert list(row) == list(OrderAdmin.export_fields)
    assert row["quantity"] == "12345678901234567890.123456789012345678"
    assert row["price"] == "0.000000000000000001"
    assert row["created_at"] == "2026-11-02T03:04:05.000006Z"
    assert (row["quote_quantity"], row["closed_at"], row["is_external"]) == ("", "", "f")


@pytest.mark.parametrize("text", HOSTILE)
def test_csv__makes_no_formula_of_hostile_text(boss: Client, text: str) -> None:
    OrderFactory(reason=text, strategy=text)
    [row] = rows_of(boss, f"{ORDERS}csv/")
    is_formula = text[0] in "=+-@\t\r\n"
    assert row["reason"] == row["strategy"] == (f"'{text}" if is_formula else text)


@pytest.mark.parametrize("text", HOSTILE)
def test_xlsx__holds_hostile_text_as_text(boss: Client, text: str) -> None:
    OrderFactory(reason=text)
    _heading, row = cells(body(boss.get(f"{ORDERS}xlsx/")))
    kinds = dict.fromkeys(kind for kind, content in row if content.strip() == text.strip())
    assert kinds in ({"inlineStr": None}, {})
    assert any(kind == "inlineStr" for kind, _content in row)


def test_xlsx__keeps_every_digit(boss: Client) -> None:
    exact, long = Decimal("0.12345678901234"), Decimal("1234567890.123456789")
    OrderFactory(quantity=exact, price=long)
    heading, row = cells(body(boss.get(f"{ORDERS}xlsx/")))
    assert len(heading) == len(OrderAdmin.export_fields)
    assert ("n", "0.12345678901234") in row
    assert ("inlineStr", "1234567890.123456789") in row  # a spreadsheet would round it


def test_xlsx__keeps_the_digits_of_the_longest_amounts(boss: Client) -> None:
    OrderFactory(price=Decimal("12345678901234567890.123456789012345678"))
    _heading, row = cells(body(boss.get(f"{ORDERS}xlsx/")))
    assert ("inlineStr", "12345678901234567890.123456789012345678") in row


def test_exports__work_for_every_list(boss: Client) -> None:
    fill = FillFactory()
    OrderEventFactory(order=fill.order, details={"=x": "</script>"})
    ReconciliationBreakFactory(order=fill.order, account=fill.account, subject="=1")
    for name, column, value in (
        ("fill", "order__intent_id", fill.order.intent_id),
        ("orderevent", "details", '{"=x": "</script>"}'),
        ("reconciliationbreak", "subject", "'=1"),
    ):
        [row] = rows_of(boss, f"/admin/orders/{name}/export/csv/")
        assert row[column] == value
        assert len(list(cells(body(boss.get(f"/admin/orders/{name}/export/xlsx/"))))) == 2


def test_exports__need_the_permission_to_view_and_are_in_the_journal(boss: Client) -> None:
    stranger = Client()
    stranger.force_login(User.objects.create_user("nobody", is_staff=True))
    assert stranger.get(f"{ORDERS}csv/").status_code == 403
    assert stranger.get(f"{ORDERS}xlsx/").status_code == 403
    assert Client().get(f"{ORDERS}csv/").status_code == 302  # to the login
    body(boss.get(f"{ORDERS}csv/", {"symbol": "BTCUSDT"}))
    entry = JournalEntry.objects.latest("pk")
    assert (entry.verb, entry.after) == ("export_order", {"filters": "symbol=BTCUSDT"})


def test_exports__refuse_a_bad_filter_and_too_large_a_workbook(
    boss: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert boss.get(f"{ORDERS}csv/", {"created_at_from_0": "x"}).status_code == 302
    monkeypatch.setattr(exports, "MAX_XLSX_ROWS", 2)
    OrderFactory.create_batch(3)
    answer = boss.get(f"{ORDERS}xlsx/", {"side__exact": "BUY"}, follow=True)
    assert "at most 2 rows" in answer.content.decode()
    assert len(rows_of(boss, f"{ORDERS}csv/")) == 3


@pytest.mark.django_db(transaction=True)
def test_csv__is_streamed_to_an_asynchronous_server() -> None:
    OrderFactory.create_batch(3, status=Status.NEW)
    client = AsyncClient()
    client.force_login(User.objects.create_superuser("boss"))

    async def read() -> bytes:
        response: Any = await client.get(f"{ORDERS}csv/")
        assert response.is_async  # a synchronous iterator would be gathered first
        content = b"".join([chunk async for chunk in response.streaming_content])
        await sync_to_async(connections.close_all)()
        return content

    assert asyncio.run(read()).count(b"\n") == 4


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_csv__gathers_nothing_of_two_hundred_thousand_rows() -> None:
    fill_book(200_000, fills_each=1)
    analyze()
    begun, size = time.perf_counter(), 0
    for chunk in csv_chunks(Order.objects.order_by("-created_at", "-id"), OrderAdmin.export_fields):
        size += len(chunk)
        assert len(chunk) < 1_000_000  # nothing is gathered
    rate = 200_000 / (time.perf_counter() - begun)
    print(f"{rate:,.0f} rows/s, {size / 200_000:.0f} bytes a row")  # the machine's, so no limit
