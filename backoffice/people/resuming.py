"""Resume trading at once, or make a draft of it where a rule asks for a second person."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _

from backoffice.people import drafts
from backoffice.people.drafts import Overtaken
from backoffice.people.models import ChangeDraft
from exchanges import trading_state
from exchanges.models import (
    Environment,
    ExchangeAccount,
    ScopedHalt,
    TradingHalt,
    TradingState,
)
from exchanges.scoped_halts import resume_scope
from orders.models import ReviewKind, ReviewRule

_UNSAFE = "despite_unsafe_key"


def resume(
    *,
    account: ExchangeAccount | None,
    reason: str,
    actor: str,
    maker: str,
    seen: str | None = None,
    despite_unsafe_key: bool = False,
) -> ChangeDraft | None:
    """Resume as `trading_state.resume_trading` does, or return the draft that was made instead.

    `maker` is the login of the person who asks, `actor` the name for the journal.
    """
    row = account and ExchangeAccount.objects.get(pk=account.pk)
    if seen is None:
        seen = trading_state.seen_state(row)
    if rule_to_resume(row, despite_unsafe_key=despite_unsafe_key) is None:
        trading_state.resume_trading(
            account=account,
            reason=reason,
            actor=actor,
            despite_unsafe_key=despite_unsafe_key,
            seen=seen,
        )
        return None
    trading_state.refuse_newer_halt(row, seen)
    draft = ChangeDraft(
        kind=ReviewKind.KEY if despite_unsafe_key else ReviewKind.RESUME,
        account=row,
        subject=f"account:{row.name}" if row else "everything",
        title=row.name if row else _("all trading"),
        target=(ExchangeAccount if row else TradingHalt)._meta.label,  # noqa: SLF001
        target_key=str(row.pk if row else TradingHalt.ROW),
        proposed={_UNSAFE: despite_unsafe_key},
        seen=seen,
        before=_shown(row),
        after=_resumed(row, despite_unsafe_key=despite_unsafe_key),
    )
    return _make(draft, reason=reason, actor=actor, maker=maker)


def rule_to_resume(
    row: ExchangeAccount | None, *, despite_unsafe_key: bool = False
) -> ReviewRule | None:
    """Return the rule that asks for a second person, or None. What isn't stopped needs none."""
    if row is None:
        is_stopped = TradingHalt.objects.filter(pk=TradingHalt.ROW, is_halted=True).exists()
    else:
        is_stopped = row.trading_state != TradingState.ACTIVE
    if not is_stopped:
        return None
    kinds = [ReviewKind.RESUME, *([ReviewKind.KEY] if despite_unsafe_key else [])]
    return drafts.rule_for(row, *kinds)


def resume_halt(row: ScopedHalt, *, reason: str, actor: str, maker: str) -> ChangeDraft | bool:
    """Lift the halt of a symbol or a strategy, or return the draft that was made instead.

    False: it isn't the halt that the person saw, or it is gone.
    """
    if rule_to_lift(row) is None:
        return resume_scope(row, reason=reason, actor=actor)
    account = row.account.name if row.account else ""
    draft = ChangeDraft(
        kind=ReviewKind.RESUME,
        account=row.account,
        subject=" ".join(filter(None, [account, row.symbol, row.strategy])),
        target=ScopedHalt._meta.label,  # noqa: SLF001
        target_key=str(row.pk),
        seen=row.halted_at.isoformat(),
        before={"reason": row.reason, "halted_by": row.halted_by},
        after={},
    )
    return _make(draft, reason=reason, actor=actor, maker=maker)


def rule_to_lift(row: ScopedHalt) -> ReviewRule | None:
    """Return the rule that asks for a second person, or None."""
    return drafts.rule_for(row.account, ReviewKind.RESUME)


def _make(draft: ChangeDraft, *, reason: str, actor: str, maker: str) -> ChangeDraft:
    draft.act, draft.reason, draft.maker = "resume", reason, maker
    return drafts.make(draft, actor=actor)


def require_safe_key(draft: ChangeDraft) -> None:
    """Ask the exchange about the key, before the transaction that publishes the draft."""
    account = draft.account
    if draft.target != ExchangeAccount._meta.label or account is None:  # noqa: SLF001
        return
    if account.environment == Environment.LIVE and not draft.proposed.get(_UNSAFE):
        trading_state.require_safe_key(account)


def apply(draft: ChangeDraft, *, actor: str) -> None:
    """Resume as the draft says, in the caller's transaction. Raise `Overtaken` for another halt."""
    if draft.target == ScopedHalt._meta.label:  # noqa: SLF001
        row = ScopedHalt.objects.filter(pk=int(draft.target_key)).first()
        is_same = row is not None and row.halted_at.isoformat() == draft.seen
        if row is None or not is_same or not resume_scope(row, reason=draft.reason, actor=actor):
            raise Overtaken(_("The halt has changed since. Nothing was resumed."))
        return
    try:
        trading_state.lift_halt(
            account=draft.account,
            reason=draft.reason,
            actor=actor,
            despite_unsafe_key=bool(draft.proposed.get(_UNSAFE)),
            seen=draft.seen,
        )
    except trading_state.NewerHalt as newer:
        raise Overtaken(str(newer)) from None


def _shown(row: ExchangeAccount | None) -> dict[str, Any]:
    if row is not None:
        return {
            "trading_state": row.trading_state,
            "trading_state_reason": row.trading_state_reason,
        }
    halt = TradingHalt.objects.get(pk=TradingHalt.ROW)
    return {"is_halted": halt.is_halted, "reason": halt.reason, "changed_by": halt.changed_by}


def _resumed(row: ExchangeAccount | None, *, despite_unsafe_key: bool) -> dict[str, Any]:
    if row is None:
        return {"is_halted": False}
    after: dict[str, Any] = {"trading_state": str(TradingState.ACTIVE)}
    return after | ({_UNSAFE: True} if despite_unsafe_key else {})
