"""Hold back the money that orders on their way may spend, until the exchange's balances show it.

A claim reserves in its own transaction what its order may spend, with one statement, which fails if
the free balance minus all reservations does not suffice. The reservation ends when the order
certainly did not happen, or when we know a balance of the exchange from the moment it took the
order or later: from then on `free` lacks the money by itself. So money is never spent twice, and
counted twice for a moment at most.

The exchange takes a buyer's fee from the bought asset (or from BNB), so a buy spends at most its
notional.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from django.db import transaction
from django.db.models import F

from exchanges.db.batch_writes import Insert, Statement, Update, Write
from exchanges.models import Balance, Reservation
from exchanges.types import EXACT

_TAKE = Path(__file__).with_name("take_from_balance.sql").read_text(encoding="utf-8")


def reserve(
    *,
    account_id: int,
    asset: str,
    reference: str,
    amount: Decimal,
    after: int | None,
) -> tuple[Write, Write]:
    """Return the writes that hold the amount back. The second follows only if the first found it.

    `after` is the number of the write in the chain that must succeed first. These two follow it
    directly (None: they start the chain).
    """
    first = 0 if after is None else after + 1
    row = Reservation(account_id=account_id, asset=asset, reference=reference, amount=amount)
    parameters = {"amount": amount, "account": account_id, "asset": asset}
    return Statement(_TAKE, parameters, after), Insert([row], only_if_wrote=first)


def release(*, account_id: int, reference: str) -> None:
    """Free the money of an order that certainly did not happen."""
    release_all(account_id=account_id, references=[reference])


def release_all(*, account_id: int, references: Sequence[str]) -> None:
    """Free the money of several orders that certainly did not happen."""
    with transaction.atomic():
        rows = Reservation.objects.filter(account_id=account_id, reference__in=references)
        drop(rows.order_by("pk").select_for_update())


def hand_over(*, account_id: int, reference: str, at: datetime) -> Update:
    """Return the write that marks the reservation as covered by balances from `at` on.

    `at` is the exchange's time of taking the order. The write leaves the balance's row alone,
    because claims of this asset wait for it. If such a balance is known already, the next one or
    the sweep releases the reservation.
    """
    return Update(
        Reservation, {"account": account_id, "reference": reference, "due_at": None}, {"due_at": at}
    )


def release_shown(account_id: int, figures_at: Mapping[str, datetime]) -> None:
    """Release the reservations that these balances cover. Assets come with the exchange's times.

    Call it in the transaction that stores the balances.
    """
    rows = due(account_id, figures_at)
    drop([row for row in rows if row.due_at is not None and row.due_at <= figures_at[row.asset]])


def due(account_id: int, assets: Collection[str]) -> list[Reservation]:
    """Return and lock the reservations that a balance of these assets may end.

    One that is changing at this moment is left to its own transaction, or else to the sweep.
    """
    if not assets:
        return []
    rows = Reservation.objects.filter(account_id=account_id, asset__in=assets, due_at__isnull=False)
    return list(rows.select_for_update(skip_locked=True))


def release_shown_everywhere() -> set[int]:
    """Release what known balances cover.

    Return the ids of accounts that still lack a balance since they handed over.
    """
    handed_over = Reservation.objects.filter(due_at__isnull=False)
    assets: dict[int, set[str]] = defaultdict(set)
    for account_id, asset in handed_over.values_list("account_id", "asset").distinct():
        assets[account_id].add(asset)
    for account_id, names in assets.items():
        with transaction.atomic():
            known = Balance.objects.filter(account_id=account_id, asset__in=names)
            release_shown(account_id, {row.asset: row.updated_at for row in known})
    rest = handed_over.values_list("account_id", flat=True).distinct()
    return set(rest) if assets else set()


def drop(rows: Collection[Reservation]) -> None:
    """Give back the money of these reservations. The caller holds their locks."""
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
    Balance.objects.filter(account_id=account_id, asset=asset).update(
        reserved=F("reserved") + amount
    )
