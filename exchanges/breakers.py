"""Hold a circuit breaker open or closed by hand."""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from django.db import transaction

from exchanges.acts import record_act
from exchanges.limits import breaker
from exchanges.limits.states import LimitState as LimitState
from exchanges.limits.states import read_limit_states
from exchanges.models import BreakerChange, BreakerHold, ExchangeAccount
from exchanges.types import CallKind

log = structlog.get_logger(__name__)


def force_breaker(
    *, account: ExchangeAccount, kind: str, state: str | None, reason: str, actor: str
) -> None:
    """Hold the breaker of one kind of call (`place`, `cancel`, `read`) `open` or `closed`.

    None lets it decide by itself again. Raise `ValueError` for an unknown kind or state, and
    `NotSent` if Redis does not answer: then nothing has changed.
    """
    if not reason.strip():
        raise ValueError("reason: a reason is required")
    if state not in ("open", "closed", None):
        raise ValueError(f"state: {state!r} is neither open nor closed")
    breaker.force_breaker(account.name, CallKind(kind), state)
    hold = state or BreakerHold.NONE
    with transaction.atomic():
        BreakerChange.objects.create(
            account=account, kind=kind, state=hold, reason=reason, actor=actor
        )
        record_act(
            "force_breaker",
            actor=actor,
            subject=f"account:{account.name}",
            account=account.name,
            reason=reason,
            after={"kind": kind, "state": str(hold)},
        )
    log.warning(
        "breaker_forced",
        account=account.name,
        kind=kind,
        state=str(hold),
        reason=reason,
        actor=actor,
    )


def breaker_states(account: ExchangeAccount) -> dict[str, str]:
    """Return kind of call -> `closed`, `open`, `forced open` or `forced closed`.

    All are `unknown` while Redis is away.
    """
    states: dict[str, str] = {}
    for kind in CallKind:
        state = breaker.breaker_state(account.name, kind)
        if state == "unknown":
            return dict.fromkeys(
                map(str, CallKind), state
            )  # each further question would wait in vain, too
        states[str(kind)] = state
    return states


def placing_is_broken(account: ExchangeAccount) -> bool | None:
    """Return whether the breaker of placing has opened by itself. None: Redis doesn't answer."""
    state = breaker.breaker_state(account.name, CallKind.PLACE)
    return None if state == "unknown" else state == "open"


def limit_states(accounts: Iterable[ExchangeAccount]) -> dict[str, LimitState] | None:
    """Return breakers and used weight by the account's name. None while Redis is away."""
    return read_limit_states(accounts)
