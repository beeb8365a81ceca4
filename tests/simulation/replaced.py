"""Replace time, chance, broker, Redis and counters in this process, each at one place."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from django.conf import settings

from tests.simulation import database
from tests.simulation.broker import BOT_TASK
from tests.simulation.scheduler import Process, Scheduler

if TYPE_CHECKING:
    from tests.simulation.world import World


class RedisIsAway(ConnectionError):
    """Redis doesn't answer."""


@contextmanager
def installed(world: World) -> Iterator[None]:
    """Put the simulation's parts in place for one seed."""
    from backoffice import durable_tasks
    from backoffice.celery import app
    from exchanges import clock
    from exchanges.binance import registry
    from exchanges.limits import breaker, counters
    from exchanges.limits import redis as shared

    scheduler = world.scheduler
    with ExitStack() as stack:
        for target, name, new in (
            (clock, "now", lambda: _now(scheduler)),
            (clock, "now_ms", lambda: _now_us(scheduler) // 1000),
            (clock, "monotonic", lambda: scheduler.now_us / 1_000_000),
            (clock, "sleep", scheduler.sleep),
            (os, "urandom", _Chance(scheduler).bytes),
            (durable_tasks, "monotonic", lambda: scheduler.now_us / 1_000_000),
            (durable_tasks, "_stopping", _Stopping(scheduler)),
            (
                durable_tasks.DurableTask,
                "_put_back",
                lambda task, args, kwargs, queue=None: world.put_back(task, args, kwargs, queue),
            ),
            (app, "send_task", world.send_task),
            (app, "connection_for_write", world.broker.connection),
            (settings, "ORDER_EVENTS_TASK", BOT_TASK if world.notifies else ""),
            (shared, "_script", lambda url, name: world.script(name)),
            (shared, "_leave_a_demoted_server", lambda error: None),
            (breaker, "client", lambda: SimpleNamespace(hgetall=world.read_hash)),
            (counters, "count", lambda *args, **labels: None),
            (counters, "count_soon", lambda field: None),
            (scheduler, "_at_end", database.end_thread),
        ):
            stack.enter_context(patch.object(target, name, new))
        stack.enter_context(registry.install(world.exchange.gateway))
        state = random.getstate()
        random.seed(world.seed)
        try:
            yield
        finally:
            random.setstate(state)


def _now_us(scheduler: Scheduler) -> int:
    task = scheduler.current
    return scheduler.now_us + (_offset(task.process) if task is not None else 0)


def _offset(process: Process) -> int:
    return process.offset_us


def _now(scheduler: Scheduler) -> datetime:
    return database.moment(_now_us(scheduler))


class _Chance:
    """The operating system's random bytes, for the tasks of the simulation only."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._own = os.urandom
        self._random = random.Random("bytes")

    def bytes(self, size: int) -> bytes:
        if self._scheduler.mine() is None:
            return self._own(size)
        return self._random.randbytes(size)


class _Stopping:
    """The event of `durable_tasks` that ends pauses: it is never set."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def wait(self, seconds: float) -> bool:
        self._scheduler.sleep(seconds)
        return False

    def is_set(self) -> bool:
        return False

    def set(self) -> Any:
        """Do nothing."""
