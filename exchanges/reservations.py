"""Money that orders on their way may spend, held back until the exchange's own figures show it.

A claim reserves in its own transaction what its order may spend: one statement, which fails where the free balance less
what is reserved already does not suffice. The reservation goes when the order certainly did not happen, or when a
balance figure of the exchange is known whose time is at or after the moment the exchange took the order: from then on
`free` lacks the money by itself. So money is never spent twice, and counted twice for a moment at most.

The exchange takes a buyer's fee from what is bought (or from BNB), so what a buy may spend is its notional.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import connection, transaction
from django.db.models import F, OuterRef, Subquery

from exchanges import clock
from exchanges.models import Balance, Reservation
from exchanges.types import EXACT

# One statement for both rows: the second is written only if the first was.
_RESERVE = """
WITH taken AS (
  UPDATE exchanges_balance SET reserved = reserved + %(amount)s
   WHERE account_id = %(account_id)s AND asset = %(asset)s AND free - reserved >= %(amount)s
  RETURNING account_id)
INSERT INTO exchanges_reservation (account_id, asset, reference, amount, created_at)
SELECT account_id, %(asset)s, %(reference)s, %(amount)s, %(now)s FROM taken
"""


def reserve(*, account_id: int, asset: str, reference: str, amount: Decimal) -> bool:
    """Hold the amount back if that much is free and not reserved; False if not. Call it inside a transaction."""
    if connection.vendor != "sqlite":
        with connection.cursor() as cursor:
            figures: dict[str, Any] = {"account_id": account_id, "asset": asset, "reference": reference}
            cursor.execute(_RESERVE, {**figures, "amount": amount, "now": clock.now()})
            return bool(cursor.rowcount)
    # SQLite keeps figures as text, and its write lock, held since the transaction began, lets us add them up here.
    row = Balance.objects.filter(account_id=account_id, asset=asset).first()
    if row is None or amount > EXACT.subtract(row.free, row.reserved):
        return False
    Balance.objects.filter(pk=row.pk).update(reserved=EXACT.add(row.reserved, amount))
    Reservation.objects.create(account_id=account_id, asset=asset, reference=reference, amount=amount)
    return True


def release(*, account_id: int, reference: str) -> None:
    """The order certainly did not happen: its money is free again."""
    with transaction.atomic():
        _drop(Reservation.objects.filter(account_id=account_id, reference=reference))


def hand_over(*, account_id: int, reference: str, at: datetime, spent: Decimal | None = None) -> None:
    """The exchange took the order `at` this time of its own: figures from then on show it.

    `spent`: the order is over, and only so much of the money is gone.
    """
    if spent is not None and spent <= 0:
        release(account_id=account_id, reference=reference)
        return
    # No savepoint, and the figure's time read with the row: each statement here is a round trip of every order.
    figure_at = Balance.objects.filter(account_id=account_id, asset=OuterRef("asset")).values("updated_at")
    held = Reservation.objects.filter(account_id=account_id, reference=reference)
    with transaction.atomic(savepoint=False):
        for row in held.annotate(figure_at=Subquery(figure_at)):
            due_at = row.due_at or at
            if row.figure_at is not None and row.figure_at >= due_at:
                _drop([row])
                continue
            amount = row.amount if spent is None else spent
            if Reservation.objects.filter(pk=row.pk, amount=row.amount).update(amount=amount, due_at=due_at):
                _add(account_id, row.asset, EXACT.subtract(amount, row.amount))


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


def _drop(rows: Iterable[Reservation]) -> None:
    freed: dict[tuple[int, str], Decimal] = defaultdict(Decimal)
    for row in rows:
        # Exactly one of several who drop it gives the money back.
        if Reservation.objects.filter(pk=row.pk, amount=row.amount).delete()[0]:
            key = row.account_id, row.asset
            freed[key] = EXACT.add(freed[key], row.amount)
    for (account_id, asset), amount in sorted(freed.items()):
        _add(account_id, asset, -amount)


def _add(account_id: int, asset: str, amount: Decimal) -> None:
    if not amount:
        return  # above all no lock on the row that every claim of this asset waits for
    rows = Balance.objects.filter(account_id=account_id, asset=asset)
    if connection.vendor != "sqlite":
        rows.update(reserved=F("reserved") + amount)
        return
    row = rows.first()
    if row is not None:
        rows.update(reserved=EXACT.add(row.reserved, amount))
