"""Decide whether a change of limits lets more through. Pure.

The comparison is made for each scope and currency and for each limit by itself. An empty limit
counts as in the gate: the built-in limit of a live account, a denial if the same scope is limited
in another currency only, or else no limit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from orders.gate.limits import LIVE_DEFAULTS, MONEY_FIELDS, Limits, in_force

_DENIED = Decimal(-1)
_COUNTS = (
    "max_open_orders",
    "max_orders_per_second",
    "max_orders_per_day",
    "max_position",
)
_Key = tuple[tuple[str, str], str]  # scope and currency
_Bound = tuple[Any, ...]  # tighter if no part is larger


@dataclass(frozen=True, slots=True)
class Book:
    """All limits of one account. `money` are the assets that count as money."""

    rows: Sequence[Limits]
    is_live: bool
    money: Collection[str]


def loosens(before: Book, after: Book, now: datetime) -> bool:
    """Return whether an order might pass with `after`, now or later, that is denied with `before`.

    Between the ends of temporary rows nothing changes, so it's enough to look at each end.
    """
    ends = {row.until for book in (before, after) for row in book.rows if row.until is not None}
    moments = [now, *(end for end in ends if end > now)]
    return any(_loosens_at(before, after, moment) for moment in moments)


def _loosens_at(before: Book, after: Book, now: datetime) -> bool:
    old, new = (replace(book, rows=in_force(book.rows, now)) for book in (before, after))
    keys = {row.place for book in (old, new) for row in book.rows}
    return any(_is_looser(_bounds(old, key), _bounds(new, key)) for key in keys)


def _is_looser(old: Mapping[str, list[_Bound]], new: Mapping[str, list[_Bound]]) -> bool:
    """Return whether a bound has no successor that is at least as tight."""
    return any(
        not any(_is_as_tight(candidate, bound) for candidate in new[name])
        for name, bounds in old.items()
        for bound in bounds
    )


def _is_as_tight(bound: _Bound, other: _Bound) -> bool:
    return all(part <= limit for part, limit in zip(bound, other, strict=True))


def _bounds(book: Book, key: _Key) -> dict[str, list[_Bound]]:
    """Return what keeps orders of this scope and currency back, by the limit's name."""
    rows = [row for row in book.rows if row.place == key]
    default = LIVE_DEFAULTS if book.is_live and key[0] == ("", "") else Limits()
    found: dict[str, list[_Bound]] = {
        "symbols": [(frozenset(row.symbols),) for row in rows if row.symbols]
    }
    for name in MONEY_FIELDS:
        found[name] = _values(rows, name) or _without_money(book, key, default, name)
    for name in _COUNTS:
        found[name] = _values(rows, name) or _values([default], name)
    # A longer age lets the distance be compared with an older price, and a longer window counts
    # more of the identical orders.
    found["distance"] = [
        (row.max_price_distance, row.max_price_age)
        for row in _setting(rows, default, "max_price_distance")
    ]
    found["identical"] = [
        (row.max_identical_orders, -row.identical_window)
        for row in _setting(rows, default, "max_identical_orders")
    ]
    return found


def _values(rows: Sequence[Limits], name: str) -> list[_Bound]:
    return [(value,) for row in rows if (value := getattr(row, name)) is not None]


def _setting(rows: Sequence[Limits], default: Limits, name: str) -> list[Limits]:
    found = [row for row in rows if getattr(row, name) is not None]
    return found or [row for row in [default] if getattr(row, name) is not None]


def _without_money(book: Book, key: _Key, default: Limits, name: str) -> list[_Bound]:
    """Return the bound of an amount that no row of the scope sets in this currency.

    If the same scope sets it in another currency, no order in this one passes.
    """
    scope, currency = key
    if built_in := _values([default], name):
        return built_in if currency in book.money else [(_DENIED,)]
    return [(_DENIED,)] if _values([row for row in book.rows if row.scope == scope], name) else []
