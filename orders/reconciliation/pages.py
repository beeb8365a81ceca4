"""Page through the exchange's lists by id, whether or not their rows can be read. Pure.

A page holds the smallest ids from the asked one on. So its length says how far it goes at least,
and no page is left out even if its rows show no id. The exchange may send fewer rows than we ask
for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from typing import Any

from exchanges.types import FillReport, OrderReport, Rows, Unreadable

PAGE = 1000
_NAMED_LAST = re.compile(r"(?:#| trade )([0-9]{1,18})\Z")


def is_last(page: Rows[Any], *, start: int = 0, ids: Collection[int] = ()) -> bool:
    """Return True if the exchange has no more rows.

    That is so, too, if it shows only ids before `start`: then it doesn't read on by id.
    """
    return not page.may_go_on or max(ids, default=start) < start


def is_full(page: Rows[Any]) -> bool:
    """Return True if the page has as many rows as we ask for."""
    return page.length >= PAGE


def next_id(start: int, page: Rows[Any], ids: Iterable[int]) -> int:
    """Return the id at which the next page begins, given the ids that this one shows."""
    return max(start + page.length - 1, *ids, 0) + 1


def order_numbers(page: Rows[OrderReport]) -> list[int]:
    """Return the numbers of the orders on a page, as far as its rows show them."""
    return [*(int(row.exchange_order_id) for row in page), *unreadable_ids(page, "orderId")]


def trade_ids(page: Rows[FillReport]) -> list[int]:
    """Return the ids of the trades on a page, as far as its rows show them."""
    return [*(int(row.trade_id) for row in page), *unreadable_ids(page, "id")]


def unreadable_ids(page: Rows[Any], name: str) -> list[int]:
    """Return the ids that the unreadable rows show."""
    found = (id_of(row, name) for row in page.unreadable)
    return [number for number in found if number is not None]


def id_of(row: Unreadable, name: str) -> int | None:
    """Return the id of an unreadable row. None if it shows none."""
    value = value_of(row, name)
    if type(value) is int and 0 <= value < 2**63:
        return value
    named = _NAMED_LAST.search(row.subject)  # The text of a long row is cut.
    return int(named[1]) if named else None


def value_of(row: Unreadable, name: str) -> Any:
    """Return one field of an unreadable row. None if it has none, or the row was cut."""
    try:
        return json.loads(row.text)[name]
    except (ValueError, LookupError, TypeError):
        return None
