"""A whole back office on real servers, for stories from the intent to the exchange's truth."""

from __future__ import annotations

from dataclasses import dataclass

from backoffice.local.postgres import PostgresServer
from exchanges.models import ExchangeAccount
from tests.harness.processes import ChildProcess, ProcessFactory
from tests.harness.redis import TestRedis
from tests.harness.simulator import Simulator


@dataclass(frozen=True)
class Scenario:
    account: ExchangeAccount
    simulator: Simulator
    postgres: PostgresServer
    redis: TestRedis
    processes: ProcessFactory
    worker: ChildProcess
