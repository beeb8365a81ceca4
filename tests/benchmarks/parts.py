"""What a benchmark runs on, started for it alone: databases as durable as in production, Redis, the exchange."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from backoffice.embedded import RedisServer, free_port
from tests.benchmarks import STAMPS_FILE, figures
from tests.benchmarks.figures import Sample
from tests.benchmarks.traffic import ACCOUNT, SYMBOLS, Bot
from tests.harness.postgres import PostgresServer
from tests.harness.processes import ROOT, ChildProcess
from tests.harness.simulator import API_KEY, API_SECRET, Simulator
from tests.harness.waiting import wait_for

BALANCE = 50_000_000
SIMULATOR_OPTIONS = (
    *("--seed", "7", "--tick-ms", "1000", "--balances", f"USDT={BALANCE},BTC=1000"),
    *("--order-limit-10s", "0", "--order-limit-day", "0", "--weight-limit", "100000000", "--raw-limit", "100000000"),
)
#: No beat runs here, which compares accounts with the exchange every 15 s; so that the placing path need not do it.
ENVIRONMENT = {
    "DEBUG": "off",
    "LOG_JSON": "on",
    "LOG_LEVEL": "INFO",
    "CELERY_TASK_ALWAYS_EAGER": "off",
    "MAX_UNSYNCED_SECONDS": "3600",
}
ACKNOWLEDGED = ("NEW", "PARTIALLY_FILLED", "FILLED")


@dataclass
class BackOffice:
    """One database with its workers, its own broker database and its own account at the exchange."""

    name: str
    env: Mapping[str, str]
    directory: Path
    workers: list[ChildProcess]
    bot: Bot
    database_pid: int | None  # None: the database lives within the workers
    committed: dict[str, int] = field(default_factory=dict)  # intent id -> our stamp, of all rounds
    _read: int = 0

    @property
    def stamps_file(self) -> Path:
        return self.directory / "stamps"

    def start(self) -> None:
        for worker in self.workers:
            worker.start(wait=False)
        for worker in self.workers:
            worker.wait_until_ready()

    def warm_up(self) -> None:
        """Every thread connects, every symbol is caught up with."""
        self.measure(figures.Cell(), SYMBOLS * 2, 10)
        self.measure(figures.Cell(), 60, None)

    def gate_milliseconds(self) -> float:
        """What the gate and the reservation add to recording an order: the difference of two medians."""
        program = [sys.executable, "-m", "tests.benchmarks.gate", ACCOUNT]
        told = subprocess.run(program, cwd=ROOT, env={**self.env}, check=True, capture_output=True, text=True)
        medians = json.loads(told.stdout.splitlines()[-1])
        return float(medians["with"]) - float(medians["without"])

    def measure(self, cell: figures.Cell, orders: int, per_second: float | None) -> None:
        """Send one round and add what came of it to the cell."""
        workers = [worker.pid for worker in self.workers]
        database = [] if self.database_pid is None else [self.database_pid]
        before = figures.cpu_seconds(workers), figures.cpu_seconds(database)
        called_at = self.bot.enqueue(orders, per_second)
        stamps = self._stamps(set(called_at))
        after = figures.cpu_seconds(workers), figures.cpu_seconds(database)
        samples = [
            Sample(called_at[intent_id], started_at, committed_at)
            for intent_id, (started_at, committed_at, status) in stamps.items()
            if status in ACKNOWLEDGED
        ]
        self.committed |= {intent_id: row[1] for intent_id, row in stamps.items() if row[2] in ACKNOWLEDGED}
        cell.add_round(
            samples,
            refused=orders - len(samples),
            worker_cpu=after[0] - before[0],
            database_cpu=after[1] - before[1],
        )

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
    """Everything, in one temporary folder. `close` ends and removes it all."""

    def __init__(self, *, workers: int, worker_options: Sequence[str]) -> None:
        self._stack = ExitStack()
        self.directory = Path(tempfile.mkdtemp(prefix="backoffice-bench-"))
        self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self.directory.chmod(0o711)  # PostgreSQL may run as another user, who must reach its own folder below
        self._workers = workers
        self._worker_options = worker_options
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._stack.close()

    def stop_offices(self) -> None:
        """Leave the machine to what is measured next."""
        for office in self.offices:
            for worker in office.workers:
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
        sqlite_url = f"sqlite:///{self.directory}/sqlite/backoffice.sqlite3"
        self.offices = [
            self._office("PostgreSQL", 1, self.postgres.url("bench"), self.postgres.process.pid),
            self._office("SQLite", 2, sqlite_url, None),
        ]
        for office in self.offices:
            office.start()

    def _durable_postgres(self) -> PostgresServer:
        """fsync and synchronous_commit are on; the server notes when it commits, as a check on our own stamps."""
        server = PostgresServer(self.directory / "postgres", durable=True)
        self._stack.callback(server.stop)
        server.start()
        with server.connect() as connection:
            connection.execute("ALTER SYSTEM SET track_commit_timestamp = on")
            connection.execute("CREATE DATABASE bench")
        server.restart()
        return server

    def _office(self, name: str, number: int, database_url: str, database_pid: int | None) -> BackOffice:
        directory = self.directory / name.lower()
        directory.mkdir(exist_ok=True)
        key, secret = f"{API_KEY}-{number}", f"{API_SECRET}-{number}"
        self.simulator.control.add_account(name.lower(), {"USDT": BALANCE}, api_key=key, api_secret=secret)
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
        }
        prepare = [sys.executable, "-m", "tests.benchmarks.prepare", ACCOUNT]
        subprocess.run(prepare, cwd=ROOT, env=env, check=True)
        bot = Bot(redis_url)
        self._stack.callback(bot.close)
        workers = [self._worker(directory, index, env) for index in range(self._workers)]
        return BackOffice(name, env, directory, workers, bot, database_pid)

    def _worker(self, directory: Path, index: int, env: Mapping[str, str]) -> ChildProcess:
        program = [sys.executable, "-m", "celery", "-A", "tests.benchmarks.worker", "worker", "-Q", "trading"]
        argv = [*program, "--hostname", f"bench-{index}@%h", *self._worker_options]
        worker = ChildProcess(
            f"{directory.name}-worker-{index}", argv, env=env, log=directory / f"worker-{index}.log", ready="ready."
        )
        self._stack.callback(worker.stop)
        return worker
