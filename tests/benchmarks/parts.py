"""Start everything for a benchmark: a database as durable as in production, Redis, the exchange."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

import psycopg

from backoffice.local.embedded import RedisServer, free_port
from backoffice.local.postgres import PostgresServer
from tests.benchmarks import STAMPS_FILE, figures
from tests.benchmarks.direct import READY as DIRECT_READY
from tests.benchmarks.figures import Sample
from tests.benchmarks.traffic import ACCOUNT, SYMBOLS, Bot
from tests.harness.processes import ROOT, ChildProcess
from tests.harness.simulator import API_KEY, API_SECRET, Simulator
from tests.harness.waiting import wait_for

BALANCE = 50_000_000
SIMULATOR_OPTIONS = (
    *("--seed", "7", "--tick-ms", "1000", "--balances", f"USDT={BALANCE},BTC=1000"),
    *(
        "--order-limit-10s",
        "0",
        "--order-limit-day",
        "0",
        "--weight-limit",
        "100000000",
        "--raw-limit",
        "100000000",
    ),
)
#: No beat runs here to compare accounts every 15 s, and the placing path must not do it instead.
ENVIRONMENT = {
    "DEBUG": "off",
    "LOG_JSON": "on",
    "LOG_LEVEL": "INFO",
    "CELERY_TASK_ALWAYS_EAGER": "off",
    "MAX_UNSYNCED_SECONDS": "3600",
}
DEFAULT_OFFICES: Mapping[str, Mapping[str, str]] = {"PostgreSQL": {}}
SPREAD_ACCOUNTS = tuple(f"bench-{number}" for number in range(1, 21))
SPREAD_BURST = 200
#: Environment variable of an office: threads of each worker, if not those of the options.
THREADS = "BENCH_WORKER_THREADS"
CANCELS = 5
ACKNOWLEDGED = ("NEW", "PARTIALLY_FILLED", "FILLED")


class DirectBot:
    """A bot process that places with `wait=True`: see `tests.benchmarks.direct`."""

    def __init__(self, env: Mapping[str, str], log: Path) -> None:
        self._env, self._log = env, log
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.benchmarks.direct"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=dict(self._env),
                cwd=ROOT,
                text=True,
            )
        self._line(DIRECT_READY)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def place(self, orders: int, per_second: float | None) -> list[tuple[int, int, str]]:
        """Return when each call began and returned, and the order's status."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{orders} {per_second or 0}\n")
        self._process.stdin.flush()
        return [(began, ended, status) for began, ended, status in json.loads(self._line("["))]

    def stop(self) -> None:
        if self._process is not None:
            self._process.communicate(timeout=20)

    def _line(self, start: str) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith(start):
            raise RuntimeError(f"the direct bot ended: see {self._log}")
        return line


@dataclass
class BackOffice:
    """One database with its workers, its own broker and its own account at the exchange."""

    name: str
    env: Mapping[str, str]
    directory: Path
    workers: list[ChildProcess]
    bot: Bot
    database_pid: int
    redis_pid: int
    connect: Callable[[], psycopg.Connection]
    direct: DirectBot | None = None
    helper: ChildProcess | None = None  # for cancels, and readings that the gate lacks
    committed: dict[str, int] = field(default_factory=dict)  # intent id -> our stamp, of all rounds
    _read: int = 0

    @property
    def stamps_file(self) -> Path:
        return self.directory / "stamps"

    def start(self) -> None:
        if self.direct is not None:
            self.direct.start()
        children = [*self.workers, *([self.helper] if self.helper else [])]
        for child in children:
            child.start(wait=False)
        for child in children:
            child.wait_until_ready()

    def warm_up(self) -> None:
        """Let every thread connect and every symbol be caught up."""
        self.measure(figures.Cell(), SYMBOLS * 2, 10)
        self.measure(figures.Cell(), 60, None)
        if self.direct is not None:
            self.measure_direct(figures.Cell(), 20, None)

    def measure_cancels(self, accounts: Sequence[str]) -> list[float]:
        """Send a burst over the accounts with cancels in its middle. Return their times in ms."""
        resting = [self.bot.rest(name) for name in accounts[:CANCELS]]
        self._stamps({intent_id for intent_id, _ in resting})
        called_at: dict[str, int] = {}

        def cancel_in_the_middle(enqueued: int) -> None:
            number, rest = divmod(enqueued - SPREAD_BURST // 3, 10)
            if not rest and 0 <= number < CANCELS:
                intent_id, _ = resting[number]
                called_at[intent_id] = self.bot.cancel(accounts[number], intent_id)

        self.measure(
            figures.Cell(), SPREAD_BURST, None, accounts=accounts, after_each=cancel_in_the_middle
        )
        closed_at: dict[str, float] = {}

        def all_closed() -> bool:
            with self.connect() as connection:
                rows = connection.execute(
                    "SELECT intent_id, extract(epoch FROM closed_at) FROM orders_order"
                    " WHERE intent_id = ANY(%s) AND status = 'CANCELED'",
                    [list(called_at)],
                ).fetchall()
            closed_at.update({intent_id: float(at) for intent_id, at in rows})
            return len(closed_at) == len(called_at)

        wait_for(all_closed, timeout=60, every=0.2, what="every cancel is recorded")
        return [closed_at[intent_id] * 1000 - at / 1e6 for intent_id, at in called_at.items()]

    def gate_milliseconds(self) -> float:
        """Return the cost of gate and reservation per order, as the difference of two medians."""
        program = [sys.executable, "-m", "tests.benchmarks.gate", ACCOUNT]
        told = subprocess.run(
            program, cwd=ROOT, env={**self.env}, check=True, capture_output=True, text=True
        )
        medians = json.loads(told.stdout.splitlines()[-1])
        return float(medians["with"]) - float(medians["without"])

    def measure(
        self,
        cell: figures.Cell,
        orders: int,
        per_second: float | None,
        *,
        accounts: Sequence[str] = (ACCOUNT,),
        after_each: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Send one round and add its orders to the cell."""
        processes = [worker.pid for worker in self.workers], [self.database_pid], [self.redis_pid]
        before = [figures.cpu_seconds(pids) for pids in processes]
        called_at = self.bot.enqueue(orders, per_second, accounts=accounts, after_each=after_each)
        stamps = self._stamps(set(called_at))
        after = [figures.cpu_seconds(pids) for pids in processes]
        cpu = [late - early for early, late in zip(before, after, strict=True)]
        samples = [
            Sample(called_at[intent_id], started_at, committed_at)
            for intent_id, (started_at, committed_at, status) in stamps.items()
            if status in ACKNOWLEDGED
        ]
        if not all(sample.committed_at for sample in samples):
            raise RuntimeError("an order has no stamp: the worker's patch missed the recording")
        self.committed |= {
            intent_id: row[1] for intent_id, row in stamps.items() if row[2] in ACKNOWLEDGED
        }
        cell.add_round(
            samples,
            refused=orders - len(samples),
            worker_cpu=cpu[0],
            database_cpu=cpu[1],
            redis_cpu=cpu[2],
        )

    def measure_direct(self, cell: figures.Cell, orders: int, per_second: float | None) -> None:
        """Let the bot place one round in its own process, and add its orders to the cell."""
        assert self.direct is not None
        processes = [self.direct.pid], [self.database_pid], [self.redis_pid]
        before = [figures.cpu_seconds(pids) for pids in processes]
        placed = self.direct.place(orders, per_second)
        after = [figures.cpu_seconds(pids) for pids in processes]
        cpu = [late - early for early, late in zip(before, after, strict=True)]
        samples = [Sample(began, 0, ended) for began, ended, word in placed if word in ACKNOWLEDGED]
        cell.add_round(
            samples,
            refused=orders - len(samples),
            worker_cpu=cpu[0],
            database_cpu=cpu[1],
            redis_cpu=cpu[2],
        )

    def stages_since(self, began: datetime) -> list[Sequence[int]]:
        """Return the stored durations of the stages of each order acknowledged since then."""
        with self.connect() as connection:
            rows = connection.execute(
                "SELECT stage_us FROM orders_exchangeorder"
                " WHERE sent_at >= %s AND acknowledged_at IS NOT NULL",
                [began],
            ).fetchall()
        return [stages for (stages,) in rows]

    def _stamps(self, intent_ids: set[str]) -> dict[str, tuple[int, int, str]]:
        """Wait for every order's line: intent id -> (task began, commit returned, status)."""
        found: dict[str, tuple[int, int, str]] = {}

        def all_there() -> bool:
            if self.stamps_file.exists():
                with self.stamps_file.open("rb") as file:
                    file.seek(self._read)
                    new = file.read()
                new = new[: new.rfind(b"\n") + 1]
                self._read += len(new)
                for line in new.decode().splitlines():
                    intent_id, started_at, committed_at, status = line.split()
                    found[intent_id] = (int(started_at), int(committed_at), status)
            return intent_ids <= found.keys()

        wait_for(all_there, timeout=60, every=0.05, what=f"every order is done on {self.name}")
        return {intent_id: found[intent_id] for intent_id in intent_ids}


class Parts:
    """All parts, in one temporary folder. `close` stops and removes them."""

    def __init__(
        self,
        *,
        workers: int,
        worker_options: Sequence[str],
        offices: Mapping[str, Mapping[str, str]] = DEFAULT_OFFICES,
        roots: Mapping[str, Path] | None = None,
        is_full: bool = False,
    ) -> None:
        """Start one back office for each name in `offices`, with its own environment variables.

        `roots` names the folder of an office's code, if that is another than this one's.
        `is_full`: with a bot that places directly, and more accounts.
        """
        self._stack = ExitStack()
        self.directory = Path(tempfile.mkdtemp(prefix="backoffice-bench-"))
        self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self.directory.chmod(
            0o711
        )  # PostgreSQL may run as another user, who must reach its own folder below.
        self._workers = workers
        self._office_env = offices
        self._roots = roots or {}
        self._is_full = is_full
        self._worker_options = worker_options
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._stack.close()

    def stop_offices(self) -> None:
        """Stop the workers, so the next measurement has the machine to itself."""
        for office in self.offices:
            for worker in (*office.workers, *([office.helper] if office.helper else [])):
                worker.stop()

    def _start(self) -> None:
        self.simulator = Simulator(self.directory, options=SIMULATOR_OPTIONS)
        self.simulator.start()
        self._stack.callback(self.simulator.stop)
        self.redis = RedisServer(self.directory / "redis", port=free_port(), keep_data=True)
        self.redis.start()
        self._stack.callback(self.redis.stop)
        self.postgres = self._durable_postgres()
        assert self.postgres.process is not None
        self.offices = [
            self._office(name, number, own, self.postgres.process.pid)
            for number, (name, own) in enumerate(self._office_env.items(), start=1)
        ]
        for office in self.offices:
            office.start()

    def _durable_postgres(self) -> PostgresServer:
        """Start a server with fsync and synchronous_commit, which also records its commit times."""
        server = PostgresServer(self.directory / "postgres", durable=True)
        self._stack.callback(server.stop)
        server.start()
        with server.connect() as connection:
            connection.execute("ALTER SYSTEM SET track_commit_timestamp = on")
            for number, _ in enumerate(self._office_env, start=1):
                connection.execute(f"CREATE DATABASE bench_{number}")
        server.restart()
        return server

    def _office(
        self, name: str, number: int, own: Mapping[str, str], database_pid: int
    ) -> BackOffice:
        database_url = self.postgres.url(f"bench_{number}")
        directory = self.directory / f"office-{number}"
        directory.mkdir(exist_ok=True)
        key, secret = f"{API_KEY}-{number}", f"{API_SECRET}-{number}"
        self.simulator.control.add_account(
            directory.name, {"USDT": BALANCE}, api_key=key, api_secret=secret
        )
        redis_url = self.redis.url.removesuffix("/0") + f"/{number}"
        env = {
            **os.environ,
            **ENVIRONMENT,
            **self.simulator.environment(ACCOUNT),
            f"EXCHANGE_{ACCOUNT.upper()}_API_KEY": key,
            f"EXCHANGE_{ACCOUNT.upper()}_API_SECRET": secret,
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "DEPLOYMENT_ID": f"bench-{number}",
            STAMPS_FILE: str(directory / "stamps"),
            **own,
        }
        accounts = [ACCOUNT, *(SPREAD_ACCOUNTS if self._is_full else ())]
        for other in accounts[1:]:
            own_key, own_secret = f"{key}-{other}", f"{secret}-{other}"
            self.simulator.control.add_account(
                f"{directory.name}-{other}",
                {"USDT": BALANCE},
                api_key=own_key,
                api_secret=own_secret,
            )
            prefix = f"EXCHANGE_{other.upper().replace('-', '_')}"
            env |= self.simulator.environment(other)
            env |= {f"{prefix}_API_KEY": own_key, f"{prefix}_API_SECRET": own_secret}
        prepare = [sys.executable, "-m", "tests.benchmarks.prepare", *accounts]
        root = self._roots.get(name, ROOT)
        subprocess.run(prepare, cwd=root, env=env, check=True)
        bot = Bot(redis_url)
        self._stack.callback(bot.close)
        workers = [self._worker(directory, root, index, env) for index in range(self._workers)]
        assert self.redis.process is not None
        connect = partial(self.postgres.connect, f"bench_{number}")
        pids = database_pid, self.redis.process.pid
        office = BackOffice(name, env, directory, workers, bot, *pids, connect)
        office.helper = self._worker(directory, root, len(workers), env, queue="cancel,duties")
        if self._is_full:
            office.direct = DirectBot(env, directory / "direct.log")
            self._stack.callback(office.direct.stop)
        return office

    def start_naive(self) -> BackOffice:
        """Start the naive pipeline on the same servers, with its own database and account."""
        number = len(self.offices) + 1
        directory = self.directory / "naive"
        directory.mkdir()
        key, secret = f"{API_KEY}-naive", f"{API_SECRET}-naive"
        self.simulator.control.add_account(
            "naive", {"USDT": BALANCE}, api_key=key, api_secret=secret
        )
        with self.postgres.connect() as connection:
            connection.execute(f"CREATE DATABASE bench_{number}")
        redis_url = self.redis.url.removesuffix("/0") + f"/{number}"
        env = {
            **os.environ,
            "DATABASE_URL": self.postgres.url(f"bench_{number}"),
            "REDIS_URL": redis_url,
            "NAIVE_EXCHANGE_URL": self.simulator.url,
            "NAIVE_EXCHANGE_KEY": key,
            "NAIVE_EXCHANGE_SECRET": secret,
            STAMPS_FILE: str(directory / "stamps"),
        }
        prepare = [sys.executable, "-m", "tests.benchmarks.naive.prepare"]
        subprocess.run(prepare, cwd=ROOT, env=env, check=True)
        program = [sys.executable, "-m", "celery", "-A", "tests.benchmarks.naive.worker", "worker"]
        worker = ChildProcess(
            "naive-worker",
            [*program, "-Q", "trading", "--pool", "prefork", "--concurrency", "4", "-l", "INFO"],
            env=env,
            log=directory / "worker.log",
            ready="ready.",
        )
        self._stack.callback(worker.stop)
        bot = Bot(redis_url)
        self._stack.callback(bot.close)
        assert self.postgres.process is not None
        assert self.redis.process is not None
        pids = self.postgres.process.pid, self.redis.process.pid
        connect = partial(self.postgres.connect, f"bench_{number}")
        naive = BackOffice("naive", env, directory, [worker], bot, *pids, connect)
        naive.start()
        return naive

    def _worker(
        self,
        directory: Path,
        root: Path,
        index: int,
        env: Mapping[str, str],
        queue: str = "trading",
    ) -> ChildProcess:
        program = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "tests.benchmarks.worker",
            "worker",
            "-Q",
            queue,
        ]
        own = ["--concurrency", env[THREADS]] if THREADS in env else []
        argv = [*program, "--hostname", f"bench-{index}@%h", *self._worker_options, *own]
        worker = ChildProcess(
            f"{directory.name}-worker-{index}",
            argv,
            env=env,
            log=directory / f"worker-{index}.log",
            ready="ready.",
            cwd=root,
        )
        self._stack.callback(worker.stop)
        return worker
