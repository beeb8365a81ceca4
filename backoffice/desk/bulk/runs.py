"""Record a verb for all rows of a filter, and do it in steps that any worker can continue.

The ids of the rows are stored with the person's word, so a row that matches later isn't touched.
Each step asks again whether the person may do this, to these accounts. A step that is done twice,
by two workers or for two people, does nothing the second time, because the verbs are safe to
repeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import F, QuerySet, TextField
from django.db.models.functions import Cast
from django.utils.translation import get_language, override
from django.utils.translation import gettext as _

from backoffice.desk.bulk.verbs import VERBS, BulkVerb, Result
from backoffice.desk.models import BulkLine, BulkRun, Outcome
from backoffice.people.grants import narrow
from backoffice.people.origins import origin_of
from exchanges import clock
from exchanges.acts import Origin, Source, acting, record_act
from exchanges.db.leases import LeaseLost, lease, renew

MAX_ROWS = 50_000
STEP = 20
ANNOUNCED_AT_ONCE = 500
#: One message works for so long, then the next one continues, so that others get their turn.
TURN_SECONDS = 15.0

_ADD_LINES = """
INSERT INTO desk_bulkline (run_id, position, target, name, account_id, outcome, text)
SELECT %s, row_number() OVER (), target, left(name, 200), account_id, '', ''
  FROM ({rows}) AS chosen (target, name, account_id)
"""

log = structlog.get_logger(__name__)


def start(
    request: Any, verb: BulkVerb, rows: QuerySet[Any], *, key: UUID, reason: str, resolution: str
) -> BulkRun:
    """Store the run with a line for each row, and let a worker begin.

    A form that is sent twice is one run: its key was made with the form.
    """
    actor = request.user.get_username()
    origin = origin_of(request)
    with transaction.atomic():
        run, is_new = BulkRun.objects.get_or_create(
            pk=key,
            defaults={
                "person_id": request.user.pk,
                "actor": actor,
                "verb": verb.name,
                "query": request.GET.urlencode(),
                "reason": reason,
                "resolution": resolution,
                "language": get_language() or "",
                "address": origin.address,
                "session": origin.session,
            },
        )
        if not is_new:
            return run
        run.total = _add_lines(run, rows, verb)
        run.save(update_fields=["total"])
        transaction.on_commit(partial(enqueue, run.pk))
        record_act(
            f"{verb.name}_all",
            actor=actor,
            subject=f"bulk:{run.pk}",
            reason=reason,
            after={"filters": run.query, "rows": run.total},
        )
    return run


def _add_lines(run: BulkRun, rows: QuerySet[Any], verb: BulkVerb) -> int:
    chosen = rows.order_by(*(rows.query.order_by or ("pk",)))[:MAX_ROWS].values_list(
        Cast("pk", TextField()), verb.naming, F("account_id")
    )
    sql, parameters = chosen.query.get_compiler(connection=connection).as_sql()
    with connection.cursor() as cursor:
        cursor.execute(_ADD_LINES.format(rows=sql), [run.pk, *parameters])
        return int(cursor.rowcount)


def enqueue(key: UUID) -> None:
    """Ask a worker to continue. Without a broker, the duty asks again."""
    from backoffice.desk.tasks import do_bulk

    try:
        do_bulk.apply_async((str(key),), retry=False)
    except Exception as error:  # noqa: BLE001  the broker's clients raise many
        log.warning("bulk_run_not_enqueued", run=str(key), error=type(error).__name__)


def unfinished() -> list[UUID]:
    """Return the runs that still have something to do, the oldest first."""
    rows = BulkRun.objects.filter(finished_at=None).order_by("made_at")
    return list(rows.values_list("pk", flat=True))


def continue_run(key: UUID) -> bool:
    """Work on a run for a turn. Return whether it needs another one."""
    run = BulkRun.objects.filter(pk=key, finished_at=None).first()
    if run is None:
        return False
    try:
        # One worker for a person. The duty comes back to the next run.
        with lease(f"bulk of {run.person_id}") as is_ours:
            return is_ours and _take_turn(run)
    except LeaseLost:
        return True


def _take_turn(run: BulkRun) -> bool:
    verb = VERBS[run.verb]
    give_up_at = clock.monotonic() + TURN_SECONDS
    origin = Origin(Source.DESK, run.actor, run.address, run.session)
    with acting(lambda: origin), override(run.language or None):
        if verb.announce and run.announced_at is None:
            _announce(run, verb)
        while clock.monotonic() < give_up_at:
            lines = list(run.lines.filter(outcome="").order_by("position")[:STEP])
            if not lines:
                BulkRun.objects.filter(pk=run.pk).update(finished_at=clock.now())
                log.info("bulk_run_finished", run=str(run.pk), verb=run.verb, rows=run.total)
                return False
            _do_step(run, verb, lines)
    return True


def _announce(run: BulkRun, verb: BulkVerb) -> None:
    """Record the person's decision for every row, before any request to the exchange."""
    assert verb.announce is not None
    targets = list(run.lines.filter(outcome="").values_list("target", flat=True))
    for start_at in range(0, len(targets), ANNOUNCED_AT_ONCE):
        renew()
        rows = allowed_rows(run, verb, targets[start_at : start_at + ANNOUNCED_AT_ONCE])
        if rows:
            verb.announce(run, rows)
    BulkRun.objects.filter(pk=run.pk).update(announced_at=clock.now())


def allowed_rows(run: BulkRun, verb: BulkVerb, targets: Sequence[str]) -> list[Any]:
    """Return those of the rows that the person may do this to now, after a fresh look."""
    person = User.objects.filter(pk=run.person_id).first() if run.person_id else None
    if person is None or not person.is_staff or not person.has_perm(verb.permission):
        return []
    return list(narrow(verb.rows().filter(pk__in=targets), person))


def _do_step(run: BulkRun, verb: BulkVerb, lines: Sequence[BulkLine]) -> None:
    renew()
    rows = allowed_rows(run, verb, [line.target for line in lines])
    results: dict[str, Result] = verb.act(run, rows)
    renew()
    not_yours = _("Skipped: you no longer have the right to do this, or the row is gone.")
    for line in lines:
        line.outcome, line.text = results.get(line.target, (Outcome.SKIPPED, not_yours))
        line.at = clock.now()
    BulkLine.objects.bulk_update(lines, ["outcome", "text", "at"])
