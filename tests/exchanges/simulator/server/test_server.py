"""Start and stop the simulator as a process."""

from __future__ import annotations

import signal
import socket
import time

import pytest
import requests

from exchanges.simulator.client import ControlClient
from tests.exchanges.simulator.conftest import RawClient
from tests.exchanges.simulator.helpers import start_process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_main__says_where_it_listens_and_stops_at_once(number: signal.Signals) -> None:
    process = start_process("--port", "0")
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        assert line.startswith("simulator ready on http://127.0.0.1:")
        url = line.split()[-1]
        with requests.Session() as session:
            assert session.get(f"{url}/api/v3/ping").json() == {}
            started = time.monotonic()
            process.send_signal(number)
            assert process.wait(5) == 0
            assert time.monotonic() - started < 1.5
    finally:
        process.kill()
        process.communicate()


def test_main__stops_at_once_with_work_under_way() -> None:
    process = start_process("--port", "0", "--latency-ms", "30000")
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]
    try:
        ControlClient(url).faults.add("never_answer", match={"path": "/api/v3/time"})
        held = [
            socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1]))) for _ in range(3)
        ]
        for connection, path in zip(held, ("ping", "time", "depth?symbol=BTCUSDT"), strict=True):
            connection.sendall(f"GET /api/v3/{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
        assert time.monotonic() - started < 1.5
        for connection in held:
            connection.close()
    finally:
        process.kill()
        process.communicate()


def test_main__names_a_taken_port(client: RawClient) -> None:
    port = client.url.rsplit(":", 1)[1]
    process = start_process("--port", port)
    output, error = process.communicate(timeout=20)
    assert process.returncode == 1
    assert f"port {port} is taken" in error
    assert output == ""


def test_main__bad_balances_are_named() -> None:
    process = start_process("--port", "0", "--balances", "USDT=many")
    _, error = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "'USDT=many' is not ASSET=AMOUNT" in error
