"""Replace time, chance, broker, Redis and counters in this process, each at one place."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from django.conf import settings

from tests.simulation import database
from tests.simulation.broker import BOT_TASK
from tests.simulation.scheduler import Scheduler

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
    from exchanges.db import batch_writes, prepared
    from exchanges.db.together import Together
    from exchanges.limits import breaker, counters
    from exchanges.limits import redis as shared
    from orders.placing import claim, claim_together
    from orders.recording import together

    scheduler, make_claim = world.scheduler, claim.make_claim
    short = (batch_writes, claim_together, together)
    forget = prepared._Statements.forget

    def forget_plan(own: Any, sql: str) -> None:
        world.marks.add("stale plan")
        forget(own, sql)

    def claims_that_wait(*args: Any) -> Any:
        made = make_claim(*args)
        world.exchange.delay("claim", made.attempt.client_order_id)
        return made

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
            (app, "producer_or_acquire", world.broker.producer),
            (settings, "ORDER_EVENTS_TASK", BOT_TASK if world.notifies else ""),
            (Together, "_wait", _wait_with(world)),
            (prepared._Statements, "forget", forget_plan),
            (shared, "_script", lambda url, name: world.script(name)),
            (shared, "_leave_a_demoted_server", lambda error: None),
            (breaker, "client", lambda: SimpleNamespace(hgetall=world.read_hash)),
            (counters, "count", lambda *args, **labels: None),
            (counters, "count_soon", lambda field: None),
            (scheduler, "_at_end", database.end_thread),
            (claim, "make_claim", claims_that_wait),
            (claim_together, "make_claim", claims_that_wait),
            *((user, "SHORT_LOCKS", database.SHORT_LOCKS) for user in short),
        ):
            stack.enter_context(patch.object(target, name, new))
        stack.enter_context(registry.install(world.exchange.gateway))
        state = random.getstate()
        random.seed(world.seed)
        try:
            yield
        finally:
            random.setstate(state)


@contextmanager
def smaller(sizes: Mapping[str, int]) -> Iterator[None]:
    """Give these constants another value, named by module and name."""
    with ExitStack() as stack:
        for place, size in sizes.items():
            stack.enter_context(patch(place.replace(":", "."), size))
        yield


def _now_us(scheduler: Scheduler) -> int:
    task = scheduler.current
    error = task.process.clock_error_us(scheduler.now_us) if task is not None else 0
    return scheduler.now_us + error


def _now(scheduler: Scheduler) -> datetime:
    return database.moment(_now_us(scheduler))


def _wait_with(world: World) -> Any:
    """Return `Together._wait` in virtual time: it lets the thread that leads the group run."""
    from exchanges.db.together import LONGEST_WAIT_SECONDS

    scheduler = world.scheduler

    def wait(own: Any, entry: Any) -> bool:
        scheduler.wait(entry.woken.is_set, LONGEST_WAIT_SECONDS)
        with own._lock:
            if entry in own._waiting:
                own._waiting.remove(entry)
                return bool(entry.woken.is_set())
        scheduler.wait(entry.woken.is_set)
        world.marks.add("done together")
        return False

    return wait


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
