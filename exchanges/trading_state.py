"""Halt, resume and restrict trading of an account, or of everything."""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from typing import Any

import structlog
from django.db import transaction
from django.utils.translation import gettext as _

from exchanges import clock
from exchanges.account_writes import ahead_of_claims
from exchanges.acts import record_act
from exchanges.errors import AccountError, GatewayError
from exchanges.key_holders import ask_a_worker, must_ask
from exchanges.mirror.api_keys import read_key
from exchanges.models import Environment, ExchangeAccount, TradingHalt, TradingState

log = structlog.get_logger(__name__)

KEY_CHECK = "exchanges.check_key"


def halt_trading(*, account: ExchangeAccount | None, reason: str, actor: str) -> None:
    """Stop every send whose claim commits after this, of one account or of all (future ones
    too).
    """
    if not reason.strip():
        raise ValueError("reason: a reason is required")

    def write() -> None:
        if account is None:
            _write_everything(halted=True, reason=reason, actor=actor)
            return
        before = _shown(ExchangeAccount.objects.get(pk=account.pk))
        for name, value in _decision(TradingState.HALTED, reason).items():
            setattr(account, name, value)
        account.save(update_fields=_DECISION)
        _record("halt", account, before, reason=reason, actor=actor)

    ahead_of_claims(write)
    log.warning(
        "trading_halted", account=account.name if account else "*", reason=reason, actor=actor
    )


def halt_by_rule(*, account: ExchangeAccount, reason: str, actor: str) -> bool:
    """Halt an account. Return False if it is halted already: the earlier reason stays."""
    return _restrict(account, TradingState.HALTED, reason=reason, actor=actor)


def reduce_trading(*, account: ExchangeAccount, reason: str, actor: str) -> bool:
    """Allow an account only to reduce its positions, until it is resumed.

    Return False for a halted account, which stays halted: allowing it to sell would be a resume.
    """
    return _restrict(account, TradingState.REDUCING, reason=reason, actor=actor)


def _restrict(account: ExchangeAccount, state: TradingState, *, reason: str, actor: str) -> bool:
    """Change the state of an account that is not halted, decided where the state is written."""
    if not reason.strip():
        raise ValueError("reason: a reason is required")
    done = ahead_of_claims(lambda: _restrict_row(account, state, reason=reason, actor=actor))
    if done:
        name = "trading_halted" if state == TradingState.HALTED else "trading_reduced"
        log.warning(name, account=account.name, reason=reason, actor=actor)
    return done


def _restrict_row(
    account: ExchangeAccount, state: TradingState, *, reason: str, actor: str
) -> bool:
    before = _shown(ExchangeAccount.objects.get(pk=account.pk))
    rows = ExchangeAccount.objects.filter(pk=account.pk).exclude(trading_state=TradingState.HALTED)
    done = bool(rows.update(**_decision(state, reason)))
    account.refresh_from_db(fields=_DECISION)
    if done:
        verb = "halt" if state == TradingState.HALTED else "reduce"
        _record(verb, account, before, reason=reason, actor=actor)
    return done


_DECISION = ["trading_state", "trading_state_reason", "trading_state_changed_at"]


def _decision(state: TradingState, reason: str) -> dict[str, Any]:
    values = (state, reason, clock.now())
    return dict(zip(_DECISION, values, strict=True))


class NewerHalt(ValueError):
    """The halt isn't the one that the person saw, so it stays."""


class UnsafeAccount(ValueError):
    """A live account's API key has permissions that it must not have: the account stays halted."""


def seen_state(account: ExchangeAccount | None) -> str:
    """Return a name for the state that a person sees: of the account as read, or of all trading.

    `resume_trading` lifts a halt only if this is still its name.
    """
    if account is not None:
        return _name(
            account.trading_state, account.trading_state_changed_at, account.trading_state_reason
        )
    everything = TradingHalt.objects.filter(pk=TradingHalt.ROW).first()
    if everything is None:
        return ""
    return _name(str(everything.is_halted), everything.changed_at, everything.reason)


def _name(state: str, changed_at: datetime | None, reason: str) -> str:
    facts = f"{state}\n{changed_at and changed_at.isoformat()}\n{reason}"
    return sha256(facts.encode()).hexdigest()[:32]


def resume_trading(
    *,
    account: ExchangeAccount | None,
    reason: str,
    actor: str,
    despite_unsafe_key: bool = False,
    seen: str | None = None,
) -> None:
    """Let an account trade again, or lift the halt of everything (single halts stay).

    `seen` is the `seen_state` that the person decided on, by default the state at this call. If
    another halt has come since, raise `NewerHalt` and change nothing.

    Resuming a live account checks its API key first and raises `UnsafeAccount`, unless a superuser
    accepts the risk (`despite_unsafe_key`: the caller has checked the person).
    """
    if not reason.strip():
        raise ValueError("reason: a reason is required")
    if seen is None:
        seen = seen_state(account and ExchangeAccount.objects.get(pk=account.pk))
    if account is not None and account.environment == Environment.LIVE and not despite_unsafe_key:
        _require_safe_key_to_resume(account, seen, actor=actor)
    lift_halt(
        account=account,
        reason=reason,
        actor=actor,
        despite_unsafe_key=despite_unsafe_key,
        seen=seen,
    )


def lift_halt(
    *,
    account: ExchangeAccount | None,
    reason: str,
    actor: str,
    despite_unsafe_key: bool,
    seen: str,
) -> None:
    """Resume as `resume_trading` does, without asking the exchange, so also in a transaction.

    The caller has called `require_safe_key` for a live account, or accepts the risk.
    """
    if despite_unsafe_key and account is not None and account.environment == Environment.LIVE:
        log.warning("unsafe_key_accepted", account=account.name, reason=reason, actor=actor)
    with transaction.atomic():
        if account is None:
            _resume_everything(seen, reason=reason, actor=actor)
        else:
            _resume(
                account, seen, reason=reason, actor=actor, despite_unsafe_key=despite_unsafe_key
            )
    log.warning(
        "trading_resumed", account=account.name if account else "*", reason=reason, actor=actor
    )


def _resume(
    account: ExchangeAccount, seen: str, *, reason: str, actor: str, despite_unsafe_key: bool
) -> None:
    row = ExchangeAccount.objects.select_for_update().get(pk=account.pk)
    refuse_newer_halt(row, seen)
    for name, value in _decision(TradingState.ACTIVE, reason).items():
        setattr(account, name, value)
    account.save(update_fields=_DECISION)
    verb = "resume_despite_unsafe_key" if despite_unsafe_key else "resume"
    _record(verb, account, _shown(row), reason=reason, actor=actor)


def _resume_everything(seen: str, *, reason: str, actor: str) -> None:
    TradingHalt.objects.select_for_update().filter(pk=TradingHalt.ROW).first()
    refuse_newer_halt(None, seen)
    _write_everything(halted=False, reason=reason, actor=actor)


def refuse_newer_halt(account: ExchangeAccount | None, seen: str) -> None:
    """Raise `NewerHalt` if this isn't the state that the person saw. `account` is a fresh row."""
    if account is not None:
        if seen_state(account) != seen:
            raise NewerHalt(
                _since(account.get_trading_state_display(), account.trading_state_reason)
            )
        return
    everything = TradingHalt.objects.filter(pk=TradingHalt.ROW).first()
    if everything is not None and seen_state(None) != seen:
        raise NewerHalt(_since(_("halted"), everything.reason))


def _since(state: Any, reason: str) -> str:
    text = _("The state has changed since you saw it: %(state)s, %(reason)s. Nothing was resumed.")
    return text % {"state": state, "reason": reason}


def _require_safe_key_to_resume(account: ExchangeAccount, seen: str, *, actor: str) -> None:
    try:
        require_safe_key(account)
    except UnsafeAccount as unsafe:
        with transaction.atomic():
            row = ExchangeAccount.objects.select_for_update().get(pk=account.pk)
            if row.trading_state == TradingState.HALTED and seen_state(row) == seen:
                # It stays halted, and shows why.
                before = _shown(row)
                row.trading_state_reason = str(unsafe)
                row.save(update_fields=["trading_state_reason"])
                _record("refuse_to_resume", row, before, reason=str(unsafe), actor=actor)
        raise


def require_safe_key(account: ExchangeAccount) -> None:
    """Raise `UnsafeAccount` unless the key has an IP list and can neither withdraw nor transfer."""
    try:
        problems = ask_for_key_problems(account)
    except GatewayError as error:
        raise UnsafeAccount(
            f"{account.name}: the key's permissions cannot be read: {error.message}"
        ) from None
    if problems:
        raise UnsafeAccount(f"{account.name}: the key is not safe: {', '.join(problems)}")


def ask_for_key_problems(account: ExchangeAccount) -> list[str]:
    """Return why the account's key isn't safe, asking a worker if this process has no key.

    Raise `GatewayError` if the answer is unknown.
    """
    if not must_ask(account):
        return key_problems(account)
    answer = ask_a_worker(KEY_CHECK, account.name)
    if error := answer.get("error"):
        raise AccountError(error)
    return [str(problem) for problem in answer["problems"]]


def key_problems(account: ExchangeAccount) -> list[str]:
    """Ask the exchange for the key's permissions, and return why it isn't safe."""
    permissions = read_key(account)
    problems = [f"{name} is enabled" for name in sorted(permissions.granted)]
    if not permissions.has_ip_list:
        problems.append("access is not restricted to listed IP addresses")
    return problems


def _write_everything(*, halted: bool, reason: str, actor: str) -> None:
    row = TradingHalt.objects.filter(pk=TradingHalt.ROW).first()
    before = _shown_halt(row) if row else {}
    row, _created = TradingHalt.objects.update_or_create(
        id=TradingHalt.ROW,
        defaults={
            "is_halted": halted,
            "reason": reason,
            "changed_at": clock.now(),
            "changed_by": actor,
        },
    )
    record_act(
        "halt" if halted else "resume",
        actor=actor,
        subject="trading",
        reason=reason,
        before=before,
        after=_shown_halt(row),
    )


def _record(
    verb: str, account: ExchangeAccount, before: dict[str, Any], *, reason: str, actor: str
) -> None:
    """Record a change of an account's trading state. `before` names the halt that a resume ends."""
    record_act(
        verb,
        actor=actor,
        subject=f"account:{account.name}",
        account=account.name,
        reason=reason,
        before=before,
        after=_shown(account),
    )


def _shown(account: ExchangeAccount) -> dict[str, Any]:
    return {name: getattr(account, name) for name in _DECISION}


def _shown_halt(halt: TradingHalt) -> dict[str, Any]:
    return {
        name: getattr(halt, name) for name in ("is_halted", "reason", "changed_at", "changed_by")
    }
