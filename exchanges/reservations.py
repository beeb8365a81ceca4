"""Money that orders on their way may spend, held back until the exchange's own figures show it.

A claim reserves in its own transaction what its order may spend: one statement, which fails where the free balance less
what is reserved already does not suffice. The reservation goes when the order certainly did not happen, or when a
balance figure of the exchange is known whose time is at or after the moment the exchange took the order: from then on
`free` lacks the money by itself. So money is never spent twice, and counted twice for a moment at most.

The exchange takes a buyer's fee from what is bought (or from BNB), so what a buy may spend is its notional.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime
from decimal import Decimal

from django.db import connection, transaction
from django.db.models import F

from exchanges.models import Balance, Reservation
from exchanges.rows import Insert, Statement, Update, Write
from exchanges.types import EXACT

_TAKE = """
UPDATE exchanges_balance SET reserved = reserved + {0}::numeric
 WHERE account_id = {1}::bigint AND asset = {2}::text AND free - reserved >= {0}::numeric
"""


def reserve(
    *, account_id: int, asset: str, reference: str, amount: Decimal, free: Decimal, reserved: Decimal, after: int | None
) -> tuple[Write, Write]:
    """The writes that hold the amount back, the second only if the first finds that much free and not reserved.

    To be written in the transaction that read `free` and `reserved`, with `after` as the number of the write in the
    chain that must come before; they follow it directly (None: they are the chain's first).
    """
    first = 0 if after is None else after + 1
    row = Reservation(account_id=account_id, asset=asset, reference=reference, amount=amount)
    if connection.vendor != "sqlite":
        return Statement(_TAKE, (amount, account_id, asset), after), Insert([row], after=first)
    # SQLite keeps figures as text. Its write lock, held since the transaction began, lets us add them up here.
    if amount > EXACT.subtract(free, reserved):
        asset = ""  # no such row: nothing is written
    taken = {"reserved": EXACT.add(reserved, amount)}
    return Update(Balance, {"account": account_id, "asset": asset}, taken, after), Insert([row], after=first)


def release(*, account_id: int, reference: str) -> None:
    """The order certainly did not happen: its money is free again."""
    with transaction.atomic():
        _drop(Reservation.objects.filter(account_id=account_id, reference=reference).select_for_update())


def hand_over(*, account_id: int, reference: str, at: datetime) -> Update:
    """The write that says: the exchange took the order `at` this time of its own; figures from then on show it.

    It leaves the balance's row alone, for which claims of this asset wait. If such a figure is known already, the next
    one drops the reservation, or the sweep.
    """
    return Update(Reservation, {"account": account_id, "reference": reference, "due_at": None}, {"due_at": at})


def release_shown(account_id: int, figures_at: Mapping[str, datetime]) -> None:
    """Drop what the figures of these assets, as of these times of the exchange, show by themselves.

    Call it in the transaction that stores the figures. A reservation that is being changed in this very moment is left
    to its own transaction, which looks at the figures, and else to `sweep`.
    """
    due = Reservation.objects.filter(account_id=account_id, asset__in=figures_at, due_at__isnull=False)
    rows = due.select_for_update(skip_locked=True)
    _drop([row for row in rows if row.due_at is not None and row.due_at <= figures_at[row.asset]])


def release_shown_everywhere() -> set[int]:
    """Drop what the figures known by now show; the accounts (ids) that have handed over and lack a figure since."""
    due = Reservation.objects.filter(due_at__isnull=False)
    assets: dict[int, set[str]] = defaultdict(set)
    for account_id, asset in due.values_list("account_id", "asset").distinct():
        assets[account_id].add(asset)
    for account_id, names in assets.items():
        with transaction.atomic():
            known = Balance.objects.filter(account_id=account_id, asset__in=names)
            release_shown(account_id, {row.asset: row.updated_at for row in known})
    return set(due.values_list("account_id", flat=True).distinct()) if assets else set()


def _drop(rows: Collection[Reservation]) -> None:
    """Give back the money of these; the caller holds their locks, or (SQLite) the database's."""
    freed: dict[tuple[int, str], Decimal] = defaultdict(Decimal)
    for row in rows:
        key = row.account_id, row.asset
        freed[key] = EXACT.add(freed[key], row.amount)
    if not freed:
        return
    Reservation.objects.filter(pk__in=[row.pk for row in rows]).delete()
    for (account_id, asset), amount in sorted(freed.items()):
        _add(account_id, asset, -amount)


def _add(account_id: int, asset: str, amount: Decimal) -> None:
    rows = Balance.objects.filter(account_id=account_id, asset=asset)
    if connection.vendor != "sqlite":
        rows.update(reserved=F("reserved") + amount)
        return
    row = rows.first()
    if row is not None:
        rows.update(reserved=EXACT.add(row.reserved, amount))
