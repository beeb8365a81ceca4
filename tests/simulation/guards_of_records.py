"""The guards of what the book records and tells: evidence, money, notices, messages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from tests.simulation.guards import Change, Guard, edited, nothing, without_version


def _first_word_stays(known: str, said: str) -> tuple[str, str]:
    return (said or known, "")


def _by_any_name(report: Any, by_client_id: Any, previous: Any, by_number: Any) -> Any:
    from orders.recording.attempts import Unknown

    return by_client_id or previous or next(iter(by_number), None) or Unknown()


def _unlocked_head() -> Sequence[Change]:
    from backoffice.people.models import JournalHead

    return (
        (
            "backoffice.people.journal.writing:_locked_head",
            lambda: JournalHead.objects.get(pk=JournalHead.ROW),
        ),
    )


def _claim_text() -> str:
    from orders.notifications import outbox

    return outbox._CLAIM


def _without_gone_rows() -> Any:
    from orders import db_retry

    judge, gone = db_retry.is_database_away, db_retry.RowGone
    return lambda error: not isinstance(error, gone) and judge(error)


def _no_later_table() -> Sequence[Change]:
    from orders import db_retry

    later = {"3F000", "42501", "42703", "42883", "42P01"}
    return (("orders.db_retry:_AWAY_STATES", db_retry._AWAY_STATES - later),)


RECORDS: tuple[Guard, ...] = (
    Guard(
        "end of a reservation",
        "lost answers",
        lambda: (
            ("exchanges.mirror.balances:due", lambda *_: []),
            ("exchanges.mirror.balances:release_shown", nothing),
            ("exchanges.mirror.balances:release_shown_everywhere", set),
        ),
    ),
    Guard(
        "merge: a later stage wins",
        "late words",
        lambda: (("orders.recording.merge:_stage_word", _first_word_stays),),
        seed=6,
    ),
    Guard(
        "merge: a filled quantity never falls",
        "late words",
        lambda: (
            edited(
                "orders.recording.merge:merge_report",
                "max(known.filled_quantity, fills_quantity, report.filled_quantity if report else"
                " ZERO)",
                "report.filled_quantity if report else fills_quantity",
            ),
        ),
    ),
    Guard(
        "a trade counts once",
        "lost events",
        lambda: (
            edited(
                "orders.recording.apply:_merge",
                "known_trade_ids=known_trade_ids",
                "known_trade_ids=()",
            ),
        ),
        drop=(("orders_fill", "fill_unique_trade_id"),),
    ),
    Guard(
        "compare-and-swap of a record",
        "late words",
        lambda: (("orders.recording.changes:own_version", without_version),),
    ),
    Guard(
        "missing trades are fetched",
        "lost events",
        lambda: (
            (
                "orders.reconciliation.questions:fetch_missing_fills",
                lambda gateway, attempt: attempt.order,
            ),
        ),
    ),
    Guard(
        "number and time of an order",
        "names again",
        lambda: (
            ("orders.recording.attempts:is_same_order", lambda attempt, report: True),
            ("orders.recording.attempts:_has_number", lambda attempt, report: True),
            ("orders.recording.attempts:_may_have_become", lambda attempt, report: True),
            ("orders.recording.attempts:_judge", _by_any_name),
        ),
    ),
    Guard(
        "numbers of an epoch",
        "counted again",
        lambda: (("orders.recording.epochs:move_to_free_epoch", lambda *_: False),),
    ),
    Guard(
        "messages survive an outage",
        "short outages",
        lambda: (("backoffice.durable_tasks:is_database_away", lambda error: False),),
    ),
    Guard(
        "a gone row begins again",
        "lost in flight",
        lambda: (("orders.db_retry:is_database_away", _without_gone_rows()),),
    ),
    Guard(
        "outbox: notices are sent again",
        "notices",
        lambda: (("orders.notifications.outbox:sweep", lambda: {"sent": 0, "forgotten": 0}),),
        seed=4,
    ),
    Guard(
        "outbox: the oldest notice first",
        "notices",
        lambda: (
            (
                "orders.notifications.outbox:_CLAIM",
                _claim_text().replace(
                    "ORDER BY n.order_id, n.id", "ORDER BY n.order_id, n.id DESC"
                ),
            ),
        ),
        seed=10,
    ),
    Guard(
        "the younger of two live orders is canceled",
        "doubles",
        lambda: (("orders.sweep:_cancel_surplus", lambda gateway, order: order),),
        seed=2,
    ),
    Guard(
        "a double opens a break",
        "doubles",
        lambda: (("orders.recording.apply:open_break", nothing),),
        seed=2,
    ),
    Guard(
        "lock on the journal's head",
        "halts",
        _unlocked_head,
    ),
    Guard(
        "wait for a table of a restore",
        "late tables",
        _no_later_table,
    ),
    Guard(
        "balances of a clock that was turned back",
        "exchange time",
        lambda: (("exchanges.mirror.balances:_TURNED_BACK", timedelta(days=1)),),
        seed=118,
    ),
)
