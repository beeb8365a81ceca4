"""Run seeds: prepare the server once, play each story, settle, judge."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connections

from backoffice.databases import database_settings
from exchanges.models import ExchangeAccount, instrument_rules
from tests.harness.migrated import DATABASE, MigratedPostgres
from tests.simulation import database, memory, replaced
from tests.simulation.acting import Actor
from tests.simulation.database import Database
from tests.simulation.guard_list import BY_NAME, GUARDS
from tests.simulation.guards import Guard, switched_off
from tests.simulation.logs import listening
from tests.simulation.marks import marks_of
from tests.simulation.oracle import judge, unsettled
from tests.simulation.scheduler import BEGIN_US, Stuck
from tests.simulation.shrinking import shrink
from tests.simulation.steps import STORY_SECONDS, Step
from tests.simulation.story import make_story, profile_named, profile_of
from tests.simulation.world import World

#: Everything is settled within so many virtual seconds after the last fault.
SETTLED_WITHIN = 600.0
#: The same while a guard is tried: what never settles takes long to play.
_GUARD_WITHIN = 150.0
_LOOK_EVERY = 5.0
#: A symbol that has refused two questions is asked again after two minutes.
_SYMBOL_RESTS = 125.0


@dataclass(slots=True)
class Result:
    """The outcome of one seed."""

    seed: int
    profile: str
    problems: list[str]
    marks: set[str]
    trace_hash: str
    virtual_seconds: float
    real_seconds: float
    boundaries: int
    switches: int
    accepted: int
    story: list[str] = field(default_factory=list)


@contextmanager
def server() -> Iterator[Database]:
    """Start a PostgreSQL of our own with the tables of this version."""
    directory = Path(tempfile.mkdtemp(prefix="backoffice-simulation-"))
    directory.chmod(0o711)
    postgres = MigratedPostgres(directory)
    try:
        postgres.start()
        with postgres.connect() as session:
            # The simulation moves the clock, and finds waits for locks by itself.
            for setting in ("deadlock_timeout = '1h'", "autovacuum = off", "jit = off"):
                session.execute(f"ALTER SYSTEM SET {setting}")
            session.execute("SELECT pg_reload_conf()")
        _point_django_at(postgres.url(DATABASE))
        own = Database(postgres, DATABASE)
        with database.installed(own):
            yield own
        own.monitor.close()
    finally:
        connections.close_all()
        postgres.stop()
        postgres.remove_socket_folder()
        shutil.rmtree(directory, ignore_errors=True)


def _point_django_at(url: str) -> None:
    rows = settings.DATABASES["default"]
    rows.clear()
    rows.update(database_settings(url))
    rows["CONN_MAX_AGE"] = None
    rows["CONN_HEALTH_CHECKS"] = False
    rows["OPTIONS"] |= {"session": {"synchronous_commit": "off"}, "answer_seconds": 0.0}
    connections.configure_settings(settings.DATABASES)
    with suppress(AttributeError):  # if no session was opened before
        del connections["default"]


def run_seed(
    own: Database,
    seed: int,
    *,
    profile: str = "",
    steps: Sequence[Step] | None = None,
    tracing: bool = False,
    guard: Guard | None = None,
    settled_within: float = SETTLED_WITHIN,
) -> Result:
    """Play one seed from the beginning to the verdict."""
    began = time.monotonic()
    chosen = profile_named(profile) if profile else profile_of(seed)
    story = list(steps) if steps is not None else make_story(seed, chosen)
    instrument_rules.cache_clear()
    memory.forget_all()
    own.forget_backup()
    world = World(
        seed,
        own,
        tracing=tracing,
        is_poor=chosen.is_poor,
        notifies=chosen.notifies,
        breaks_assumptions=chosen.breaks_assumptions,
    )
    actor = Actor(world)
    problems: list[str] = []
    marks: set[str] = set()
    with (
        listening(world.ears),
        replaced.installed(world),
        replaced.smaller(chosen.sizes),
        switched_off(guard, own),
    ):
        try:
            world.begin()
            actor.plan(story)
            world.scheduler.run(until_us=BEGIN_US + int(STORY_SECONDS * 1_000_000))
            actor.end_faults()
            problems += _settle(world, settled_within)
            world.scheduler.finish()
            own.scheduler = None
            memory.forget_all()
            problems += judge(world, actor)
            connections.close_all()
            marks = marks_of(world)
        finally:
            if own.scheduler is not None:
                world.scheduler.finish()
            own.scheduler = None
            connections.close_all()
            memory.forget_all()
            own.undo()
    return Result(
        seed=seed,
        profile=chosen.name,
        problems=problems,
        marks=marks,
        trace_hash=world.scheduler.trace_hash,
        virtual_seconds=world.scheduler.seconds,
        real_seconds=time.monotonic() - began,
        boundaries=world.scheduler.boundaries,
        switches=world.scheduler.switches,
        accepted=len(world.exchange.placed),
        story=world.scheduler.story or [],
    )


def _settle(world: World, within: float) -> list[str]:
    """Run until nothing waits any more, compare everything, and return what never settled."""
    scheduler = world.scheduler
    give_up_at = scheduler.now_us + int(within * 1_000_000)
    while True:
        scheduler.run(until_us=scheduler.now_us + int(_LOOK_EVERY * 1_000_000))
        waiting = _waiting(world)
        if not waiting:
            break
        if scheduler.now_us >= give_up_at:
            return [f"not settled {within:.0f} s after the last fault: {waiting}"]
    # What the queries could not show yet is visible now: compare, as beat does every 15 minutes.
    seconds = settings.EXCHANGE_READ_LAG_MS / 1000
    # If the exchange's clock was turned back by less, its balances look older until it catches up.
    seconds += min(world.exchange_clock_steps, 15.0)
    if "symbol gone" in world.marks:
        seconds = max(seconds, _SYMBOL_RESTS)
    scheduler.run(until_us=scheduler.now_us + int(seconds * 1_000_000))
    _compare(world)
    until = scheduler.now_us + int(within * 1_000_000)
    while True:
        scheduler.run(until_us=scheduler.now_us + 1_000_000)
        if not (waiting := _waiting(world)):
            return []
        if scheduler.now_us >= until:
            return [f"not settled after the comparison: {waiting}"]


def _compare(world: World) -> None:
    from exchanges.mirror.balances import sync_balances
    from orders.reconciliation.account import reconcile_account

    def compare() -> None:
        for account in ExchangeAccount.objects.order_by("name"):
            while reconcile_account(account).get("skipped"):
                world.scheduler.sleep(1.0)
            sync_balances(account)

    world.spawn_person("compare", compare)


def _waiting(world: World) -> str:
    if any(name.startswith("orders.") for name in _busy_with(world)):
        return f"messages: {', '.join(sorted(_busy_with(world)))}"
    if world.exchange.under_way:
        return "requests at the exchange"
    people = [
        task.name
        for task in world.scheduler.tasks
        if not task.is_done and task.process is world.person
    ]
    if people:
        return f"people: {', '.join(people)}"
    return unsettled()


_DUTIES = (
    "orders.submit_order",
    "orders.place_order",
    "orders.cancel_order",
    "orders.sweep_account",
)


def _busy_with(world: World) -> set[str]:
    waiting = [m for rows in world.broker.queues.values() for m in rows]
    names = {m.task for m in (*waiting, *world.broker.held.values())}
    return {name for name in names if name in _DUTIES}


# -- many seeds ------------------------------------------------------------------------------------


def run_seeds(options: Mapping[str, Any]) -> Iterator[str]:
    """Run the seeds that the command names. Yield lines of text, and one of JSON per seed."""
    if options["guards"]:
        yield from try_guards(options["seeds"])
        return
    stop_at = time.monotonic() + options["minutes"] * 60 if options["minutes"] else None
    seeds = count(options["seed"]) if stop_at else range(options["seed"], _end(options))
    guard = BY_NAME[options["guard"]] if options["guard"] else None
    with server() as own:
        for seed in seeds:
            play = partial(run_seed, own, seed, profile=options["profile"], guard=guard)
            result = play(tracing=options["trace"])
            yield from result.story
            if result.problems:
                yield f"seed {seed} ({result.profile}) FAILED"
                yield from (f"   {problem}" for problem in result.problems)
                if options["shrink"]:
                    story = make_story(seed, profile_named(result.profile))
                    yield from shrunk(story, result, play)
            yield json.dumps(_row(result))
            if stop_at is not None and time.monotonic() > stop_at:
                return


def try_guards(seeds: int) -> Iterator[str]:
    """Switch off each guard in turn, and run up to so many seeds of its profile.

    Yield one line of JSON for each: the first seed that noticed, or none.
    """
    with server() as own:
        for guard in GUARDS:
            yield json.dumps(_try(own, guard, seeds))


def _try(own: Database, guard: Guard, seeds: int) -> dict[str, Any]:
    began = time.monotonic()
    row: dict[str, Any] = {"guard": guard.name, "profile": guard.noticed_by, "seed": None}
    for seed in range(guard.seed, guard.seed + seeds):
        play = partial(run_seed, own, seed, profile=guard.noticed_by, settled_within=_GUARD_WITHIN)
        problems = problems_of(partial(play, guard=guard))
        if not problems:
            continue
        # With the guard in place the same seed must keep every promise.
        if with_it := problems_of(play):
            row["problem_with_it"] = f"seed {seed}: {with_it[0][:300]}"
            continue
        row |= {"seed": seed, "problem": problems[0][:300]}
        break
    return row | {"seconds": round(time.monotonic() - began, 1)}


def shrunk(steps: Sequence[Step], result: Result, play: Callable[..., Result]) -> Iterator[str]:
    """Leave out steps of a story as long as it fails, and yield the rest in plain words."""

    def problems(steps: Sequence[Step]) -> Sequence[str]:
        return problems_of(partial(play, steps=steps))

    left = shrink(steps, lambda fewer: bool(problems(fewer)))
    yield f"the shortest story of seed {result.seed} ({result.profile}) that fails:"
    yield from (f"   {step.in_words()}" for step in left)
    yield from (f"   => {problem[:300]}" for problem in problems(left))


def problems_of(play: Callable[[], Result]) -> Sequence[str]:
    """Return what is wrong with a run, also if it can't go on."""
    try:
        return play().problems
    except Stuck as stuck:
        return [f"stuck: {stuck}"]


def _end(options: Mapping[str, Any]) -> int:
    return int(options["seed"] + options["seeds"])


def _row(result: Result) -> dict[str, Any]:
    return {
        "seed": result.seed,
        "profile": result.profile,
        "problems": result.problems,
        "marks": sorted(result.marks),
        "trace": result.trace_hash,
        "seconds": round(result.real_seconds, 3),
        "virtual": round(result.virtual_seconds, 1),
        "boundaries": result.boundaries,
        "switches": result.switches,
        "accepted": result.accepted,
    }
