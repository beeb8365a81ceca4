from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.venues import ACCOUNT, Venue


@pytest.fixture(params=["fake", "simulator"])
def venue(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Venue]:
    from exchanges.binance.gateway import Gateway
    from exchanges.credentials import read_credentials
    from exchanges.models import ExchangeAccount
    from tests.contract.venues import FakeVenue, SimulatorVenue
    from tests.fakes import FakeExchange

    account = ExchangeAccount(name=ACCOUNT, environment="simulator")
    if request.param == "fake":
        yield FakeVenue(FakeExchange(frozen=True), account)
        return
    simulator = request.getfixturevalue("simulator")
    for name, value in simulator.environment(ACCOUNT).items():
        monkeypatch.setenv(name, value)
    gateway = Gateway(account, read_credentials(account))
    gateway.forget_clock()  # an earlier test may have moved the exchange's clock
    yield SimulatorVenue(simulator, gateway)
    gateway.close()
