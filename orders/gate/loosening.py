"""Decide whether a change of limits lets more through. Pure.

The comparison is made for each scope and currency and for each limit by itself, with what the gate
makes of an empty limit: the built-in limit of a live account, a denial if the same scope is limited
in another currency only, or else no limit.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal

from orders.gate.limits import LIVE_DEFAULTS, MONEY_FIELDS, Limits

_NO_LIMIT = Decimal("Infinity")
_DENIED = Decimal(-1)
_COUNTS = (
    "max_open_orders",
    "max_orders_per_second",
    "max_orders_per_day",
    "max_position",
)
_Key = tuple[tuple[str, str], str]  # scope and currency


@dataclass(frozen=True, slots=True)
class Book:
    """All limits of one account. `money` are the assets that count as money."""

    rows: Sequence[Limits]
    is_live: bool
    money: Collection[str]


def loosens(before: Book, after: Book) -> bool:
    """Return whether an order might pass with `after` that is denied with `before`."""
    keys = {(row.scope, row.currency) for book in (before, after) for row in book.rows}
    return any(_is_looser(before, after, key) for key in keys)


def _is_looser(before: Book, after: Book, key: _Key) -> bool:
    old, new = (_row(book, key) for book in (before, after))
    if any(_money(after, key, name) > _money(before, key, name) for name in MONEY_FIELDS):
        return True
    if any(_count(after, new, key, name) > _count(before, old, key, name) for name in _COUNTS):
        return True
    if _allows_more_symbols(old, new):
        return True
    # A longer age lets the distance be compared with an older price.
    distance, age = _distance(after, new, key)
    old_distance, old_age = _distance(before, old, key)
    if distance > old_distance or (old_distance < _NO_LIMIT and age > old_age):
        return True
    # A longer window counts more of the identical orders.
    identical, window = _identical(after, new, key)
    old_identical, old_window = _identical(before, old, key)
    return identical > old_identical or (old_identical < _NO_LIMIT and window < old_window)


def _row(book: Book, key: _Key) -> Limits:
    found = (row for row in book.rows if (row.scope, row.currency) == key)
    return next(found, Limits(currency=key[1], symbol=key[0][0], strategy=key[0][1]))


def _has_default(book: Book, key: _Key) -> bool:
    return book.is_live and key[0] == ("", "")


def _money(book: Book, key: _Key, name: str) -> Decimal:
    """Return the largest amount that passes. `_DENIED`: the amount isn't limited in this currency,
    but in another one, so no order in this currency passes.
    """
    scope, currency = key
    value: Decimal | None = getattr(_row(book, key), name)
    if value is not None:
        return value
    default: Decimal | None = getattr(LIVE_DEFAULTS, name)
    if _has_default(book, key) and default is not None:
        return default if currency in book.money else _DENIED
    others = (row for row in book.rows if row.scope == scope)
    is_limited = any(getattr(row, name) is not None for row in others)
    return _DENIED if is_limited else _NO_LIMIT


def _count(book: Book, row: Limits, key: _Key, name: str) -> Decimal:
    value = getattr(row, name)
    if value is None and _has_default(book, key):
        value = getattr(LIVE_DEFAULTS, name)
    return _NO_LIMIT if value is None else Decimal(value)


def _distance(book: Book, row: Limits, key: _Key) -> tuple[Decimal, int]:
    if row.max_price_distance is None and _has_default(book, key):
        row = LIVE_DEFAULTS
    found = row.max_price_distance
    return (_NO_LIMIT if found is None else found), row.max_price_age


def _identical(book: Book, row: Limits, key: _Key) -> tuple[Decimal, int]:
    if row.max_identical_orders is None and _has_default(book, key):
        row = LIVE_DEFAULTS
    found = row.max_identical_orders
    return (_NO_LIMIT if found is None else Decimal(found)), row.identical_window


def _allows_more_symbols(old: Limits, new: Limits) -> bool:
    before, after = (set(row.symbols) for row in (old, new))
    return bool(before) and (not after or not after <= before)
