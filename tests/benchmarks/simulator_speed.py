"""Measure the simulator: its engine alone, and order requests through REST on one core."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import hmac
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

from exchanges.simulator.engine.default_symbols import DEFAULT_SYMBOLS
from exchanges.simulator.engine.engine import Engine
from exchanges.simulator.engine.enums import OrderType, Side, TimeInForce
from exchanges.simulator.engine.types import NewOrder, units
from exchanges.simulator.exchange.market_maker import MarketMaker
from exchanges.simulator.server.server import COLLECT_AT
from tests.benchmarks.figures import cpu_seconds
from tests.benchmarks.parts import SIMULATOR_OPTIONS
from tests.harness.simulator import API_KEY, API_SECRET, Simulator

CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Speed:
    """`count` operations in `seconds` of wall time and `cpu` seconds of one core."""

    count: int
    seconds: float
    cpu: float

    @property
    def per_second(self) -> float:
        return self.count / self.seconds

    @property
    def per_core_second(self) -> float:
        """Return the rate of one core without other work, so other programs don't count."""
        return self.count / self.cpu


def engine_speed(orders: int = 40_000) -> Speed:
    """Send orders through the matching engine: two rest, two trade with them, over and over."""
    engine = Engine(
        DEFAULT_SYMBOLS,
        clock=lambda: time.time_ns() // 1000,
        seed=7,
        order_limits=(),
        history_limit=1000,
    )
    MarketMaker(engine, seed=7)
    for account in ("a", "b"):
        engine.add_account(account, {"USDT": units("1000000000"), "BTC": units("1000000")})
    work = _engine_orders(orders, Random(7))
    gc.set_threshold(*COLLECT_AT)  # as the simulator's own process does
    began, began_cpu = time.perf_counter(), time.process_time()
    for account, order in work:
        engine.place(account, order)
        engine.drain_events()
    return Speed(orders, time.perf_counter() - began, time.process_time() - began_cpu)


def _engine_orders(orders: int, random: Random) -> list[tuple[str, NewOrder]]:
    work: list[tuple[str, NewOrder]] = []
    while len(work) < orders:
        price = units(f"{random.randint(5_999_700, 6_000_300) / 100:.2f}")
        quantity = units(f"0.{random.randint(100, 900):05d}")
        for side, account in ((Side.BUY, "a"), (Side.SELL, "b")):
            work.append((account, _limit(side, price, quantity)))
        for side, account in ((Side.SELL, "b"), (Side.BUY, "a")):
            work.append((account, NewOrder("BTCUSDT", side, OrderType.MARKET, quantity=quantity)))
    return work[:orders]


def _limit(side: Side, price: int, quantity: int) -> NewOrder:
    return NewOrder(
        "BTCUSDT",
        side,
        OrderType.LIMIT,
        quantity=quantity,
        price=price,
        time_in_force=TimeInForce.GTC,
    )


def rest_speed(directory: Path, requests: int = 8_000) -> Speed:
    """Send signed order requests on keep-alive connections: place, cancel, market orders."""
    simulator = Simulator(directory, options=SIMULATOR_OPTIONS, name="simulator-alone")
    simulator.start()
    try:
        # Sign before the clock starts, because the client is not measured.
        stacks = [
            _signed_requests(simulator.url, number, requests // CONNECTIONS)
            for number in range(CONNECTIONS)
        ]
        asyncio.run(_send_all(simulator.url, [stack[:20] for stack in stacks]))
        stacks = [stack[20:] for stack in stacks]
        before, began = cpu_seconds([simulator.child.pid]), time.perf_counter()
        asyncio.run(_send_all(simulator.url, stacks))
        seconds = time.perf_counter() - began
        return Speed(sum(map(len, stacks)), seconds, cpu_seconds([simulator.child.pid]) - before)
    finally:
        simulator.stop()


def _signed_requests(url: str, connection: int, requests: int) -> list[bytes]:
    built: list[bytes] = []
    for number in range(requests // 4):
        name = f"bench-{connection}-{number}"
        market = "symbol=BTCUSDT&type=MARKET&quantity=0.001"
        built += [
            _signed(
                url,
                "POST",
                "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.001&price=42000"
                f"&newClientOrderId={name}",
            ),
            _signed(url, "DELETE", f"symbol=BTCUSDT&origClientOrderId={name}"),
            _signed(url, "POST", f"{market}&side=BUY"),
            _signed(url, "POST", f"{market}&side=SELL"),
        ]
    return built


def _signed(url: str, method: str, query: str) -> bytes:
    query = f"{query}&recvWindow=60000&timestamp={time.time_ns() // 1_000_000}"
    signature = hmac.new(API_SECRET.encode(), query.encode(), hashlib.sha256).hexdigest()
    lines = (
        f"{method} /api/v3/order?{query}&signature={signature} HTTP/1.1",
        f"Host: {urlsplit(url).netloc}",
        f"X-MBX-APIKEY: {API_KEY}",
        "Content-Length: 0",
    )
    return "\r\n".join((*lines, "", "")).encode()


async def _send_all(url: str, stacks: list[list[bytes]]) -> None:
    await asyncio.gather(*(_send(url, stack) for stack in stacks))


async def _send(url: str, requests: list[bytes]) -> None:
    """Send requests one after the other on one connection. Raise RuntimeError on a failure."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        for request in requests:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(
                    f"the simulator refused a request of the benchmark: {body.decode()}"
                )
    finally:
        writer.close()
        await writer.wait_closed()
