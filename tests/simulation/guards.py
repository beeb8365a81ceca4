"""Switch off one guard at a time, to see that the simulation notices.

Each guard is one place of the code, changed for one run: a function with another text, another
function in its place, or a constraint that the database lacks. If no seed fails then, either the
guard protects nothing that a story reaches, or another guard covers for it. `docs/proof.md` has
the table.
"""

from __future__ import annotations

import importlib
import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from tests.simulation.database import Database

#: One changed place: the module and the name in it, and its replacement.
Change = tuple[str, Any]


@dataclass(frozen=True, slots=True)
class Guard:
    """One guard: how it is switched off, and the profiles whose stories should notice."""

    name: str
    changes: Callable[[], Sequence[Change]] = lambda: ()
    profiles: tuple[str, ...] = ("path", "crashes")
    drop: tuple[tuple[str, str], ...] = ()  # constraints, as (table, name)
    is_proven: bool = False  # A run has shown that the stories notice when it is missing.


def edited(place: str, before: str, after: str) -> Change:
    """Return the function at this place with a part of its text changed."""
    module, _, name = place.partition(":")
    own = importlib.import_module(module)
    function = getattr(own, name)
    text = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    assert before in text, f"{place} doesn't contain {before!r}"
    made: dict[str, Any] = {}
    code = compile(
        "from __future__ import annotations\n" + text.replace(before, after), place, "exec"
    )
    names = own.__dict__
    exec(code, names, made)  # the module's own names, and a new function
    return place, made[name]


@contextmanager
def switched_off(guard: Guard | None, database: Database) -> Iterator[None]:
    """Leave the guard out within the block."""
    if guard is None:
        yield
        return
    dropped = [(table, name, _definition(database, name)) for table, name in guard.drop]
    for table, name, _ in dropped:
        database.monitor.execute(f'ALTER TABLE "{table}" DROP CONSTRAINT "{name}"')
    try:
        with ExitStack() as stack:
            for place, new in guard.changes():
                module, _, path = place.partition(":")
                owner: Any = importlib.import_module(module)
                *parents, attribute = path.split(".")
                for parent in parents:
                    owner = getattr(owner, parent)
                stack.enter_context(patch.object(owner, attribute, new))
            yield
    finally:
        database.end_sessions()
        database.empty()
        for table, name, definition in dropped:
            database.monitor.execute(f'ALTER TABLE "{table}" ADD CONSTRAINT "{name}" {definition}')


def _definition(database: Database, name: str) -> str:
    row = database.monitor.execute(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = %s", (name,)
    ).fetchone()
    assert row is not None, name
    return str(row[0])


# -- the replacements ------------------------------------------------------------------------------


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _not_found(*_: Any, **__: Any) -> Any:
    from exchanges.errors import OrderNotFound

    raise OrderNotFound("nobody asked")


def _without_version(order: Any, changes: Any) -> Any:
    from exchanges.db.batch_writes import Update
    from orders.models import Order

    return Update(Order, {"id": order.pk}, changes)


def _sign_again() -> Sequence[Change]:
    from dataclasses import replace

    from exchanges import clock
    from orders.placing.claim import Claim

    request = Claim.request

    def signed_again(self: Any) -> Any:
        return replace(request(self), timestamp_ms=clock.now_ms())

    return (("orders.placing.claim:Claim.request", signed_again),)


def _unknown_is_unsent() -> Sequence[Change]:
    from exchanges.binance.parameters import error_of as judge
    from exchanges.errors import NotSent, OutcomeUnknown

    def error_of(result: Any, kind: Any) -> Any:
        error = judge(result, kind)
        return NotSent(error.message) if isinstance(error, OutcomeUnknown) else error

    return (("exchanges.binance.gateway:error_of", error_of),)


def _no_share_lock() -> Sequence[Change]:
    from orders.gate import facts

    facts._statement.cache_clear()
    return (
        ("orders.gate.facts:_STATEMENT", facts._STATEMENT.replace("FOR SHARE OF h, a", "")),
        ("orders.gate.facts:_statement", facts._statement.__wrapped__),
    )


def _read_usage_unlocked() -> Sequence[Change]:
    return (edited("orders.gate.usage:_read_locked", " ORDER BY id FOR UPDATE", " ORDER BY id"),)


def _first_word_stays(known: str, said: str) -> tuple[str, str]:
    return (said or known, "")


def _no_catch_up() -> Sequence[Change]:
    return (
        ("orders.gate.decide:_require_history", _nothing),
        ("orders.book_identity:trusted_from", lambda distrusted: distrusted),
    )


def _trust() -> Sequence[Change]:
    return (
        ("orders.book_identity:agrees", lambda memory, token, missing: True),
        ("orders.book_identity:note_claim", _nothing),
        ("orders.book_identity:doubt", _nothing),
    )


def _unlocked_head() -> Sequence[Change]:
    from backoffice.people.models import JournalHead

    return (
        (
            "backoffice.people.journal.writing:_locked_head",
            lambda: JournalHead.objects.get(pk=JournalHead.ROW),
        ),
    )


GUARDS: tuple[Guard, ...] = (
    Guard(
        "one order per intent",
        drop=(
            ("orders_order", "order_unique_intent"),
            ("orders_exchangeorder", "exchange_order_unique_client_id"),
        ),
        profiles=("path", "crashes", "limits"),
    ),
    Guard(
        "compare-and-swap of a claim",
        lambda: (("orders.placing.claim:own_version", _without_version),),
        drop=(
            ("orders_exchangeorder", "exchange_order_unique_attempt"),
            ("orders_exchangeorder", "exchange_order_unique_client_id"),
        ),
        profiles=("path", "crashes", "stops"),
    ),
    Guard("fence: the request's own time", _sign_again, ("stops",)),
    Guard(
        "question before a second attempt",
        lambda: (
            ("orders.sweep:ask_for", _not_found),
            ("orders.sweep:find_order", _nothing),
        ),
    ),
    Guard(
        "horizon of absence",
        lambda: (("orders.sweep:fence_ms", lambda attempt: 0),),
        ("path", "stops"),
    ),
    Guard(
        "every source before absence",
        lambda: (("orders.sweep:find_order", _nothing),),
        ("hands",),
    ),
    Guard("unknown is not unsent", _unknown_is_unsent),
    Guard("identity of the book", _trust, ("back",)),
    Guard(
        "history after a book went back",
        _no_catch_up,
        ("back",),
        is_proven=True,
    ),
    Guard(
        "fence after a book went back",
        lambda: (("orders.book_identity:trusted_from", lambda distrusted: distrusted),),
        ("back",),
    ),
    Guard("share lock on halt and account", _no_share_lock, ("halts",)),
    Guard(
        "halt in the gate",
        lambda: (("orders.gate.decide:check_permission", _nothing),),
        ("halts",),
    ),
    Guard(
        "limit of open orders",
        lambda: (("orders.gate.decide:check_usage", _nothing),),
        ("limits",),
        is_proven=True,
    ),
    Guard("lock on the limit's row", _read_usage_unlocked, ("limits",)),
    Guard(
        "reservation of money",
        lambda: (("orders.placing.claim:_reservation", lambda *_, **__: ()),),
        ("money",),
    ),
    Guard(
        "end of a reservation",
        lambda: (
            ("exchanges.mirror.balances:release_shown", _nothing),
            ("exchanges.mirror.balances:release_shown_everywhere", set),
        ),
        ("money", "path"),
        is_proven=True,
    ),
    Guard(
        "deadline",
        lambda: (edited("orders.gate.decide:decide", "now >= place_by", "False"),),
        ("outages", "stops", "crashes"),
    ),
    Guard(
        "merge: a later stage wins",
        lambda: (("orders.recording.merge:_stage_word", _first_word_stays),),
        ("path", "hands"),
    ),
    Guard(
        "merge: a filled quantity never falls",
        lambda: (
            edited(
                "orders.recording.merge:merge_report",
                "max(known.filled_quantity, fills_quantity, report.filled_quantity if report else"
                " ZERO)",
                "report.filled_quantity if report else fills_quantity",
            ),
        ),
        ("path", "hands"),
    ),
    Guard(
        "a trade counts once",
        lambda: (
            edited(
                "orders.recording.apply:_merge",
                "known_trade_ids=known_trade_ids",
                "known_trade_ids=()",
            ),
        ),
        ("path",),
        drop=(("orders_fill", "fill_unique_trade_id"),),
        is_proven=True,
    ),
    Guard(
        "compare-and-swap of a record",
        lambda: (("orders.recording.changes:own_version", _without_version),),
        ("path", "hands", "limits"),
        is_proven=True,
    ),
    Guard(
        "missing trades are fetched",
        lambda: (
            ("orders.sweep:fetch_missing_fills", lambda gateway, attempt: attempt.order),
            ("orders.reconciliation.questions:fetch_missing_fills", _nothing),
        ),
        ("path", "hands"),
    ),
    Guard(
        "number and time of an order",
        lambda: (
            ("orders.recording.attempts:is_same_order", lambda attempt, report: True),
            ("orders.recording.attempts:_has_number", lambda attempt, report: True),
            ("orders.recording.attempts:_may_have_become", lambda attempt, report: True),
        ),
        ("hands",),
    ),
    Guard(
        "sweep of due orders",
        lambda: (("orders.sweep:_claimed_orders", lambda account: iter(())),),
        is_proven=True,
    ),
    Guard(
        "a cancel is recorded first",
        lambda: (("orders.placing.cancel:request_cancel", lambda order, **_: order),),
        ("path", "crashes"),
    ),
    Guard(
        "early cancels",
        lambda: (
            edited("orders.placing.claim:_claim", "if facts.is_canceled_early", "if False"),
            ("orders.sweep:meet_early_cancels", _nothing),
        ),
        ("path", "crashes", "hands"),
        is_proven=True,
    ),
    Guard(
        "messages survive an outage",
        lambda: (("backoffice.durable_tasks:is_database_away", lambda error: False),),
        ("outages",),
        is_proven=True,
    ),
    Guard(
        "a gone row begins again",
        lambda: (
            ("orders.db_retry:is_database_away", _without_gone_rows()),
            ("backoffice.durable_tasks:is_database_away", _without_gone_rows()),
        ),
        ("back",),
    ),
    Guard(
        "outbox: notices are sent again",
        lambda: (("orders.notifications.outbox:sweep", lambda: {"sent": 0, "forgotten": 0}),),
        ("crashes", "outages"),
        is_proven=True,
    ),
    Guard(
        "outbox: the oldest notice first",
        lambda: (
            (
                "orders.notifications.outbox:_CLAIM",
                _claim_text().replace("ORDER BY n.id LIMIT 1", "ORDER BY n.id DESC LIMIT 1"),
            ),
        ),
        ("outages", "crashes"),
    ),
    Guard(
        "the younger of two live orders is canceled",
        lambda: (("orders.sweep:_cancel_surplus", lambda gateway, order: order),),
        ("lags",),
    ),
    Guard(
        "a double opens a break",
        lambda: (("orders.recording.apply:open_break", _nothing),),
        ("lags",),
    ),
    Guard(
        "lock on the journal's head",
        _unlocked_head,
        ("halts",),
        is_proven=True,
    ),
)
BY_NAME = {guard.name: guard for guard in GUARDS}


def _claim_text() -> str:
    from orders.notifications import outbox

    return outbox._CLAIM


def _without_gone_rows() -> Any:
    from orders import db_retry

    judge, gone = db_retry.is_database_away, db_retry.RowGone
    return lambda error: not isinstance(error, gone) and judge(error)
