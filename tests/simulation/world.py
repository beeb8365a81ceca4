"""One seed's world: exchange, broker, Redis, database, and the processes of the back office."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from celery._state import _task_stack
from celery.exceptions import Ignore, Reject
from django.conf import settings
from django.db import connections

from exchanges.errors import GatewayError
from exchanges.limits.book_memory import split_claim_name
from exchanges.models import Environment, ExchangeAccount
from orders.intents import IntentConflict, InvalidIntent
from tests.simulation import memory
from tests.simulation.broker import Broker, BrokerAway
from tests.simulation.database import Database
from tests.simulation.listener import Follower, beat, help_out
from tests.simulation.logs import Ears
from tests.simulation.network import SimExchange
from tests.simulation.redis_model import RedisModel
from tests.simulation.replaced import RedisIsAway
from tests.simulation.scheduler import Killed, Process, Scheduler

ACCOUNTS = ("alpha", "beta")
NEW_ACCOUNT = "gamma"  # added in the middle of some stories
BALANCES = {"USDT": "200000", "BTC": "2", "ETH": "20"}
#: So little that orders compete for it.
FEW_BALANCES = {"USDT": "2000", "BTC": "0.025", "ETH": "0.6"}
#: Worker -> the queues of each of its threads.
WORKERS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "worker-1": (("trading",), ("trading",)),
    "worker-2": (("trading",),),
    "worker-3": (("cancel",), ("duties",), ("sync",), ("sync", "duties")),
}
RESTART_SECONDS = (0.5, 8.0)
#: From a claim to the exchange's acceptance: recvWindow, engine time-out and a slow network.
_LONGEST_WAY_US = 20_000_000


@dataclass(slots=True)
class Halt:
    """A halt that has committed, by the numbers of order events."""

    account: str  # empty: everything
    claims: frozenset[int]  # that had committed by then
    last_event: int | None = None  # before somebody resumed


class World:
    """Everything of one seed. `chance` decides what the story doesn't say."""

    def __init__(
        self,
        seed: int,
        database: Database,
        *,
        tracing: bool = False,
        is_poor: bool = False,
        notifies: bool = False,
        breaks_assumptions: bool = False,
    ) -> None:
        self.seed = seed
        self.is_poor = is_poor
        self.breaks_assumptions = breaks_assumptions
        self.notifies = notifies or seed % 3 == 0
        self.chance = Random(f"world-{seed}")
        self.scheduler = Scheduler(
            seed, stickiness=self.chance.choice((0.0, 0.5, 0.8, 0.95)), tracing=tracing
        )
        self.database = database
        self.exchange = SimExchange(self.scheduler, seed, FEW_BALANCES if is_poor else BALANCES)
        self.broker = Broker(
            self.scheduler, settings.CELERY_TASK_ROUTES, settings.CELERY_TASK_DEFAULT_QUEUE
        )
        self.redis = RedisModel(lambda: self.scheduler.now_us // 1000)
        self.redis_is_away = False
        self.ears = Ears(self.scheduler)
        self.processes: dict[str, Process] = {}
        self.accounts = list(ACCOUNTS)
        self.followers: list[Follower] = []  # of the listener that runs
        self.failures: list[str] = []
        self.marks: set[str] = set()
        self.settings: dict[str, dict[str, Any]] = {}  # of processes that have others than usual
        self.faults_are_over = False
        self.reset_at_us = 0  # the last one
        self.exchange_clock_steps = 0.0  # in seconds, all together
        self.rules_change_once = False
        self.backed_up_at_us = 0
        #: The moments that a failover, or a replica of Redis, has lost: from and until.
        self.lost_moments: dict[str, list[tuple[int, int]]] = {"database": [], "redis": []}
        self.cancels_within: float | None = None  # seconds, while the database and exchange work
        self.halts: list[Halt] = []
        self.answered: set[tuple[str, str, str]] = set()  # task, account, intent
        self.person = Process("person")
        self.scheduler.on_switch = memory.swap
        self.scheduler.on_kill = self._killed

    # -- start

    def begin(self) -> None:
        """Make the accounts and start every process."""
        self.database.begin(self.scheduler)
        for name in (*ACCOUNTS, NEW_ACCOUNT):
            self.exchange.add(name)
        for name in ACCOUNTS:
            ExchangeAccount.objects.create(name=name, environment=Environment.SIMULATOR)
        connections.close_all()
        for name in WORKERS:
            self.start_worker(name)
        self.start_listener()
        self.start_beat("beat-1")

    def start_worker(self, name: str) -> None:
        process = self._new_process(name, is_worker=True)
        for number, queues in enumerate(WORKERS[name]):
            work = _bound(self._work, process, queues)
            self.scheduler.spawn(f"{name}/{number}", process, work)

    def start_listener(self) -> None:
        process = self._new_process("listener")
        followers: list[Follower] = []
        self.followers = followers
        for name in self.accounts:
            self._follow(name)
        self.scheduler.spawn("listener/beat", process, lambda: beat(self.scheduler, followers))
        self.scheduler.spawn(
            "listener/duties", process, lambda: help_out(self.scheduler, followers, self.marks)
        )

    def _follow(self, name: str) -> None:
        """Let the listener follow the stream of this account, unless it does so or is dead."""
        process = self.processes["listener"]
        if process.is_dead or any(own.name == name for own in self.followers):
            return
        follower = Follower(self.scheduler, self.exchange, process, name, self.marks)
        self.followers.append(follower)
        self.scheduler.spawn(f"listener/{name}", process, follower.run)

    def add_account(self, name: str) -> None:
        """Add an account while everything runs. The listener finds it within some seconds."""
        ExchangeAccount.objects.get_or_create(name=name, environment=Environment.SIMULATOR)
        if name not in self.accounts:
            self.accounts.append(name)
        self.marks.add("new account")
        self.scheduler.after(self.chance.uniform(0.5, 5.0), lambda: self._follow(name))

    def start_beat(self, name: str) -> None:
        process = self._new_process(name)
        self.scheduler.spawn(name, process, lambda: self._beat(process))

    def _new_process(self, name: str, *, is_worker: bool = False) -> Process:
        old = self.processes.get(name)
        process = Process(name, is_worker=is_worker, settings=dict(self.settings.get(name, {})))
        if old is not None:
            process.offset_us = old.offset_us
            process.drift_ppm = old.drift_ppm
            process.drifts_since_us = old.drifts_since_us
        self.processes[name] = process
        return process

    def was_lost_by_both(self, placed_at_us: int) -> bool:
        """Return whether the database and Redis may both have lost the claim of this order."""
        latest_claim, earliest_claim = placed_at_us, placed_at_us - _LONGEST_WAY_US
        return any(
            max(ours[0], theirs[0], earliest_claim) < min(ours[1], theirs[1], latest_claim)
            for ours in self.lost_moments["database"]
            for theirs in self.lost_moments["redis"]
        )

    # -- the end of a process

    def stop(self, name: str, pause: float, then: Callable[[], None] = lambda: None) -> None:
        """Let a process end as a deploy does, and start it again some time later.

        A worker takes no more messages and finishes the ones that it has. The others end at once.
        `then` runs when the process is gone.
        """
        process = self.processes[name]
        if not process.is_worker:
            self.scheduler.kill(process)
        process.is_stopping = True
        self._look_for_end(process, pause, then)

    def _look_for_end(self, process: Process, pause: float, then: Callable[[], None]) -> None:
        mine = [task for task in self.scheduler.tasks if task.process is process]
        if not process.is_dead and not all(task.is_done for task in mine):
            self.scheduler.after(0.05, lambda: self._look_for_end(process, pause, then))
            return
        if not process.is_dead:  # else it was killed, and starts again anyway
            process.is_dead = True
            self.scheduler.after(pause, lambda: self.restart(process.name))
        then()

    def _killed(self, process: Process) -> None:
        self.marks.add("crash")
        self.database.end_sessions(process)
        for task in self.scheduler.tasks:
            if task.process is process:
                soon = self.chance.random() < 0.7
                self.broker.put_back(task, self.chance.uniform(0.5, 10.0 if soon else 120.0))
        if process.name in self.processes:
            pause = self.chance.uniform(*RESTART_SECONDS)
            self.scheduler.after(pause, lambda: self.restart(process.name))

    def restart(self, name: str) -> None:
        if not self.processes[name].is_dead:
            return
        self.scheduler.trace("restart", name)
        if name in WORKERS:
            self.start_worker(name)
        elif name == "listener":
            self.start_listener()
        else:
            self.start_beat(name)

    # -- what the processes do

    def _work(self, process: Process, queues: Sequence[str]) -> None:
        """Take messages until the end, as a thread of a worker does."""
        task = self.scheduler.mine()
        assert task is not None
        while True:
            message = self.broker.take(queues, task)
            if message is None:
                return
            args, kwargs = message.arguments
            if self.run_message(message.task, args, kwargs, message.headers, message.queue):
                name = kwargs.get("account", ""), kwargs.get("intent_id", "")
                self.answered.add((message.task, *name))
            self.broker.done(task)

    def run_message(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        headers: Mapping[str, Any],
        queue: str,
    ) -> bool:
        """Run a task as a worker does. Return whether its sender got an answer."""
        from backoffice.celery import app

        for wrapper in connections.all(initialized_only=True):
            wrapper.close_if_stale()  # type: ignore[attr-defined]  # as before each task
        task = app.tasks[name]
        task.push_request(
            id="1",
            args=args,
            kwargs=kwargs,
            headers=dict(headers),
            called_directly=False,
            is_eager=False,
            origin="bot@simulation",
            delivery_info={"routing_key": queue},
        )
        _task_stack.push(task)  # as Celery's own tracer does
        try:
            task(*args, **kwargs)
        except (Ignore, Reject):
            return False
        except (InvalidIntent, IntentConflict, GatewayError) as error:
            self.scheduler.trace("refused", f"{name}: {error}")  # the errors that these tasks name
        except Exception as error:  # noqa: BLE001  the oracle judges it
            self.failures.append(_failure(f"task {name}", error))
        finally:
            _task_stack.pop()
            task.pop_request()
        return True

    def _beat(self, process: Process) -> None:
        """Enqueue each duty in its own rhythm, as beat does."""
        rows = sorted(settings.CELERY_BEAT_SCHEDULE.items())
        due = {
            name: self.scheduler.now_us + int(self.chance.uniform(0, 2) * 1_000_000)
            for name, _ in rows
        }
        while True:
            name = min(due, key=lambda name: (due[name], name))
            self.scheduler.sleep(max((due[name] - self.scheduler.now_us) / 1_000_000, 0.0))
            row = settings.CELERY_BEAT_SCHEDULE[name]
            due[name] = self.scheduler.now_us + int(
                row["schedule"].run_every.total_seconds() * 1_000_000
            )
            try:
                self._enqueue(row)
            except BrokerAway:
                continue

    def _enqueue(self, row: Mapping[str, Any]) -> None:
        options = row["options"]
        self.broker.send(
            row["task"],
            row.get("args", ()),
            row.get("kwargs", {}),
            queue=options.get("queue"),
            headers=options.get("headers"),
        )

    def spawn_person(self, what: str, work: Callable[[], None]) -> None:
        """Let somebody do something, in a process of its own."""

        def safely() -> None:
            try:
                work()
            except Killed:
                raise
            except Exception as error:  # noqa: BLE001  the oracle judges it
                self.failures.append(_failure(what, error))

        self.scheduler.spawn(f"person/{what}-{len(self.scheduler.tasks)}", self.person, safely)

    # -- what replaces broker and Redis

    def send_task(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.broker.send(
            name, args, kwargs, queue=options.get("queue"), headers=options.get("headers")
        )

    def put_back(
        self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any], queue: str | None
    ) -> bool:
        """Replace `DurableTask._put_back`."""
        self.marks.add("handed over" if queue else "put back")
        try:
            self.broker.send(
                task.name,
                args,
                kwargs,
                queue=queue or (task.request.delivery_info or {}).get("routing_key"),
                headers=task.request.headers or {},
            )
        except BrokerAway:
            return False
        return True

    def script(self, name: str) -> Callable[..., Any]:
        def run(keys: Sequence[str], args: Sequence[bytes]) -> Any:
            self.scheduler.boundary("redis", name)
            if self.redis_is_away:
                raise RedisIsAway("Redis is away")
            answer = self.redis.run(name, args[0])
            self.scheduler.boundary("redis answered", name)
            if name == "book":
                self._claim_noted(json.loads(args[0]))
            return answer

        return run

    def _claim_noted(self, ask: Mapping[str, Any]) -> None:
        """Let the sender of a claim stand still, if the story says so, before it goes on."""
        for claim in ask["names"] if ask["verb"] == "note" else ():
            self.exchange.delay("note", split_claim_name(claim)[1])

    def read_hash(self, key: str) -> dict[str, Any]:
        if self.redis_is_away:
            raise RedisIsAway("Redis is away")
        return dict(self.redis._get(key) or {})


def _bound(call: Callable[..., None], *arguments: Any) -> Callable[[], None]:
    return lambda: call(*arguments)


def _failure(what: str, error: BaseException) -> str:
    import traceback

    return f"{what}: {''.join(traceback.format_exception(error))[-2500:]}"


def text(value: Any) -> str:
    return json.dumps(value, default=str, sort_keys=True)
