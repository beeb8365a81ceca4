"""Halt and resume a symbol or a strategy, of one account or of all."""

from __future__ import annotations

from typing import Any

import structlog
from django.db import transaction

from exchanges import clock
from exchanges.account_writes import ahead_of_claims
from exchanges.acts import record_act
from exchanges.models import ExchangeAccount, ScopedHalt

log = structlog.get_logger(__name__)


def halt_scope(
    *, account: ExchangeAccount | None, symbol: str, strategy: str, reason: str, actor: str
) -> ScopedHalt:
    """Stop every send within the scope whose claim commits after this.

    An empty symbol or strategy means all of them, but not both at once: that is the halt of an
    account. A scope that is halted already gets the new reason.
    """
    if not reason.strip():
        raise ValueError("reason: a reason is required")
    if not (symbol or strategy):
        raise ValueError("scope: name a symbol or a strategy")

    def write() -> ScopedHalt:
        # No other process writes here now: `ahead_of_claims` holds a lock that excludes it.
        row = ScopedHalt.objects.filter(account=account, symbol=symbol, strategy=strategy).first()
        before = _shown(row)
        row = row or ScopedHalt(account=account, symbol=symbol, strategy=strategy)
        row.reason, row.halted_by, row.halted_at = reason, actor, clock.now()
        row.save()
        _record("halt", row, before, _shown(row), reason=reason, actor=actor)
        return row

    row = ahead_of_claims(write)
    log.warning("trading_halted", **_scope(row), reason=reason, actor=actor)
    return row


def resume_scope(row: ScopedHalt, *, reason: str, actor: str) -> bool:
    """Lift this halt. Return False if it isn't the one that the person saw, or is gone."""
    if not reason.strip():
        raise ValueError("reason: a reason is required")
    with transaction.atomic():
        seen = ScopedHalt.objects.filter(pk=row.pk, halted_at=row.halted_at)
        if not seen.delete()[0]:
            return False
        _record("resume", row, _shown(row), {}, reason=reason, actor=actor)
    log.warning("trading_resumed", **_scope(row), reason=reason, actor=actor)
    return True


def _record(
    verb: str,
    row: ScopedHalt,
    before: dict[str, Any],
    after: dict[str, Any],
    *,
    reason: str,
    actor: str,
) -> None:
    scope = _scope(row)
    subject = " ".join(f"{name}:{value}" for name, value in scope.items() if value)
    record_act(
        verb,
        actor=actor,
        subject=subject,
        account=scope["account"],
        reason=reason,
        before=before,
        after=after,
    )


def _scope(row: ScopedHalt) -> dict[str, str]:
    account = row.account.name if row.account else ""
    return {"account": account, "symbol": row.symbol, "strategy": row.strategy}


def _shown(row: ScopedHalt | None) -> dict[str, Any]:
    if row is None:
        return {}
    return {"reason": row.reason, "halted_by": row.halted_by, "halted_at": row.halted_at}
