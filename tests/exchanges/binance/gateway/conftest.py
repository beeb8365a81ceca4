"""A gateway to a server that answers, misbehaves and remembers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_django.fixtures import Settings

from exchanges.binance.gateway import Gateway
from exchanges.credentials import read_credentials
from exchanges.models import ExchangeAccount
from tests.exchanges.binance.gateway.steps import (
    API_KEY,
    API_SECRET,
)
from tests.exchanges.binance.raw_server import (
    RawServer,
)


@pytest.fixture
def server() -> Iterator[RawServer]:
    server = RawServer()
    yield server
    server.stop()


@pytest.fixture
def account(server: RawServer, monkeypatch: pytest.MonkeyPatch) -> ExchangeAccount:
    monkeypatch.setenv("EXCHANGE_BOT_1_API_KEY", API_KEY)
    monkeypatch.setenv("EXCHANGE_BOT_1_API_SECRET", API_SECRET)
    monkeypatch.setenv("EXCHANGE_BOT_1_REST_URL", server.url)
    return ExchangeAccount(name="bot-1", environment="simulator")


@pytest.fixture
def exchange(account: ExchangeAccount, settings: Settings) -> Iterator[Gateway]:
    settings.EXCHANGE_REQUEST_TIMEOUT_MS = 400
    exchange = Gateway(account, read_credentials(account))
    yield exchange
    exchange.close()
