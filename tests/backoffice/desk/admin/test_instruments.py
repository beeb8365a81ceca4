"""Instruments and their filters."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.factories import (
    InstrumentFactory,
    exchange_filters,
)

pytestmark = pytest.mark.django_db


def test_instrument_pages__show_filters_readably(boss: Client) -> None:
    instrument = InstrumentFactory(filters=exchange_filters(tick="0.01000000", step="0.00001000"))
    html = boss.get("/admin/exchanges/instrument/").content.decode()
    assert ">0.01<" in html
    assert ">0.00001<" in html
    html = boss.get(f"/admin/exchanges/instrument/{instrument.pk}/change/").content.decode()
    assert "maxPrice 1000000, minPrice 0.01, tickSize 0.01" in html


def test_instrument_pages__live_with_odd_filters(boss: Client) -> None:
    odd = [
        {"filterType": "NEW_ONE", "text": "<b>no number</b>", "empty": "", "none": None},
        {"filterType": "LOT_SIZE"},
    ]
    instrument = InstrumentFactory(filters=odd, order_types=[])
    assert boss.get("/admin/exchanges/instrument/").status_code == 200
    html = boss.get(f"/admin/exchanges/instrument/{instrument.pk}/change/").content.decode()
    assert "text &lt;b&gt;no number&lt;/b&gt;" in html


def test_instrument_search__takes_a_symbol_or_an_asset(boss: Client) -> None:
    InstrumentFactory(base_asset="BTC")
    InstrumentFactory(base_asset="ETH", quote_asset="BTC")
    InstrumentFactory(base_asset="SOL")

    def found(text: str) -> set[str]:
        response = boss.get("/admin/exchanges/instrument/", {"q": text})
        return {row.symbol for row in response.context["cl"].result_list}

    assert found("BTCUSDT") == {"BTCUSDT"}
    assert found("BTC") == {"BTCUSDT", "ETHBTC"}
