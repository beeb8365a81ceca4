"""Measure the cost of following accounts, and how fast the book follows the exchange.

Three accounts with 10, 1,000 and 5,000 open orders stand each on an exchange of its own that counts
its weight. One back office follows them and notifies an orchestrator of every change: worker, beat,
listener, and the orchestrator's worker.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from celery import Celery

from backoffice.local.embedded import RedisServer, free_port
from backoffice.local.postgres import PostgresServer
from backoffice.local.run import WORKER_OPTIONS
from exchanges.simulator.engine.default_symbols import DEFAULT_SYMBOLS
from exchanges.simulator.engine.symbol_spec import SymbolSpec
from tests.benchmarks import STAMPS_FILE
from tests.benchmarks.figures import cpu_seconds
from tests.benchmarks.told import QUEUE, TASK
from tests.benchmarks.traffic import _SYMBOLS, BareExchange, paced
from tests.harness.processes import ROOT, ChildProcess
from tests.harness.simulator import Simulator
from tests.harness.waiting import wait_for

ACCOUNTS = {"few": 10, "many": 1_000, "most": 5_000}
# Each fill is two events: one of the order, one of the balances.
FILLS_PER_SECOND = 25
FILLS = 250
BURST = 1_000
WARM_UP = 20
_RECONCILED_EVERY_MINUTES = 15
_EXCHANGE_OPTIONS = (
    *("--frozen", "--order-limit-10s", "0", "--order-limit-day", "0"),
    *("--balances", "USDT=10000000,BTC=100,ETH=1000,BNB=10000,SOL=10000,XRP=1000000,DOGE=1000000"),
)
_ENVIRONMENT = {
    "DEBUG": "off",
    "LOG_JSON": "on",
    "LOG_LEVEL": "INFO",
    "CELERY_TASK_ALWAYS_EAGER": "off",
    "ORDER_EVENTS_TASK": TASK,
    "ORDER_EVENTS_QUEUE": QUEUE,
}
Say = Callable[[str], None]


@dataclass
class Tracking:
    """Figures in milliseconds, unless the name says otherwise."""

    weight_at_rest: dict[int, float] = field(
        default_factory=dict
    )  # by open orders: weight per minute
    weight_of_reconciling: dict[int, float] = field(default_factory=dict)  # of one run
    reconcile_seconds: float = 0.0
    committed: list[float] = field(
        default_factory=list
    )  # exchange's time of the event -> commit, ascending
    burst_seconds: float = 0.0
    burst_lost: int = 0
    told: list[float] = field(
        default_factory=list
    )  # commit -> start of the orchestrator's task, ascending
    listener_cpu_ms: float = 0.0  # per event

    def per_minute(self, open_orders: int) -> float:
        """Return the weight per minute, with a share of the reconciliation of every 15 minutes."""
        at_rest, run = self.weight_at_rest[open_orders], self.weight_of_reconciling[open_orders]
        return at_rest + run / _RECONCILED_EVERY_MINUTES


def measure_tracking(say: Say) -> Tracking:
    result = Tracking()
    with TemporaryDirectory(prefix="backoffice-tracking-") as folder, ExitStack() as stack:
        Path(folder).chmod(
            0o711
        )  # PostgreSQL may run as another user, who must reach its own folder below.
        say("starting the parts that track ...")
        parts = _Parts(Path(folder), stack)
        say(f"leaving {', '.join(f'{count:,}' for count in ACCOUNTS.values())} orders open ...")
        parts.leave_orders_open()
        say("the book follows ...")
        parts.start_processes()
        say("a minute at rest ...")
        result.weight_at_rest = parts.weight_of_a_minute()
        say("reconciling each account ...")
        with parts.without_schedule():
            for name, count in ACCOUNTS.items():
                result.reconcile_seconds, result.weight_of_reconciling[count] = parts.reconcile(
                    name
                )
        say(f"{FILLS} fills, {FILLS_PER_SECOND} a second ...")
        result.listener_cpu_ms, result.committed = parts.fill_steadily()
        say(f"a burst of {BURST} fills ...")
        result.burst_seconds, result.burst_lost = parts.fill_at_once()
        result.told = parts.told_after()
    return result


def _unlimited(spec: SymbolSpec) -> dict[str, Any]:
    info = spec.exchange_info(spec.status)
    info["filters"] = [row for row in info["filters"] if row["filterType"] != "MAX_NUM_ORDERS"]
    return info


class _Parts:
    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._directory, self._stack = directory, stack
        self._exchanges = {name: self._exchange(name) for name in ACCOUNTS}
        redis = RedisServer(directory / "redis", port=free_port(), keep_data=True)
        redis.start()
        stack.callback(redis.stop)
        server = PostgresServer(directory / "postgres", durable=True)
        stack.callback(server.stop)
        server.start()
        with server.connect() as connection:
            connection.execute("ALTER SYSTEM SET track_commit_timestamp = on")
            connection.execute("CREATE DATABASE bench")
        server.restart()
        self._postgres = server
        self._stamps, self._told = directory / "stamps", directory / "told"
        self._env = {
            **os.environ,
            **_ENVIRONMENT,
            "DATABASE_URL": server.url("bench"),
            "REDIS_URL": redis.url,
            "DEPLOYMENT_ID": "bench",
            STAMPS_FILE: str(self._stamps),
        }
        for name, exchange in self._exchanges.items():
            self._env |= exchange.environment(name)
        self._run("tests.benchmarks.prepare", *ACCOUNTS)
        self._broker = Celery(
            "bench", broker=redis.url, backend=redis.url, fixups=[], set_as_current=False
        )
        stack.callback(self._broker.close)

    # -- setting up

    def _exchange(self, name: str) -> Simulator:
        # The default symbols without the filter that allows 200 open orders.
        symbols = self._directory / "symbols.json"
        symbols.write_text(json.dumps([_unlimited(spec) for spec in DEFAULT_SYMBOLS]))
        options = (*_EXCHANGE_OPTIONS, "--symbols", str(symbols))
        exchange = Simulator(self._directory, options=options, name=f"exchange-{name}")
        self._stack.callback(exchange.stop)
        exchange.start()
        return exchange

    def _run(self, module: str, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, "-m", module, *arguments], cwd=ROOT, env=self._env, check=True
        )

    def leave_orders_open(self) -> None:
        for name, count in ACCOUNTS.items():
            self._run("tests.benchmarks.resting", name, str(count))

    def start_processes(self) -> None:
        """Start the processes and wait until the stream's second comparison is over."""
        celery = [sys.executable, "-m", "celery", "-A"]
        self._child("worker", [*celery, "backoffice", "worker", *WORKER_OPTIONS], "ready.")
        self._beat = self._child("beat", [*celery, "backoffice", "beat"], "beat: Starting...")
        bot = [*celery, "tests.benchmarks.told", "worker", "-Q", QUEUE, "--pool", "solo"]
        self._child(
            "bot",
            [*bot, "--without-gossip", "--without-mingle", "-l", "INFO"],
            "ready.",
            stamps=self._told,
        )
        self._listener = self._child(
            "listener", [sys.executable, "-m", "tests.benchmarks.listener"], "listener_started"
        )
        wait_for(
            lambda: self._listener.output().count('"account_reconciled"') >= len(ACCOUNTS),
            timeout=120,
            every=0.2,
            what="the listener has caught up with every account",
        )

    def _child(
        self, name: str, argv: list[str], ready: str, *, stamps: Path | None = None
    ) -> ChildProcess:
        env = self._env if stamps is None else {**self._env, STAMPS_FILE: str(stamps)}
        child = ChildProcess(name, argv, env=env, log=self._directory / f"{name}.log", ready=ready)
        self._stack.callback(child.stop)
        child.start()
        return child

    # -- weight

    def weight_of_a_minute(self) -> dict[int, float]:
        """Return the weight that each exchange counted in one whole minute of the clock."""
        time.sleep(60 - time.time() % 60 + 59.5)
        return {ACCOUNTS[name]: self._used_weight(name) for name in ACCOUNTS}

    def _used_weight(self, name: str) -> float:
        """Return the weight used in this minute, counted by the exchange, without this request."""
        connection = http.client.HTTPConnection(
            urlsplit(self._exchanges[name].url).netloc, timeout=10
        )
        try:
            connection.request("GET", "/api/v3/ping")
            return int(connection.getresponse().headers["X-MBX-USED-WEIGHT-1M"]) - 1
        finally:
            connection.close()

    @contextmanager
    def without_schedule(self) -> Iterator[None]:
        """Stop the beat, whose syncs would add to the measured weight."""
        self._beat.stop()
        yield
        self._beat.start()

    def reconcile(self, name: str) -> tuple[float, float]:
        """Return the seconds from the message to the result of a reconciliation, and its weight."""
        if time.time() % 60 > 45:
            time.sleep(60 - time.time() % 60)  # keep its weight within one minute
        before, began = self._used_weight(name), time.perf_counter()
        task = self._broker.send_task(
            "orders.reconcile_account", (name,), queue="sync", ignore_result=False
        )
        counts = task.get(timeout=60)
        seconds = time.perf_counter() - began
        if any(number for name, number in counts.items() if name != "seen"):
            raise RuntimeError(f"the book was not the exchange's: {counts}")
        return seconds, self._used_weight(name) - before - 1

    # -- events

    def fill_steadily(self) -> tuple[float, list[float]]:
        """Return CPU milliseconds per event, and the ascending delays of the commits."""
        waiting = iter(self._open_orders("many"))
        control = self._exchanges["many"].control

        def fill() -> None:
            symbol, client_order_id = next(waiting)
            control.fill(symbol, client_order_id=client_order_id)

        paced(WARM_UP, FILLS_PER_SECOND, fill)
        self._wait_for_stamps(WARM_UP)
        before = cpu_seconds([self._listener.pid])
        paced(FILLS, FILLS_PER_SECOND, fill)
        rows = self._wait_for_stamps(WARM_UP + FILLS)[WARM_UP:]
        cpu = cpu_seconds([self._listener.pid]) - before
        return cpu * 1000 / (2 * FILLS), sorted(
            (committed - event) / 1e6 for event, committed in rows
        )

    def fill_at_once(self) -> tuple[float, int]:
        """Sell into the remaining orders at once. Return the seconds until all are in the book."""
        open_orders, known = self._open_orders("most"), len(self._stamp_rows())
        taken: dict[str, int] = {}
        for symbol, _ in open_orders[:BURST]:
            taken[symbol] = taken.get(symbol, 0) + 1
        seller = self._seller()
        began = time.time_ns()
        for coin in _SYMBOLS:
            if count := taken.get(f"{coin.base}USDT", 0):
                quantity = format(count * Decimal(coin.quantity), "f")
                seller.place_at(
                    f"{coin.base}USDT", quantity, coin.far_price, f"sell-{coin.base}", side="SELL"
                )
        rows = self._wait_for_stamps(known + BURST)[known:]
        lost = self._differences("most")
        return (max(committed for _, committed in rows) - began) / 1e9, lost

    def _seller(self) -> BareExchange:
        exchange = self._exchanges["most"]
        balances = {symbol.base: 1_000_000 for symbol in _SYMBOLS}
        exchange.control.add_account(
            "seller", balances, api_key="seller-key", api_secret="seller-secret"
        )
        return BareExchange(exchange.url, "seller-key", "seller-secret")

    def _open_orders(self, name: str) -> list[tuple[str, str]]:
        """Return symbol and client order id of each open order, alternating between symbols."""
        rows = self._exchanges[name].control.truth().raw["accounts"]["main"]["orders"]
        rows = sorted(
            (row for row in rows if row["status"] == "NEW"), key=lambda row: int(row["order_id"])
        )
        return [(row["symbol"], row["client_order_id"]) for row in rows]

    def _differences(self, name: str) -> int:
        """Return the number of orders whose status or fills differ from the exchange's."""
        orders = self._exchanges[name].control.truth().raw["accounts"]["main"]["orders"]
        with self._postgres.connect("bench") as connection:
            book = {
                client_order_id: (status, filled, fills)
                for client_order_id, status, filled, fills in connection.execute(
                    """
                    SELECT e.client_order_id, o.status, o.filled_quantity,
                           (SELECT coalesce(sum(f.quantity), 0)
                              FROM orders_fill f WHERE f.order_id = o.id)
                      FROM orders_order o JOIN orders_exchangeorder e ON e.order_id = o.id
                      JOIN exchanges_exchangeaccount a ON a.id = o.account_id WHERE a.name = %s
                    """,
                    (name,),
                )
            }
        different = 0
        for row in orders:
            status, filled, fills = book[row["client_order_id"]]
            executed = type(filled)(row["executed_quantity"])
            different += not (status == row["status"] and filled == fills == executed)
        return different

    # -- stamps

    def _stamp_rows(self) -> list[tuple[int, int]]:
        lines = self._stamps.read_text().splitlines() if self._stamps.exists() else []
        return [
            (int(event_at), int(committed_at))
            for _, event_at, committed_at in map(str.split, lines)
        ]

    def _wait_for_stamps(self, count: int) -> list[tuple[int, int]]:
        wait_for(
            lambda: len(self._stamp_rows()) >= count,
            timeout=60,
            every=0.1,
            what=f"{count} events are committed",
        )
        return self._stamp_rows()

    def told_after(self) -> list[float]:
        """Return the milliseconds from each steady fill's commit to the orchestrator's task."""
        stamps = [
            line.split()
            for line in self._stamps.read_text().splitlines()[WARM_UP : WARM_UP + FILLS]
        ]
        with self._postgres.connect("bench") as connection:
            rows = connection.execute(
                "SELECT e.client_order_id, o.intent_id FROM orders_exchangeorder e"
                " JOIN orders_order o ON o.id = e.order_id"
                " JOIN exchanges_exchangeaccount a ON a.id = o.account_id"
                " WHERE a.name = 'many'"
            ).fetchall()
        intents: dict[str, str] = dict(rows)
        committed = {intents[client_order_id]: int(at) for client_order_id, _, at in stamps}

        def started() -> dict[str, int]:
            lines = self._told.read_text().splitlines() if self._told.exists() else []
            return {intent_id: int(at) for intent_id, _, at in map(str.split, reversed(lines))}

        wait_for(
            lambda: committed.keys() <= started().keys(),
            timeout=60,
            every=0.1,
            what="the bot has heard every change",
        )
        told = started()
        return sorted((told[intent_id] - at) / 1e6 for intent_id, at in committed.items())
