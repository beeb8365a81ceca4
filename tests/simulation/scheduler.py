"""Run tasks one at a time, and switch between them at every boundary, by one seed.

Each task is a thread, but only the one that holds the baton runs. A task that sleeps, waits or is
held up by a lock of the database hands the baton on. When nobody can run, the clock jumps to the
next moment at which somebody can.
"""

from __future__ import annotations

import heapq
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import count
from random import Random
from typing import Any, Protocol

BEGIN_US = 1_893_499_200_000_000  # 2030-01-01 12:00 UTC
#: A busy machine may need long for one step, so a run is stuck only if nothing at all happens.
LONGEST_REAL_PAUSE = 180.0


class Killed(BaseException):
    """The process of this task was killed. Nothing that it does has an effect any more."""


class Stuck(Exception):
    """The simulation itself can't go on."""


class LockWait(Protocol):
    """A statement that waits for a lock of the database."""

    def is_over(self) -> bool:
        """Return whether the statement has its answer."""

    def give_up(self) -> None:
        """Let the statement fail because the lock wasn't free in time."""


@dataclass(eq=False)
class Process:
    """One process of the back office: its memory, its host's clock, and whether it lives."""

    name: str
    is_worker: bool = False
    offset_us: int = 0
    drift_ppm: int = 0  # of the host's clock
    drifts_since_us: int = 0
    is_dead: bool = False
    crash_in: int | None = None  # boundaries until it is killed
    paused_until_us: int = 0
    stop_in: int | None = None  # boundaries until it stands still
    stop_seconds: float = 0.0
    memory: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)  # that differ from the usual ones
    is_stopping: bool = False  # it takes no more messages, and ends with the ones that it has

    def clock_error_us(self, now_us: int) -> int:
        """Return by how much the host's clock is ahead of the true time."""
        drifted = (now_us - self.drifts_since_us) * self.drift_ppm // 1_000_000
        return self.offset_us + drifted


@dataclass(eq=False)
class Task:
    """One thread of a process."""

    name: str
    process: Process
    work: Callable[[], None]
    number: int
    baton: threading.Lock = field(default_factory=threading.Lock)
    wake_at_us: int | None = None  # asleep until then
    ready: Callable[[], bool] | None = None  # waiting for this
    lock_wait: LockWait | None = None
    is_done: bool = False
    statement: str = ""
    error: BaseException | None = None
    unwinds: int = 0


class Scheduler:
    """Own the clock, the baton and the only source of chance."""

    def __init__(self, seed: int, *, stickiness: float = 0.6, tracing: bool = False) -> None:
        self.random = Random(f"schedule-{seed}")
        self.now_us = BEGIN_US
        self.stickiness = stickiness
        self.tasks: list[Task] = []
        self._alive: list[Task] = []  # of these, the ones that haven't ended
        self.current: Task | None = None
        self.switches = 0
        self.boundaries = 0
        self.story: list[str] | None = [] if tracing else None
        self.on_switch: Callable[[Process | None, Process], None] = lambda old, new: None
        self.on_kill: Callable[[Process], None] = lambda process: None
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = count()
        self._hash = blake2b(digest_size=16)
        self._back = threading.Event()  # the baton is back with `run`
        self._until_us = 0
        self._stop: Callable[[], bool] = lambda: False
        self._failure: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._process: Process | None = None

    # -- time

    def at(self, when_us: int, action: Callable[[], None]) -> None:
        """Run the action at that moment, outside every process. It must not wait."""
        heapq.heappush(self._timers, (max(when_us, self.now_us), next(self._numbers), action))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        self.at(self.now_us + int(seconds * 1_000_000), action)

    @property
    def seconds(self) -> float:
        """Return the seconds since the beginning."""
        return (self.now_us - BEGIN_US) / 1_000_000

    # -- tasks

    def spawn(self, name: str, process: Process, work: Callable[[], None]) -> Task:
        """Add a task. It begins when the scheduler chooses it."""
        task = Task(name, process, work, next(self._numbers))
        task.baton.acquire()
        self.tasks.append(task)
        self._alive.append(task)
        thread = threading.Thread(target=self._main, args=(task,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
        return task

    def _main(self, task: Task) -> None:
        task.baton.acquire()
        try:
            if not task.process.is_dead:
                task.work()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001  reported by `run`
            task.error = error
            self.trace("task failed", f"{task.name}: {type(error).__name__}")
        finally:
            task.is_done = True
            self._alive.remove(task)
            try:
                self._at_end(task)
            except BaseException as error:  # noqa: BLE001
                self._failure = error
            self._hand_on(self._choose(None))

    def _at_end(self, task: Task) -> None:
        """Close what the thread has open. The database replaces this."""

    def run(self, *, until_us: int, stop: Callable[[], bool] = lambda: False) -> None:
        """Let the tasks run until that moment, or until `stop` holds at a switch."""
        self._until_us, self._stop = until_us, stop
        self._hand_over()
        if self._failure is not None:
            raise self._failure

    def finish(self) -> None:
        """Kill every process, and wait until all threads have ended."""
        for process in {task.process for task in self.tasks if not task.is_done}:
            process.is_dead = True
        self._stop = lambda: False
        self._timers.clear()
        self._until_us = self.now_us + 10**15
        for _ in range(1000):
            if all(task.is_done for task in self.tasks):
                break
            self._hand_over()
        for thread in self._threads:
            thread.join(LONGEST_REAL_PAUSE)

    def _hand_over(self) -> None:
        """Give the baton away, and wait until it is back. Raise `Stuck` if nothing moves."""
        self._back.clear()
        self._hand_on(self._choose(None))
        seen = self._progress()
        while not self._back.wait(LONGEST_REAL_PAUSE):
            if seen == (seen := self._progress()):
                raise Stuck(self._described(self.current))

    def _progress(self) -> tuple[int, int, int]:
        return self.now_us, self.boundaries, self.switches

    def _described(self, task: Task | None) -> str:
        """Name the task that holds the baton, and the place where its thread is."""
        if task is None:
            return "no task holds the baton"
        thread = next((each for each in self._threads if each.name == task.name), None)
        frame = sys._current_frames().get(thread.ident or 0) if thread is not None else None
        place = "".join(traceback.format_stack(frame)[-8:]) if frame is not None else ""
        return f"{task.name} holds the baton ({task.statement}):\n{place}"

    # -- boundaries

    def boundary(self, kind: str, detail: str = "") -> None:
        """Let others run here. Raise `Killed` if the process is dead, or dies now."""
        task = self.mine()
        if task is None:
            return
        self.check_alive(task)
        self.boundaries += 1
        process = task.process
        if process.crash_in is not None:
            process.crash_in -= 1
            if process.crash_in <= 0:
                self.trace("crash", f"{process.name} at {kind} {detail}")
                self.kill(process)
                raise Killed
        if process.stop_in is not None:
            process.stop_in -= 1
            if process.stop_in <= 0:
                process.stop_in = None
                process.paused_until_us = self.now_us + int(process.stop_seconds * 1_000_000)
                self.trace("stopped", f"{process.name} for {process.stop_seconds} s at {kind}")
        self.trace(kind, f"{task.name} {detail}")
        self.now_us += self.random.randrange(20, 800)
        self._switch(task)
        self.check_alive(task)

    def check_alive(self, task: Task) -> None:
        if task.process.is_dead:
            task.unwinds += 1
            if task.unwinds > 500:
                raise Stuck(f"{task.name} does not end after its kill")
            raise Killed

    def mine(self) -> Task | None:
        """Return the running task if the caller is its thread."""
        task = self.current
        if task is None or threading.current_thread().name != task.name:
            return None
        return task

    def sleep(self, seconds: float) -> None:
        """Let the running task sleep in virtual time."""
        task = self.mine()
        if task is None:
            return
        self.check_alive(task)
        task.wake_at_us = self.now_us + max(int(seconds * 1_000_000), 1)
        self._switch(task)
        task.wake_at_us = None
        self.check_alive(task)

    def wait(self, ready: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait until `ready`. Return False if it isn't after so many virtual seconds."""
        task = self.mine()
        assert task is not None
        self.check_alive(task)
        if not ready():
            task.ready = ready
            if seconds is not None:
                task.wake_at_us = self.now_us + max(int(seconds * 1_000_000), 1)
            self._switch(task)
            task.ready = task.wake_at_us = None
            self.check_alive(task)
        return ready()

    def wait_for_lock(self, wait: LockWait, seconds: float) -> None:
        """Let others run while the database holds this statement up."""
        task = self.mine()
        assert task is not None
        self.trace("lock", f"{task.name} {task.statement}")
        task.lock_wait = wait
        task.wake_at_us = self.now_us + int(seconds * 1_000_000)
        self._switch(task)
        gave_up = not wait.is_over()
        task.lock_wait = task.wake_at_us = None
        self.check_alive(task)
        if gave_up:
            wait.give_up()

    def kill(self, process: Process) -> None:
        """Kill a process: its tasks do nothing more, and its sessions end."""
        if process.is_dead:
            return
        process.is_dead = True
        self.on_kill(process)

    # -- the baton

    def _switch(self, task: Task) -> None:
        chosen = self._choose(task)
        if chosen is not task:
            self._hand_on(chosen)
            task.baton.acquire()

    def _hand_on(self, chosen: Task | None) -> None:
        """Give the baton to a task, or back to `run`."""
        if chosen is None:
            self.current = None
            self._back.set()
            return
        chosen.baton.release()

    def _choose(self, before: Task | None) -> Task | None:
        """Return the task to run next, with its process's memory in place."""
        try:
            chosen = self._next(before)
        except BaseException as error:  # noqa: BLE001  raised by `run`
            self._failure = error
            chosen = None
        if chosen is None:
            self.current = None
            return None
        self.current = chosen
        if chosen.process is not self._process:
            self.on_switch(self._process, chosen.process)
            self._process = chosen.process
        if chosen is not before:
            self.switches += 1
        return chosen

    def _next(self, before: Task | None) -> Task | None:
        while True:
            while self._timers and self._timers[0][0] <= self.now_us:
                _, _, action = heapq.heappop(self._timers)
                self.current = None
                action()
            if self.now_us >= self._until_us or self._stop():
                return None
            able = [task for task in self._alive if self._is_able(task)]
            if able:
                if before in able and self.random.random() < self.stickiness:
                    return before
                return self.random.choice(able)
            moments = [self._timers[0][0]] if self._timers else []
            moments += [
                moment for task in self._alive if (moment := self._next_moment(task)) is not None
            ]
            if not moments:
                return None
            self.now_us = max(self.now_us, min(moments))

    def _next_moment(self, task: Task) -> int | None:
        paused = task.process.paused_until_us
        if paused > self.now_us:
            return paused
        return task.wake_at_us

    def _is_able(self, task: Task) -> bool:
        if task.process.is_dead:
            return True  # it must unwind
        if task.process.paused_until_us > self.now_us:
            return False
        if task.wake_at_us is not None and task.wake_at_us <= self.now_us:
            return True
        if task.lock_wait is not None:
            return task.lock_wait.is_over()
        if task.ready is not None:
            return task.ready()
        return task.wake_at_us is None

    # -- the record of the run

    def trace(self, kind: str, detail: str) -> None:
        """Add one line to the run's record. Two runs of one seed have the same record."""
        line = f"{self.now_us} {kind} {detail}"
        self._hash.update(line.encode())
        self._hash.update(b"\n")
        if self.story is not None:
            self.story.append(f"{self.seconds:10.4f} {kind:12} {detail}")

    @property
    def trace_hash(self) -> str:
        return self._hash.hexdigest()
