"""Load the simulator: its memory stays flat, and it's fast enough to be no bottleneck."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from tests.exchanges.simulator.conftest import now_ms, sign_text
from tests.exchanges.simulator.helpers import start_process

pytestmark = pytest.mark.long

ORDERS = 60_000
WARM = 20_000
CONNECTIONS = 4
GROWTH_BYTES = 8 * 2**20


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def trade(port: int, count: int) -> None:
    """Trade on one connection: a resting SELL, then the BUY that takes it, and so on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in range(count):
        side = ("SELL", "BUY")[number % 2]
        form = (
            f"symbol=BTCUSDT&side={side}&type=LIMIT&timeInForce=GTC&quantity=0.001&price=60000"
            f"&selfTradePreventionMode=NONE&recvWindow=60000&timestamp={now_ms()}"
        )
        body = f"{form}&signature={sign_text('s', form)}"
        head = (
            "POST /api/v3/order HTTP/1.1\r\nHost: x\r\nX-MBX-APIKEY: k\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        writer.write((head + body).encode())
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(answer.split(b"content-length: ")[1].split(b"\r\n")[0]))
        assert answer.startswith(b"http/1.1 200"), answer
    writer.close()


async def trade_all(port: int, count: int) -> None:
    await asyncio.gather(*(trade(port, count // CONNECTIONS) for _ in range(CONNECTIONS)))


def test_memory__is_flat_over_many_orders() -> None:
    process = start_process(
        "--port", "0", "--frozen", "--history-limit", "500", "--order-limit-10s", "0",
        "--order-limit-day", "0", "--raw-limit", "100000000", "--balances", "USDT=1000000,BTC=1000",
    )  # fmt: skip
    assert process.stdout is not None
    port = int(process.stdout.readline().rsplit(":", 1)[1])
    if not Path("/proc/self/statm").exists():
        pytest.skip("memory is read from /proc")
    try:
        asyncio.run(trade_all(port, WARM))
        warm = resident(process.pid)
        started = time.monotonic()
        asyncio.run(trade_all(port, ORDERS - WARM))
        print(f"{(ORDERS - WARM) / (time.monotonic() - started):.0f} orders/s")
        assert resident(process.pid) - warm < GROWTH_BYTES
    finally:
        process.kill()
        process.communicate()
