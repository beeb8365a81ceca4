"""Notice that the exchange's numbers have begun again, as after a reset.

Numbers are unique within an epoch. A row whose number is in use moves to a free epoch, so it can be
stored at once. A person decides how the account continues (`begin_epoch`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import Max

from exchanges.models import ExchangeAccount
from exchanges.trading_state import halt_by_rule
from exchanges.types import FillReport, OrderReport
from orders.models import BreakKind, ExchangeOrder, Fill
from orders.recording.breaks import open_account_break

_REASON = "the exchange's numbers have begun again: it was reset, or this is another account"


def move_to_free_epoch(
    attempt: ExchangeOrder, report: OrderReport | None, fills: Sequence[FillReport]
) -> bool:
    """Move the attempt to an epoch in which its number and trade ids are free.

    Return False if they are free where it is, so that another constraint is broken.
    """
    number = attempt.exchange_order_id or (report.exchange_order_id if report else "")
    others = ExchangeOrder.objects.exclude(pk=attempt.pk)
    epoch = max(
        _after(others.filter(account=attempt.account_id), attempt.symbol, number, attempt.epoch),
        _after_fills(attempt, [fill.trade_id for fill in fills]),
    )
    if epoch == attempt.epoch:
        return False
    ExchangeOrder.objects.filter(pk=attempt.pk).update(epoch=epoch)
    attempt.epoch = epoch
    details = {"symbol": attempt.symbol, "number": number, "order": attempt.client_order_id}
    note_reset(attempt.order.account, details)
    return True


def current_epoch(account: ExchangeAccount) -> int:
    """Return the account's epoch as stored now, because a listener keeps its account for days."""
    return ExchangeAccount.objects.values_list("epoch", flat=True).get(pk=account.pk)


def free_epoch(account: ExchangeAccount, symbol: str, number: str) -> int:
    """Return the account's epoch, or a later one if this number is in use there."""
    rows = ExchangeOrder.objects.filter(account=account)
    return _after(rows, symbol, number, current_epoch(account))


def note_reset(account: ExchangeAccount, details: Mapping[str, Any]) -> None:
    """Open the break of an exchange that counts again, and halt the account."""
    open_account_break(account.pk, BreakKind.NUMBERS_REUSED, subject=account.name, details=details)
    transaction.on_commit(partial(_halt, account))


def _halt(account: ExchangeAccount) -> None:
    halt_by_rule(account=account, reason=_REASON, actor="recording")


def _after(rows: Any, symbol: str, number: str, epoch: int) -> int:
    if not number:
        return epoch
    used = rows.filter(symbol=symbol, exchange_order_id=number, epoch__gte=epoch)
    newest: int | None = used.aggregate(newest=Max("epoch"))["newest"]
    return epoch if newest is None else newest + 1


def _after_fills(attempt: ExchangeOrder, trade_ids: Sequence[str]) -> int:
    used = Fill.objects.filter(
        account=attempt.account_id,
        symbol=attempt.symbol,
        trade_id__in=trade_ids,
        side=attempt.order.side,
        epoch__gte=attempt.epoch,
    ).exclude(exchange_order=attempt)
    newest: int | None = used.aggregate(newest=Max("epoch"))["newest"]
    return attempt.epoch if newest is None else newest + 1
