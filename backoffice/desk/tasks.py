"""Do the verbs for whole lists as Celery tasks. A message only says which run to continue."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task

from backoffice.desk.bulk import runs
from exchanges.duties import enqueue_each

#: How often beat looks for runs whose message was lost.
RUNS_SECONDS = 15.0


@shared_task(name="desk.do_bulk")
def do_bulk(key: str) -> None:
    """Work on a run for a turn, and ask for the next one."""
    if runs.continue_run(UUID(key)):
        runs.enqueue(UUID(key))


@shared_task(name="desk.continue_bulk")
def continue_bulk() -> dict[str, int]:
    """Enqueue every run that isn't finished."""
    keys = runs.unfinished()
    return {"runs": enqueue_each(do_bulk, map(str, keys), every=RUNS_SECONDS)}
