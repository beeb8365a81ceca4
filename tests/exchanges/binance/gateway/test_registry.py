"""Check that each thread and process has a gateway of its own."""

from __future__ import annotations

import os
import threading

import pytest

from exchanges.binance import registry
from exchanges.binance.gateway import Gateway
from exchanges.binance.registry import get_gateway
from exchanges.credentials import Account
from exchanges.models import ExchangeAccount
from tests.exchanges.binance import binance_answers as binance
from tests.exchanges.binance.gateway.steps import (
    place,
)
from tests.exchanges.binance.raw_server import (
    RawServer,
    answer,
)

pytestmark = pytest.mark.usefixtures("without_limits")


def test_get_gateway__keeps_one_connection_per_thread(
    server: RawServer, account: ExchangeAccount
) -> None:
    server.then(answer(200, binance.placed()))
    found: list[Gateway] = []

    def work() -> None:
        for _ in range(5):
            found.append(get_gateway(account))
            place(found[-1])

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (len(found), len({id(item) for item in found})) == (10, 2)
    assert len({request.connection for request in server.received}) == 2


def test_get_gateway__follows_the_environment(
    account: ExchangeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = get_gateway(account)
    assert get_gateway(account) is first
    monkeypatch.setenv("EXCHANGE_BOT_1_API_KEY", "another")
    assert get_gateway(account) is not first


def test_get_gateway__a_fork_has_its_own(server: RawServer, account: ExchangeAccount) -> None:
    server.then(answer(200, binance.placed()))
    parent = get_gateway(account)
    place(parent)
    child = os.fork()
    if child == 0:  # no assert here: a failing child must end, not go on as a second pytest
        fresh = get_gateway(account)
        place(fresh)
        os._exit(0 if fresh is not parent else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    place(parent)
    assert [request.connection for request in server.received] == [1, 2, 1]


def test_install__replaces_it_for_every_thread(account: ExchangeAccount, exchange: Gateway) -> None:
    asked: list[str] = []

    def factory(asking: Account) -> Gateway:
        asked.append(asking.name)
        return exchange

    with registry.install(factory):
        assert get_gateway(account) is exchange
        thread = threading.Thread(
            target=lambda: asked.append(str(get_gateway(account) is exchange))
        )
        thread.start()
        thread.join(5)
    assert asked == ["bot-1", "bot-1", "True"]
    assert get_gateway(account) is not exchange
