"""Let threads that want the same work at the same moment have it done as one.

The first thread begins at once, so a lone job never waits for company. Jobs that arrive meanwhile
wait, and one of their threads does them all together. A job that the group can't do is done alone
by its own thread, so a bad one spoils nothing for its neighbors.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger(__name__)

Job = TypeVar("Job")
Result = TypeVar("Result")

MOST = 16
#: After this a waiting job is done alone: what holds up the thread at work need not hold it up.
LONGEST_WAIT_SECONDS = 0.05


class _Entry(Generic[Job, Result]):
    def __init__(self, job: Job) -> None:
        self.job = job
        self.woken = threading.Event()
        self.result: Result | None = None


class Together(Generic[Job, Result]):
    """One kind of work. `alone` does one job. `together` does several and returns None for each
    job that must be done alone. `owner` names the party that a job belongs to: parties take turns.
    """

    def __init__(
        self,
        *,
        alone: Callable[[Job], Result],
        together: Callable[[Sequence[Job]], Sequence[Result | None]],
        owner: Callable[[Job], Hashable],
    ) -> None:
        self._alone = alone
        self._together = together
        self._owner = owner
        self._lock = threading.Lock()
        self._waiting: list[_Entry[Job, Result]] = []
        self._is_busy = False

    def do(self, job: Job) -> Result:
        """Return the job's result, or raise what `alone` raises."""
        own: _Entry[Job, Result] = _Entry(job)
        with self._lock:
            leads = not self._is_busy
            self._is_busy = True
            if not leads:
                self._waiting.append(own)
        if not leads:
            leads = self._wait(own)
        if leads:
            return self._lead(own)
        return self._alone(job) if own.result is None else own.result

    def _wait(self, own: _Entry[Job, Result]) -> bool:
        """Wait until a group has done the job. Return True if this thread is to lead the next."""
        own.woken.wait(LONGEST_WAIT_SECONDS)
        with self._lock:
            if own in self._waiting:
                self._waiting.remove(own)
                return own.woken.is_set()  # else this thread goes alone
        own.woken.wait()  # a group has the job, and a group always ends
        return False

    def _lead(self, own: _Entry[Job, Result]) -> Result:
        """Do this thread's job and all waiting ones. Then wake the next thread to lead."""
        with self._lock:
            others = self._take(own)
        try:
            if not others:
                return self._alone(own.job)
            group = [own, *others]
            for entry, result in zip(group, self._done([e.job for e in group]), strict=True):
                entry.result = result
        finally:
            with self._lock:
                self._is_busy = bool(self._waiting)
                if self._waiting:
                    self._waiting[0].woken.set()
            for entry in others:
                entry.woken.set()
        return self._alone(own.job) if own.result is None else own.result

    def _done(self, jobs: Sequence[Job]) -> Sequence[Result | None]:
        try:
            return self._together(jobs)
        except Exception:
            log.exception("group_failed", jobs=len(jobs))
            return [None] * len(jobs)

    def _take(self, own: _Entry[Job, Result]) -> list[_Entry[Job, Result]]:
        """Take waiting jobs, at most so many in all, and of each owner in turn."""
        taken: dict[Hashable, int] = defaultdict(int)
        taken[self._owner(own.job)] = 1
        turns: list[tuple[int, int]] = []
        for place, entry in enumerate(self._waiting):
            owner = self._owner(entry.job)
            turns.append((taken[owner], place))
            taken[owner] += 1
        chosen = {place for _, place in sorted(turns)[: MOST - 1]}
        others = [entry for place, entry in enumerate(self._waiting) if place in chosen]
        self._waiting = [e for place, e in enumerate(self._waiting) if place not in chosen]
        return others
