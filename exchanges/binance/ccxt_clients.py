"""Make ccxt's clients, reduced to the parts that we use.

ccxt signs and addresses requests, and makes connections. Its markets, its limiter and its choice of
hosts are switched off.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from django.conf import settings

from exchanges.credentials import Credentials


def load_client_library() -> None:
    """Import ccxt now instead of in the first call to an exchange: 0.3 s and 50 MB."""
    import ccxt  # noqa: F401


def rest_client(credentials: Credentials) -> Any:
    """Make a client that signs REST requests and sends them to the account's own host only."""
    import ccxt

    client = ccxt.binance(
        {
            "apiKey": credentials.api_key,
            "secret": credentials.api_secret,
            # ccxt's limiter sends bursts one by one and can't see other processes.
            "enableRateLimit": False,
            "enableLastHttpResponse": False,
            "enableLastJsonResponse": False,
            "enableLastResponseHeaders": False,
            "options": {"defaultType": "spot", "fetchCurrencies": False, "fetchMargins": False},
        }
    )
    base = f"{credentials.hosts.rest_url}/api/v3"
    sapi = f"{credentials.hosts.rest_url}/sapi/v1"
    client.urls["api"] = {"public": base, "private": base, "sapi": sapi}  # replaced, not merged
    # ccxt has no raw method for it.
    client.private_get_order_amendments = partial(
        client.request, "order/amendments", ["private"], "GET"
    )
    return client


def stream_client(credentials: Credentials) -> Any:
    """Make an asynchronous client for the private stream: its connection and its signature."""
    import ccxt.pro  # on first use, because it takes 1 s and 100 MB

    return ccxt.pro.binance(
        {
            "apiKey": credentials.api_key,
            "secret": credentials.api_secret,
            "enableRateLimit": False,
            "options": {"defaultType": "spot", "recvWindow": settings.EXCHANGE_RECV_WINDOW_MS},
        }
    )
