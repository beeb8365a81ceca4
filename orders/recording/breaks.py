"""Open and close reconciliation breaks, one row for each cause."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from django.db import transaction

from exchanges import clock
from exchanges.acts import record_act
from orders.models import BreakKind, Order, ReconciliationBreak, Resolution

log = structlog.get_logger(__name__)


def open_break(order: Order, kind: BreakKind, *, subject: str, details: Mapping[str, Any]) -> None:
    """Open a break of an order. Does nothing if the same cause has an open break."""
    open_account_break(order.account_id, kind, subject=subject, details=details, order=order)


def open_account_break(
    account_id: int,
    kind: BreakKind,
    *,
    subject: str,
    details: Mapping[str, Any],
    order: Order | None = None,
) -> None:
    """Open a break of an account, or of one of its orders, like `open_break`."""
    ReconciliationBreak.objects.bulk_create(
        [
            ReconciliationBreak(
                account_id=account_id,
                order=order,
                kind=kind,
                subject=subject,
                details=dict(details),
            )
        ],
        ignore_conflicts=True,
    )
    log.warning(
        "break_opened", kind=str(kind), subject=subject, order_id=str(order.pk) if order else None
    )


def close_account_breaks(account_id: int, kind: BreakKind, *, resolution: str) -> None:
    """Close the account's own open breaks of this kind, not those of its orders."""
    ReconciliationBreak.objects.filter(
        account_id=account_id, order=None, kind=kind, resolved_at__isnull=True
    ).update(resolved_at=clock.now(), resolution=resolution)


def close_breaks(order: Order, kind: BreakKind, *, resolution: str) -> None:
    """Close the order's open breaks of this kind."""
    ReconciliationBreak.objects.filter(order=order, kind=kind, resolved_at__isnull=True).update(
        resolved_at=clock.now(), resolution=resolution
    )


def close_by_hand(
    row: ReconciliationBreak, *, resolution: Resolution, reason: str, actor: str
) -> bool:
    """Close an open break because a person says so. Return False if it is closed already.

    The resolution names the person. Raises `ValueError` if the reason is missing.
    """
    if not reason.strip():
        raise ValueError("reason: a reason is required")
    text = f"{resolution.value}, closed by {actor}: {reason.strip()}"
    still_open = ReconciliationBreak.objects.filter(pk=row.pk, resolved_at__isnull=True)
    with transaction.atomic():
        is_done = bool(still_open.update(resolved_at=clock.now(), resolution=text))
        if is_done:
            record_act(
                "close_break",
                actor=actor,
                subject=f"break:{row.pk}",
                account=row.account.name,
                reason=reason,
                before={"kind": row.kind, "subject": row.subject},
                after={"resolution": resolution.value},
                touched=[f"order:{row.order_id}"] if row.order_id else [],
            )
    if is_done:
        log.warning(
            "break_closed_by_hand",
            kind=row.kind,
            subject=row.subject,
            resolution=resolution.value,
            reason=reason,
            actor=actor,
        )
    return is_done
