"""A whole back office on real parts, for stories from the intent to the exchange's truth."""

from __future__ import annotations

from dataclasses import dataclass

from exchanges.models import ExchangeAccount
from tests.harness.postgres import PostgresServer
from tests.harness.processes import ChildProcess, ProcessFactory
from tests.harness.redis import TestRedis
from tests.harness.simulator import Simulator


@dataclass(frozen=True)
class Scenario:
    """`postgres` is None where the suite runs on another database."""

    account: ExchangeAccount
    simulator: Simulator
    postgres: PostgresServer | None
    redis: TestRedis
    processes: ProcessFactory
    worker: ChildProcess
