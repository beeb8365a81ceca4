"""Writes about the outside world: instruments, balances, trading state; and the lease for shared work."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import structlog
from celery import current_app
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from exchanges import clock, limits
from exchanges.budgets import store_rate_limits
from exchanges.errors import GatewayError, NotSent
from exchanges.gateway import get_gateway
from exchanges.models import (
    Balance,
    Environment,
    ExchangeAccount,
    Instrument,
    LastPrice,
    Lease,
    TradingHalt,
    TradingState,
)
from exchanges.reservations import release_shown, release_shown_everywhere
from exchanges.types import AccountReport, BalanceReport, InstrumentRules, from_ms

log = structlog.get_logger(__name__)

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_WAIT_SECONDS = 3.0
_POLL_SECONDS = 0.02


# -- leases --------------------------------------------------------------------------------------------------------


@contextmanager
def lease(name: str, *, seconds: float) -> Iterator[bool]:
    """Yield True to the one process that may do the work called `name` now; a dead holder's lease runs out."""
    holder = f"{os.getpid()}-{threading.get_ident()}"
    taken = _take(name, holder, seconds)
    if not taken and not Lease.objects.filter(pk=name).exists():
        Lease.objects.bulk_create([Lease(name=name, expires_at=_LONG_AGO)], ignore_conflicts=True)
        taken = _take(name, holder, seconds)
    try:
        yield taken
    finally:
        if taken:
            Lease.objects.filter(pk=name, holder=holder).update(expires_at=_LONG_AGO)


def _take(name: str, holder: str, seconds: float) -> bool:
    now = clock.now()
    updated = Lease.objects.filter(pk=name, expires_at__lte=now).update(
        holder=holder, expires_at=now + timedelta(seconds=seconds)
    )
    return bool(updated)


def do_once(name: str, *, is_done: Callable[[], bool], work: Callable[[], object]) -> None:
    """Have `work` done by one of all the workers that want it now; the others wait until it is.

    Raises `NotSent` where another worker is not done in time: whatever it was needed for was not sent.
    """
    give_up_at = clock.monotonic() + _WAIT_SECONDS
    while not is_done():
        with lease(name, seconds=30) as held:
            if held:
                if not is_done():
                    work()
                return
        if clock.monotonic() > give_up_at:
            raise NotSent(f"another worker is still busy with {name}", retry_after=1.0)
        clock.sleep(_POLL_SECONDS)


# -- instruments ---------------------------------------------------------------------------------------------------

_INSTRUMENT_FIELDS = (
    "base_asset",
    "quote_asset",
    "status",
    "order_types",
    "filters",
    "quote_precision",
    "quote_order_quantity_allowed",
    "updated_at",
)


def sync_instruments(account: ExchangeAccount) -> dict[str, int]:
    """Store exchangeInfo for the account's environment; returns how many were seen and how many changed."""
    info = get_gateway(account).fetch_exchange_info()
    rows = info.instruments
    store_rate_limits(account, [dict(row) for row in info.rate_limits])
    now = clock.now()
    known = {i.symbol: i for i in _instruments(account)}
    changed = [
        instrument
        for rules in rows
        if _figures(instrument := _instrument(account, rules, now)) != _figures(known.get(rules.symbol))
    ]
    gone = set(known) - {rules.symbol for rules in rows}
    with transaction.atomic():
        Instrument.objects.bulk_create(
            changed,
            update_conflicts=True,
            update_fields=_INSTRUMENT_FIELDS,
            unique_fields=("exchange", "environment", "symbol"),
            batch_size=200,
        )
        # A symbol that exchangeInfo no longer lists cannot be traded; its row stays for the orders that name it.
        _instruments(account).filter(symbol__in=gone).exclude(status="DELISTED").update(
            status="DELISTED", updated_at=now
        )
    log.info("instruments_synced", account=account.name, seen=len(rows), changed=len(changed), gone=len(gone))
    return {"seen": len(rows), "changed": len(changed)}


def ensure_instruments(account: ExchangeAccount) -> None:
    """Fetch the instruments of an environment that has none yet."""
    do_once(
        f"instruments:{account.exchange}:{account.environment}",
        is_done=lambda: _instruments(account).exists(),
        work=lambda: sync_instruments(account),
    )


def _instruments(account: ExchangeAccount) -> QuerySet[Instrument]:
    return Instrument.objects.filter(exchange=account.exchange, environment=account.environment)


def _instrument(account: ExchangeAccount, rules: InstrumentRules, now: datetime) -> Instrument:
    return Instrument(
        exchange=account.exchange,
        environment=account.environment,
        symbol=rules.symbol,
        base_asset=rules.base_asset,
        quote_asset=rules.quote_asset,
        status=rules.status,
        order_types=sorted(rules.order_types),
        filters=[dict(item) for item in rules.filters.values()],
        quote_precision=rules.quote_precision,
        quote_order_quantity_allowed=rules.quote_order_quantity_allowed,
        updated_at=now,
    )


def _figures(instrument: Instrument | None) -> list[object]:
    if instrument is None:
        return []
    return [getattr(instrument, name) for name in _INSTRUMENT_FIELDS if name != "updated_at"]


# -- last prices ---------------------------------------------------------------------------------------------------


def ensure_last_price(account: ExchangeAccount, symbol: str, *, newer_than: datetime) -> None:
    """Have the symbol's last trade as the exchange told it after `newer_than`, by one call shared by all workers."""
    rows = LastPrice.objects.filter(exchange=account.exchange, environment=account.environment, symbol=symbol)
    do_once(
        f"price:{account.exchange}:{account.environment}:{symbol}",
        is_done=rows.filter(asked_at__gte=newer_than).exists,
        work=lambda: _store_last_price(account, symbol),
    )


def _store_last_price(account: ExchangeAccount, symbol: str) -> None:
    asked_at = clock.now()
    trade = get_gateway(account).fetch_last_trade(symbol)
    LastPrice.objects.update_or_create(
        exchange=account.exchange,
        environment=account.environment,
        symbol=symbol,
        defaults={"price": trade.price, "traded_at": trade.traded_at, "asked_at": asked_at},
    )


# -- balances ------------------------------------------------------------------------------------------------------


def sync_balances(account: ExchangeAccount) -> dict[str, int]:
    """Ask for every balance and store it; returns how many rows were written."""
    asked_at = clock.now()
    return {"written": apply_account(account, get_gateway(account).fetch_account(), asked_at=asked_at)}


def apply_account(account: ExchangeAccount, report: AccountReport, *, asked_at: datetime) -> int:
    """Store a complete reading of an account's balances; returns how many rows were written."""
    shown_until = _shown_until(account, report, asked_at)
    with transaction.atomic():
        # The account's row first, as a claim locks them.
        ExchangeAccount.objects.filter(pk=account.pk).update(balances_synced_at=asked_at)
        written = apply_balances(account, report.balances)
        written += _zero_the_rest(account, {row.asset for row in report.balances}, report.updated_at)
        held = Balance.objects.filter(account=account).exclude(reserved=Decimal(0)).values_list("asset", flat=True)
        if assets := list(held):
            release_shown(account.pk, dict.fromkeys(assets, shown_until))
    return written


def _shown_until(account: ExchangeAccount, report: AccountReport, asked_at: datetime) -> datetime:
    """The exchange's time up to which the reading shows everything: its last change, or when we asked, less the lag."""
    asked_ms = get_gateway(account).now_ms() - int((clock.now() - asked_at).total_seconds() * 1000)
    return max(report.updated_at, from_ms(asked_ms - int(settings.EXCHANGE_READ_LAG_MS)))


def ensure_balances(account: ExchangeAccount, *, newer_than: datetime) -> None:
    """Have balances that were asked for after `newer_than`, by one call shared by all workers."""
    do_once(
        f"balances:{account.name}",
        is_done=lambda: ExchangeAccount.objects.filter(pk=account.pk, balances_synced_at__gte=newer_than).exists(),
        work=lambda: sync_balances(account),
    )


def apply_balances(account: ExchangeAccount, rows: Sequence[BalanceReport]) -> int:
    """Store absolute figures; one that is older than what is known is passed over. Returns how many were written."""
    with transaction.atomic():
        stored = Balance.objects.filter(account=account, asset__in=[row.asset for row in rows])
        known = {row.asset: row for row in stored.order_by("pk").select_for_update()}
        fresh = [
            Balance(account=account, asset=row.asset, free=row.free, locked=row.locked, updated_at=row.updated_at)
            for row in rows
            if _says_more(row, known.get(row.asset))
        ]
        Balance.objects.bulk_create(
            fresh,
            update_conflicts=True,
            update_fields=("free", "locked", "updated_at"),
            unique_fields=("account", "asset"),
        )
        held = {row.asset: row.updated_at for row in fresh if row.asset in known and known[row.asset].reserved}
        if held:
            release_shown(account.pk, held)
    return len(fresh)


def _says_more(row: BalanceReport, old: Balance | None) -> bool:
    """Newer and different; or just newer, where reservations wait for a newer figure."""
    if old is None:
        return True
    differs = (old.free, old.locked) != (row.free, row.locked)
    return row.updated_at >= old.updated_at and (differs or (old.reserved > 0 and row.updated_at > old.updated_at))


def settle_reservations() -> None:
    """Drop what known figures show, and ask for figures where a reservation has waited for them too long."""
    waiting = release_shown_everywhere()
    oldest = clock.now() - timedelta(seconds=settings.BALANCE_MAX_AGE_SECONDS)
    late = ExchangeAccount.objects.filter(
        pk__in=waiting, is_enabled=True, reservations__due_at__lt=oldest, balances_synced_at__lt=oldest
    )
    for account in late.distinct():
        try:
            ensure_balances(account, newer_than=oldest)
        except GatewayError as error:
            log.warning("balances_not_read", account=account.name, error=str(error))


def _zero_the_rest(account: ExchangeAccount, seen: set[str], moment: datetime) -> int:
    """The exchange lists non-zero balances only: what it does not list is zero."""
    rest = Balance.objects.filter(account=account, updated_at__lte=moment).exclude(asset__in=seen)
    return rest.exclude(free=Decimal(0), locked=Decimal(0)).update(free=0, locked=0, updated_at=moment)


# -- comparison ----------------------------------------------------------------------------------------------------


def enqueue_reconciliation(account: ExchangeAccount, *, requested_by: str) -> bool:
    """Have a worker compare the account with the exchange; False where the broker did not take the message."""
    log.info("reconciliation_requested", account=account.name, requested_by=requested_by)
    try:
        # By name: it is a task of the orders, which this app does not import.
        current_app.loader.import_default_modules()
        current_app.tasks["orders.reconcile_account"].apply_async((account.name,), expires=300)
    except Exception as error:  # noqa: BLE001  whatever the broker's client raises
        log.warning("enqueue_failed", task="orders.reconcile_account", error=type(error).__name__)
        return False
    return True


# -- trading state -------------------------------------------------------------------------------------------------


def halt_trading(*, account: ExchangeAccount | None, reason: str, actor: str) -> None:
    """Stop every send whose claim commits after this: of one account, or of all that exist or will exist."""
    _set_trading(account, halted=True, reason=reason, actor=actor)


class UnsafeAccount(ValueError):
    """A live account's API key may do what it must not; the account stays halted."""


def resume_trading(
    *, account: ExchangeAccount | None, reason: str, actor: str, despite_unsafe_key: bool = False
) -> None:
    """Let an account trade again, or lift the halt of everything (accounts halted by themselves stay so).

    A live account's key is looked at first: raises `UnsafeAccount`, unless a superuser has taken it upon themselves
    (`despite_unsafe_key`; the caller has checked who it is).
    """
    if account is not None and account.environment == Environment.LIVE:
        if despite_unsafe_key:
            log.warning("unsafe_key_accepted", account=account.name, reason=reason, actor=actor)
        else:
            _require_safe_key(account)
    _set_trading(account, halted=False, reason=reason, actor=actor)


def _require_safe_key(account: ExchangeAccount) -> None:
    """The key has an IP list, and can neither withdraw nor transfer."""
    try:
        permissions = get_gateway(account).fetch_key_permissions()
    except GatewayError as error:
        raise UnsafeAccount(f"{account.name}: the key's permissions cannot be read: {error.message}") from None
    problems = [f"{name} is on" for name in sorted(permissions.granted)]
    if not permissions.has_ip_list:
        problems.append("it has no IP list")
    if problems:
        raise UnsafeAccount(f"{account.name}: the key is not safe: {', '.join(problems)}")


# -- circuit breaker -----------------------------------------------------------------------------------------------


def force_breaker(*, account: ExchangeAccount, kind: str, state: str | None, reason: str, actor: str) -> None:
    """Hold the breaker of one kind of call (`place`, `cancel`, `read`) `open` or `closed`; None: let it judge again.

    Raises `ValueError` for an unknown kind or state, and the client's error where Redis does not answer.
    """
    if not reason.strip():
        raise ValueError("reason: say why")
    if state not in ("open", "closed", None):
        raise ValueError(f"state: {state!r} is neither open nor closed")
    limits.force_breaker(account.name, limits.Kind(kind), state)
    log.warning("breaker_forced", account=account.name, kind=kind, state=state or "auto", reason=reason, actor=actor)


def _set_trading(account: ExchangeAccount | None, *, halted: bool, reason: str, actor: str) -> None:
    if not reason.strip():
        raise ValueError("reason: say why")
    if account is None:
        TradingHalt.objects.update_or_create(
            id=TradingHalt.ROW,
            defaults={"is_halted": halted, "reason": reason, "changed_at": clock.now(), "changed_by": actor},
        )
    else:
        account.trading_state = TradingState.HALTED if halted else TradingState.ACTIVE
        account.trading_state_reason = reason
        account.save(update_fields=["trading_state", "trading_state_reason"])
    log.warning(
        "trading_halted" if halted else "trading_resumed",
        account=account.name if account else "*",
        reason=reason,
        actor=actor,
    )
