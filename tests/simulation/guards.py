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


# -- for several guards ----------------------------------------------------------------------------


def nothing(*_: Any, **__: Any) -> None:
    """Do nothing, in place of a function."""


def without_version(order: Any, changes: Any) -> Any:
    """Change an order's row whatever version it has, in place of `own_version`."""
    from exchanges.db.batch_writes import Update
    from orders.models import Order

    return Update(Order, {"id": order.pk}, changes)
