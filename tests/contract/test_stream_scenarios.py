"""The simulator's private stream agrees with its REST answers and survives the faults."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing, suppress
from decimal import Decimal
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from exchanges.binance.gateway import Gateway
from exchanges.binance.registry import get_gateway
from exchanges.binance.stream_messages import (
    BalanceDelta,
    BalancesEvent,
    Connected,
    Disconnected,
    ExecutionReport,
    StreamEvent,
    Terminated,
)
from exchanges.binance.user_stream import ConnectionBudget, UserStream
from exchanges.models import ExchangeAccount
from exchanges.types import FillReport, OrderRequest, OrderType, Side, TimeInForce
from tests.contract.venues import ACCOUNT
from tests.harness.simulator import Simulator
from tests.harness.waiting import wait_for

pytestmark = pytest.mark.usefixtures("without_limits")
SYMBOL = "BTCUSDT"


class Listener:
    """Collect the events of a stream in a thread."""

    def __init__(self, account: ExchangeAccount, **options: Any) -> None:
        self.events: list[StreamEvent] = []
        self._stream = UserStream(
            account, first_pause_seconds=0.05, budget=ConnectionBudget(), **options
        )
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._collect())
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        self._loop.close()

    async def _collect(self) -> None:
        async with aclosing(self._stream.events()) as events:
            async for event in events:
                self.events.append(event)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def wait_for(self, kind: type[Any], count: int = 1) -> list[Any]:
        wait_for(lambda: len(self.of(kind)) >= count, what=f"{count} {kind.__name__}")
        return self.of(kind)

    def stop(self) -> None:
        with suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(5)
        assert not self._thread.is_alive()


@pytest.fixture
def account(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> ExchangeAccount:
    for name, value in simulator.environment(ACCOUNT).items():
        monkeypatch.setenv(name, value)
    return ExchangeAccount(name=ACCOUNT, environment="simulator")


@pytest.fixture
def gateway(account: ExchangeAccount) -> Iterator[Gateway]:
    from exchanges.credentials import read_credentials

    gateway = Gateway(account, read_credentials(account))
    gateway.forget_clock()
    yield gateway
    gateway.close()


@pytest.fixture
def listen(account: ExchangeAccount) -> Iterator[Callable[..., Listener]]:
    started: list[Listener] = []

    def start(**options: Any) -> Listener:
        listener = Listener(account, **options)
        started.append(listener)
        listener.wait_for(Connected)
        return listener

    yield start
    for listener in started:
        listener.stop()


def place(gateway: Gateway, client_order_id: str = "bo-stream-1") -> None:
    gateway.place(
        OrderRequest(
            symbol=SYMBOL,
            side=Side.BUY,
            order_type=OrderType.LIMIT,
            client_order_id=client_order_id,
            timestamp_ms=gateway.now_ms(),
            recv_window_ms=5000,
            quantity=Decimal("0.004"),
            price=Decimal(50000),
            time_in_force=TimeInForce.GTC,
        )
    )


def test_stream__tells_the_life_of_an_order(
    simulator: Simulator, gateway: Gateway, listen: Callable[..., Listener]
) -> None:
    listener = listen()
    place(gateway)
    simulator.control.fill(SYMBOL, client_order_id="bo-stream-1", quantity="0.001")
    gateway.cancel(symbol=SYMBOL, client_order_id="bo-stream-1")
    told = [event.report for event in listener.wait_for(ExecutionReport, 3)]
    assert [(report.execution_type, report.status) for report in told] == [
        ("NEW", "NEW"),
        ("TRADE", "PARTIALLY_FILLED"),
        ("CANCELED", "CANCELED"),
    ]
    assert {report.client_order_id for report in told} == {"bo-stream-1"}
    asked = gateway.fetch_order(symbol=SYMBOL, client_order_id="bo-stream-1")
    last = told[-1]
    for name in (
        "symbol",
        "exchange_order_id",
        "status",
        "side",
        "order_type",
        "time_in_force",
        "quantity",
        "price",
        "filled_quantity",
        "filled_quote_quantity",
        "created_at",
        "updated_at",
        "quote_quantity",
        "stop_price",
        "reason",
    ):
        assert getattr(last, name) == getattr(asked, name), name
    assert len({event.execution_id for event in listener.of(ExecutionReport)}) == 3


def test_stream__tells_the_fills_that_trades_show(
    simulator: Simulator, gateway: Gateway, listen: Callable[..., Listener]
) -> None:
    listener = listen()
    place(gateway)
    for _ in range(4):
        simulator.control.fill(SYMBOL, client_order_id="bo-stream-1", quantity="0.001")
    told: list[FillReport] = [
        fill for event in listener.wait_for(ExecutionReport, 5) for fill in event.report.fills
    ]
    asked = gateway.fetch_trades(symbol=SYMBOL)
    assert [
        (f.trade_id, f.quantity, f.price, f.quote_quantity, f.commission, f.traded_at) for f in told
    ] == [
        (f.trade_id, f.quantity, f.price, f.quote_quantity, f.commission, f.traded_at)
        for f in asked
    ]
    assert [(f.side, f.commission_asset, f.is_maker) for f in told] == [
        (f.side, f.commission_asset, f.is_maker) for f in asked
    ]


def test_stream__tells_balances_and_deposits(
    simulator: Simulator, gateway: Gateway, listen: Callable[..., Listener]
) -> None:
    listener = listen()
    place(gateway)
    simulator.control.deposit("USDT", "10")
    (delta,) = listener.wait_for(BalanceDelta)
    assert (delta.asset, delta.delta, delta.cause) == ("USDT", Decimal(10), "balanceUpdate")
    wait_for(lambda: len(listener.of(BalancesEvent)) >= 2, what="both balances")
    last = {
        row.asset: (row.free, row.locked)
        for event in listener.of(BalancesEvent)
        for row in event.balances
    }
    asked = {row.asset: (row.free, row.locked) for row in gateway.fetch_account().balances}
    assert last["USDT"] == asked["USDT"] == (Decimal(99810), Decimal(200))


@pytest.mark.long
@pytest.mark.parametrize("with_reset", [False, True])
def test_stream__comes_back_each_time_it_is_cut(
    simulator: Simulator, gateway: Gateway, listen: Callable[..., Listener], with_reset: bool
) -> None:
    listener = listen()
    for number in range(1, 6):
        simulator.control.disconnect_streams(reset=with_reset)
        listener.wait_for(Connected, number + 1)
    place(gateway)
    listener.wait_for(ExecutionReport)
    assert len(listener.of(Disconnected)) == 5


@pytest.mark.long
def test_stream__a_half_open_connection_is_found_dead(
    simulator: Simulator, gateway: Gateway, listen: Callable[..., Listener]
) -> None:
    listener = listen(silence_seconds=1.5)
    simulator.control.faults.add("half_open", match={"api": "stream", "event": "executionReport"})
    place(gateway)
    (gone, *_) = listener.wait_for(Disconnected)
    assert "nothing heard" in gone.reason
    listener.wait_for(Connected, 2)
    gateway.cancel(symbol=SYMBOL, client_order_id="bo-stream-1")
    assert listener.wait_for(ExecutionReport)[-1].report.status == "CANCELED"


def test_stream__duplicates_are_told_as_often_as_they_come(
    simulator: Simulator, gateway: Gateway, listen: Callable[..., Listener]
) -> None:
    listener = listen()
    simulator.control.faults.add(
        "duplicate", match={"api": "stream", "event": "executionReport"}, copies=2
    )
    place(gateway)
    told = listener.wait_for(ExecutionReport, 2)
    assert len({event.execution_id for event in told}) == 1


def test_stream__ends_when_its_key_is_revoked(
    simulator: Simulator, listen: Callable[..., Listener]
) -> None:
    listener = listen()
    simulator.control.revoke_key(simulator.api_key)
    (end,) = listener.wait_for(Terminated)
    assert end.code == -2015


def test_stream__moves_on_before_a_shutdown(
    simulator: Simulator, gateway: Gateway, listen: Callable[..., Listener]
) -> None:
    listener = listen()
    simulator.control.announce_shutdown(close_after=5.0)
    (gone, *_) = listener.wait_for(Disconnected)
    assert "serverShutdown" in gone.reason
    listener.wait_for(Connected, 2)


def test_stream__a_burst_arrives_whole(
    simulator: Simulator, gateway: Gateway, listen: Callable[..., Listener]
) -> None:
    listener = listen()
    names = [f"bo-burst-{number}" for number in range(50)]
    for name in names:
        place(gateway, name)
    for name in names:
        gateway.cancel(symbol=SYMBOL, client_order_id=name)
    told = [event.report for event in listener.wait_for(ExecutionReport, 100)]
    assert [report.client_order_id for report in told] == names * 2
    assert [report.status for report in told] == ["NEW"] * 50 + ["CANCELED"] * 50


def pem(key: Any) -> str:
    encoded: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return encoded.decode()


@pytest.mark.parametrize("kind", ["Ed25519", "RSA"])
def test_key__of_either_kind_signs_rest_and_stream(
    simulator: Simulator,
    account: ExchangeAccount,
    listen: Callable[..., Listener],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    secret = pem(
        ed25519.Ed25519PrivateKey.generate()
        if kind == "Ed25519"
        else rsa.generate_private_key(public_exponent=65537, key_size=2048)
    )
    simulator.control.add_key("main", "asymmetric", secret)
    monkeypatch.setenv("EXCHANGE_MAIN_API_KEY", "asymmetric")
    monkeypatch.setenv("EXCHANGE_MAIN_API_SECRET", secret)
    gateway = get_gateway(account)
    gateway.forget_clock()
    listener = listen()
    place(gateway)
    assert gateway.fetch_order(symbol=SYMBOL, client_order_id="bo-stream-1").status == "NEW"
    assert listener.wait_for(ExecutionReport)[0].report.client_order_id == "bo-stream-1"
