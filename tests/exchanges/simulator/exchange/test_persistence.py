"""Restart an exchange with its state."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest

from exchanges.simulator.client import ControlClient
from exchanges.simulator.engine.enums import OrderType, Side, TimeInForce
from exchanges.simulator.engine.types import NewOrder, units
from exchanges.simulator.exchange.exchange import Exchange, Settings
from exchanges.simulator.exchange.persistence import HEADER, StateError, StateFile, dump, load
from tests.exchanges.simulator.conftest import RawClient, make_exchange
from tests.exchanges.simulator.helpers import start_process, until


def place(exchange: Exchange, client_order_id: str | None = None, price: str = "50000") -> str:
    order = NewOrder(
        "BTCUSDT",
        Side.BUY,
        OrderType.LIMIT,
        TimeInForce.GTC,
        quantity=units("0.01"),
        price=units(price),
        client_order_id=client_order_id,
    )
    return exchange.engine.place("main", order).order.client_order_id


def reopened(exchange: Exchange) -> Exchange:
    """Return the same exchange after a restart."""
    other = make_exchange()
    other.restore(*load(dump(exchange.engine, exchange.market), other.clock))
    return other


def test_restore__orders_trades_balances_and_ids() -> None:
    exchange = make_exchange()
    place(exchange, "open")
    place(exchange, "part")
    part = exchange.engine.order("main", "BTCUSDT", orig_client_order_id="part")
    exchange.engine.fill("BTCUSDT", part.order_id, units("0.004"))
    other = reopened(exchange)
    assert other.engine.truth() == exchange.engine.truth()
    assert other.engine.depth("BTCUSDT") == exchange.engine.depth("BTCUSDT")
    other.engine.fill("BTCUSDT", part.order_id)
    assert other.engine.order("main", "BTCUSDT", order_id=part.order_id).status == "FILLED"
    place(other, "next")
    assert (
        other.engine.order("main", "BTCUSDT", orig_client_order_id="next").order_id > part.order_id
    )


def test_restore__ids_made_by_the_exchange_do_not_come_again() -> None:
    exchange = make_exchange()
    given = {place(exchange) for _ in range(5)}
    given |= {place(reopened(make_exchange())) for _ in range(5)}
    assert len(given) == 10


def test_restore__frozen_as_this_run_wants_it() -> None:
    saved = dump(make_exchange().engine, make_exchange().market)
    lively = Exchange(Settings(frozen=False))
    lively.restore(*load(dump(make_exchange().engine, make_exchange().market), lively.clock))
    assert not lively.market.frozen
    frozen = make_exchange()
    frozen.restore(*load(saved, frozen.clock))
    assert frozen.market.frozen


@pytest.mark.parametrize("data", [b"", b"nonsense", HEADER + b"nonsense", b"simulator state 0\n"])
def test_load__refuses_what_is_not_ours(data: bytes) -> None:
    with pytest.raises(StateError):
        load(data, make_exchange().clock)


def test_read__no_file_is_a_first_start(tmp_path: Path) -> None:
    assert StateFile(tmp_path / "none").read(make_exchange().clock) is None


def started(state: Path) -> tuple[subprocess.Popen[str], str]:
    process = start_process("--port", "0", "--frozen", "--state", str(state), "--api-secret", "s")
    assert process.stdout is not None
    return process, process.stdout.readline().split()[-1]


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_main__remembers_across_restarts(tmp_path: Path, number: signal.Signals) -> None:
    state = tmp_path / "deep" / "state"
    ids = []
    for round_number in range(3):
        process, url = started(state)
        try:
            answer = (
                RawClient(url, "k", "s")
                .place(quantity="0.001", newClientOrderId=f"o-{round_number}")
                .json()
            )
            ids.append(answer["orderId"])
            assert ControlClient(url).truth().accepted_total() == round_number + 1
            process.send_signal(number)
            assert process.wait(5) == 0
        finally:
            process.kill()
            process.communicate()
    assert len(set(ids)) == 3


@pytest.mark.long
def test_main__a_kill_loses_about_a_second(tmp_path: Path) -> None:
    state = tmp_path / "state"
    process, url = started(state)
    try:
        RawClient(url, "k", "s").place(quantity="0.001", newClientOrderId="before")
        assert until(state.exists)
    finally:
        process.kill()
        process.communicate()
    process, url = started(state)
    try:
        assert ControlClient(url).truth().accepted("before") == 1
    finally:
        process.kill()
        process.communicate()


def test_main__says_when_the_file_cannot_be_read(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text("something else")
    process = start_process("--port", "0", "--state", str(state))
    output, error = process.communicate(timeout=20)
    assert (process.returncode, output) == (1, "")
    assert re.fullmatch(rf"simulator: {state}: .*\n", error)
    assert state.read_text() == "something else"


def test_main__says_what_to_do_with_the_state_of_another_version(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_bytes(b"simulator state 1\nan older pickle")
    process = start_process("--port", "0", "--state", str(state))
    output, error = process.communicate(timeout=20)
    assert (process.returncode, output) == (1, "")
    assert error == (
        f"simulator: {state}: another version of the simulator saved this file, so it cannot be "
        "read. Delete it to start with an empty exchange, and start with an empty database where "
        "the back office traded on it\n"
    )
    assert state.read_bytes() == b"simulator state 1\nan older pickle"
