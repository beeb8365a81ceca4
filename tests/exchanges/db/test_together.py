"""Test that jobs which wait at the same moment are done as one, and that none spoils another's."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from exchanges.db import together
from exchanges.db.together import Together
from tests.harness.waiting import wait_for


class Work:
    """Work whose first job waits until the test lets it go on."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.alone: list[str] = []
        self.groups: list[list[str]] = []
        self.together: Together[str, str] = Together(
            alone=self._do_alone, together=self._do_together, owner=lambda job: job[0]
        )

    def _do_alone(self, job: str) -> str:
        self.alone.append(job)
        if job == "first":
            assert self.go_on.wait(20)
        if "bad" in job:
            raise ValueError(job)
        return f"{job} alone"

    def _do_together(self, jobs: Sequence[str]) -> Sequence[str | None]:
        self.groups.append(list(jobs))
        if any("worst" in job for job in jobs):
            raise ZeroDivisionError
        return [None if "bad" in job else f"{job} together" for job in jobs]

    @property
    def waiting(self) -> int:
        return len(self.together._waiting)

    def start(self, pool: ThreadPoolExecutor, *jobs: str) -> list[Future[str]]:
        """Start the first job, and the others one after the other while it is busy."""
        futures = [pool.submit(self.together.do, "first")]
        wait_for(lambda: self.alone == ["first"], what="the first job is being done")
        for number, job in enumerate(jobs, start=1):
            futures.append(pool.submit(self.together.do, job))
            wait_for(lambda n=number: self.waiting == n, what=f"{job} waits")  # type: ignore[misc]
        self.go_on.set()
        return futures


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    monkeypatch.setattr(together, "LONGEST_WAIT_SECONDS", 20.0)
    return Work()


def test_together__a_lone_job_is_done_at_once_by_itself(work: Work) -> None:
    assert work.together.do("lone") == "lone alone"
    assert work.together.do("next") == "next alone"
    assert work.groups == []


def test_together__what_waits_meanwhile_is_done_as_one(work: Work) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = [future.result(20) for future in work.start(pool, "a", "b", "c")]
    assert found == ["first alone", "a together", "b together", "c together"]
    assert work.groups == [["a", "b", "c"]]
    assert work.together.do("later") == "later alone"


def test_together__a_bad_job_fails_alone(work: Work) -> None:
    with ThreadPoolExecutor(8) as pool:
        _, a, bad, c = work.start(pool, "a", "bad", "c")
        assert (a.result(20), c.result(20)) == ("a together", "c together")
        with pytest.raises(ValueError, match="bad"):
            bad.result(20)


@pytest.mark.parametrize("leader", ["worst", "a"])
def test_together__after_a_group_that_fails_each_job_is_done_alone(work: Work, leader: str) -> None:
    others = ["a", "worst", "c"] if leader == "a" else ["worst", "a", "c"]
    with ThreadPoolExecutor(8) as pool:
        found = {future.result(20) for future in work.start(pool, *others)}
    assert found == {"first alone", "a alone", "worst alone", "c alone"}
    assert work.together.do("later") == "later alone"


def test_together__an_error_of_the_leader_leaves_the_next_group_to_another(work: Work) -> None:
    with ThreadPoolExecutor(8) as pool:
        started = [pool.submit(work.together.do, "first")]
        wait_for(lambda: work.alone == ["first"], what="the first job is being done")
        started.append(pool.submit(work.together.do, "bad"))
        wait_for(lambda: work.waiting == 1, what="the bad job waits")
        work.go_on.set()
        with pytest.raises(ValueError, match="bad"):
            started[1].result(20)
        assert pool.submit(work.together.do, "a").result(20) == "a alone"


def test_together__a_job_that_waits_for_too_long_is_done_alone(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "LONGEST_WAIT_SECONDS", 0.02)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(work.together.do, "first")
        wait_for(lambda: work.alone == ["first"], what="the first job is being done")
        assert pool.submit(work.together.do, "patient").result(20) == "patient alone"
        work.go_on.set()
        assert first.result(20) == "first alone"
    assert work.together.do("later") == "later alone"


def test_together__a_group_takes_jobs_of_all_owners_in_turn(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "MOST", 4)
    with ThreadPoolExecutor(12) as pool:
        jobs = ["a1", "a2", "a3", "a4", "b1", "c1"]
        for future in work.start(pool, *jobs):
            future.result(20)
    assert work.groups == [["a1", "a2", "b1", "c1"], ["a3", "a4"]]


def test_together__every_job_is_done_once_under_load(work: Work) -> None:
    work.go_on.set()
    jobs = [f"{number % 7}-{number}" for number in range(2000)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(work.together.do, jobs))
    done = [*work.alone, *(job for group in work.groups for job in group)]
    assert sorted(done) == sorted(jobs)
    assert [result.partition(" ")[0] for result in found] == jobs
    assert work.waiting == 0
