"""Switch off one guard at a time, to see that the simulation notices.

Each guard is one place of the code, changed for one run: a function with another text, another
function in its place, or a constraint that the database lacks. Each names the profile of which one
of a few seeds fails then, and passes with the guard in place. `docs/proof.md` tells what was found.
"""

from __future__ import annotations

import importlib
import inspect
import sys
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
    """One guard: the profile whose stories notice when it is missing, and how it is switched off.

    `seed` is the first of the seeds to try. `drop` are constraints, as (table, name).
    """

    name: str
    noticed_by: str
    changes: Callable[[], Sequence[Change]] = lambda: ()
    seed: int = 0
    drop: tuple[tuple[str, str], ...] = ()


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
                for owner, attribute in places_of(place):
                    stack.enter_context(patch.object(owner, attribute, new))
            yield
    finally:
        database.end_sessions()
        database.empty()
        for table, name, definition in dropped:
            database.monitor.execute(f'ALTER TABLE "{table}" ADD CONSTRAINT "{name}" {definition}')


def places_of(place: str) -> list[tuple[Any, str]]:
    """Return every place that holds what this one does: the owner and the name in it.

    Where a function is defined, it is changed for every module that has imported it. Where it was
    imported, only there.
    """
    module, _, path = place.partition(":")
    owner: Any = importlib.import_module(module)
    *parents, attribute = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    old = getattr(owner, attribute)
    if parents or getattr(old, "__module__", None) != module:
        return [(owner, attribute)]
    ours = [own for name, own in sorted(sys.modules.items()) if name.startswith(_OUR_PACKAGES)]
    return [(own, attribute) for own in ours if own.__dict__.get(attribute) is old]


_OUR_PACKAGES = ("backoffice.", "exchanges.", "orders.")


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


def _by_any_name(report: Any, by_client_id: Any, previous: Any, by_number: Any) -> Any:
    from orders.recording.attempts import Unknown

    return by_client_id or previous or next(iter(by_number), None) or Unknown()


def _no_catch_up() -> Sequence[Change]:
    return (
        ("orders.gate.decide:_require_history", _nothing),
        ("orders.book_identity:trusted_from", lambda distrusted: distrusted),
    )


def _trust() -> Sequence[Change]:
    return (
        ("orders.book_identity:agrees", lambda memory, token, missing_claims: True),
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
        "said twice",
        drop=(
            ("orders_order", "order_unique_intent"),
            ("orders_exchangeorder", "exchange_order_unique_client_id"),
        ),
    ),
    Guard(
        "compare-and-swap of a claim",
        "placed twice",
        lambda: (("orders.placing.claim:own_version", _without_version),),
        drop=(
            ("orders_exchangeorder", "exchange_order_unique_attempt"),
            ("orders_exchangeorder", "exchange_order_unique_client_id"),
        ),
    ),
    Guard(
        "fence: the request's own time",
        "stopped senders",
        _sign_again,
    ),
    Guard(
        "question before a second attempt",
        "lost answers",
        lambda: (
            ("orders.sweep:ask_for", _not_found),
            ("orders.sweep:find_order", _nothing),
        ),
    ),
    Guard(
        "horizon of absence",
        "early answers",
        lambda: (("orders.sweep:fence_ms", lambda attempt: 0),),
    ),
    Guard(
        "every source before absence",
        "amended unseen",
        lambda: (("orders.sweep:find_order", _nothing),),
    ),
    Guard(
        "unknown is not unsent",
        "lost answers",
        _unknown_is_unsent,
    ),
    Guard(
        "identity of the book",
        "lost claims",
        _trust,
    ),
    Guard(
        "history after a book went back",
        "lost claims",
        _no_catch_up,
    ),
    Guard(
        "fence after a book went back",
        "lost in flight",
        lambda: (("orders.book_identity:trusted_from", lambda distrusted: distrusted),),
    ),
    Guard(
        "share lock on halt and account",
        "halted claims",
        _no_share_lock,
    ),
    Guard(
        "halt in the gate",
        "halts",
        lambda: (("orders.gate.decide:check_permission", _nothing),),
    ),
    Guard(
        "limit of open orders",
        "crowds",
        lambda: (("orders.gate.decide:check_usage", _nothing),),
    ),
    Guard(
        "lock on the limit's row",
        "crowds",
        _read_usage_unlocked,
    ),
    Guard(
        "reservation of money",
        "little money",
        lambda: (("orders.placing.claim:_reservation", lambda *_, **__: ()),),
        seed=3,
    ),
    Guard(
        "end of a reservation",
        "lost answers",
        lambda: (
            ("exchanges.mirror.balances:due", lambda *_: []),
            ("exchanges.mirror.balances:release_shown", _nothing),
            ("exchanges.mirror.balances:release_shown_everywhere", set),
        ),
    ),
    Guard(
        "deadline",
        "late",
        lambda: (edited("orders.gate.decide:decide", "now >= place_by", "False"),),
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
        lambda: (("orders.recording.changes:own_version", _without_version),),
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
        "hold for a second person",
        "reviews",
        lambda: (("orders.placing.holding:why_held", lambda *_, **__: ""),),
    ),
    Guard(
        "end of a hold",
        "reviews",
        lambda: (("orders.placing.holding:expire_held", lambda order: order),),
    ),
    Guard(
        "sweep of due orders",
        "lost answers",
        lambda: (("orders.sweep:_claimed_orders", lambda account: iter(())),),
    ),
    Guard(
        "a cancel is recorded first",
        "lost cancels",
        lambda: (("orders.placing.cancel:request_cancel", lambda order, **_: order),),
    ),
    Guard(
        "early cancels",
        "early cancels",
        lambda: (
            edited("orders.placing.claim:_claim", "if facts.is_canceled_early", "if False"),
            ("orders.sweep:meet_early_cancels", _nothing),
        ),
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
        lambda: (("orders.recording.apply:open_break", _nothing),),
        seed=2,
    ),
    Guard(
        "lock on the journal's head",
        "halts",
        _unlocked_head,
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
