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
from django.db import Error as DatabaseFailure
from django.db import connection, transaction
from django.db.models import QuerySet

from exchanges import clock, limits
from exchanges.budgets import store_rate_limits
from exchanges.errors import GatewayError, NotSent, OrderRejected
from exchanges.gateway import get_gateway
from exchanges.models import (
    Balance,
    BreakerChange,
    BreakerHold,
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
    taken = _acquire(name, holder, seconds)
    try:
        yield taken
    finally:
        if taken:
            Lease.objects.filter(pk=name, holder=holder).update(expires_at=_LONG_AGO)


def _acquire(name: str, holder: str, seconds: float) -> bool:
    """Take the lease, whose row is made with its first use."""
    taken = _take(name, holder, seconds)
    if not taken and not Lease.objects.filter(pk=name).exists():
        Lease.objects.bulk_create([Lease(name=name, expires_at=_LONG_AGO)], ignore_conflicts=True)
        taken = _take(name, holder, seconds)
    return taken


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
    gone = set(_instruments(account).values_list("symbol", flat=True)) - {rules.symbol for rules in rows}
    with transaction.atomic():
        changed = _store_instruments(account, rows)
        # A symbol that exchangeInfo no longer lists cannot be traded; its row stays for the orders that name it.
        _instruments(account).filter(symbol__in=gone).exclude(status="DELISTED").update(
            status="DELISTED", updated_at=clock.now()
        )
    log.info("instruments_synced", account=account.name, seen=len(rows), changed=changed, gone=len(gone))
    return {"seen": len(rows), "changed": changed}


def _store_instruments(account: ExchangeAccount, rows: Sequence[InstrumentRules]) -> int:
    """Store those that differ from what is known; returns how many. The others keep their `updated_at`."""
    now = clock.now()
    known = {i.symbol: i for i in _instruments(account).filter(symbol__in=[rules.symbol for rules in rows])}
    changed = [
        instrument
        for rules in rows
        if _figures(instrument := _instrument(account, rules, now)) != _figures(known.get(rules.symbol))
    ]
    Instrument.objects.bulk_create(
        changed,
        update_conflicts=True,
        update_fields=_INSTRUMENT_FIELDS,
        unique_fields=("exchange", "environment", "symbol"),
        batch_size=200,
    )
    return len(changed)


def ensure_instruments(account: ExchangeAccount) -> None:
    """Fetch the instruments of an environment that has none yet."""
    do_once(
        f"instruments:{account.exchange}:{account.environment}",
        is_done=lambda: _instruments(account).exists(),
        work=lambda: sync_instruments(account),
    )


# A symbol in HALT or BREAK is asked about again and again while somebody wants to trade it: 20 weight each time, for
# all such symbols together.
REFRESH_SECONDS = 3.0
_WANTED_FOR = timedelta(seconds=30)
_MOST_SYMBOLS = 100


def pause_symbol(account: ExchangeAccount, symbol: str) -> None:
    """The exchange has answered that this market is closed: pause it now, and ask for how long."""
    trading = _instruments(account).filter(symbol=symbol, status="TRADING")
    if trading.update(status="HALT", updated_at=clock.now()):
        log.warning("symbol_paused", account=account.name, symbol=symbol)
    refresh_symbol(account, symbol)


def refresh_symbol(account: ExchangeAccount, symbol: str) -> None:
    """Ask anew about this symbol and the others that somebody wants to trade and cannot.

    One question in `REFRESH_SECONDS`, of all workers together; who comes in between is left with what is known.
    """
    group = f"symbol:{account.exchange}:{account.environment}:"
    holder, now = str(os.getpid()), clock.now()
    _acquire(group + symbol, holder, REFRESH_SECONDS)  # says that it is wanted
    if not _acquire(group, holder, REFRESH_SECONDS):
        return
    wanted = Lease.objects.filter(pk__startswith=group, expires_at__gt=now - _WANTED_FOR).exclude(pk=group)
    symbols = {name.removeprefix(group) for name in wanted.order_by("-expires_at").values_list("pk", flat=True)}
    try:
        rows = get_gateway(account).fetch_instruments(sorted([*symbols][:_MOST_SYMBOLS]))
    except OrderRejected:
        sync_instruments(account)  # one of them is listed no longer, which fails the whole question
        return
    if _store_instruments(account, rows):
        log.warning("symbols_changed", account=account.name, symbols={row.symbol: row.status for row in rows})


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
        written = apply_balances(account, report.balances)
        written += _zero_the_rest(account, {row.asset for row in report.balances}, report.updated_at)
        held = Balance.objects.filter(account=account).exclude(reserved=Decimal(0)).values_list("asset", flat=True)
        if assets := list(held):
            release_shown(account.pk, dict.fromkeys(assets, shown_until))
    _stamp(account, balances_synced_at=asked_at)
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


def refresh_balances(account: ExchangeAccount, *, newer_than: datetime) -> None:
    """As `ensure_balances`, for nobody who waits: if another is at it, or anything fails, so be it."""
    try:
        with lease(f"balances:{account.name}", seconds=30) as held:
            known = ExchangeAccount.objects.filter(pk=account.pk, balances_synced_at__gte=newer_than)
            if held and not known.exists():
                sync_balances(account)
    except (GatewayError, DatabaseFailure) as error:
        log.info("balances_not_read", account=account.name, error=str(error))


def apply_balances(account: ExchangeAccount, rows: Sequence[BalanceReport]) -> int:
    """Store absolute figures; one that is older than what is known is passed over. Returns how many were written."""
    with transaction.atomic():
        _do_not_wait_for_the_disk()
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


def _do_not_wait_for_the_disk() -> None:
    """In this transaction only: what a crash of the database forgets of it, the exchange tells again."""
    if connection.vendor != "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL synchronous_commit = off")


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


# -- accounts, beside a stream of claims ---------------------------------------------------------------------------


def _before_later_claims() -> None:
    """Let the transaction, of which this is the first statement, wait for the claims that run, and hold up later ones.

    Each claim shares a lock on the halt's row and on its account's row. On PostgreSQL a new claim may share these
    while an UPDATE already waits for them, so an unbroken stream of claims would keep a halt waiting. A table's lock
    is queued for.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {TradingHalt._meta.db_table} IN EXCLUSIVE MODE")  # noqa: SLF001


def mark_synced(account: ExchangeAccount, at: datetime) -> None:
    """Open orders have been compared as of `at`."""
    _stamp(account, last_synced_at=at)


def _stamp(account: ExchangeAccount, **moments: datetime) -> None:
    with transaction.atomic():
        _before_later_claims()
        ExchangeAccount.objects.filter(pk=account.pk).update(**moments)


# -- trading state -------------------------------------------------------------------------------------------------


def halt_trading(*, account: ExchangeAccount | None, reason: str, actor: str) -> None:
    """Stop every send whose claim commits after this: of one account, or of all that exist or will exist."""
    _set_trading(account, halted=True, reason=reason, actor=actor)


def halt_by_rule(*, account: ExchangeAccount, reason: str, actor: str) -> bool:
    """Halt an account; False where it is halted already, by a person or another rule: that reason stays."""
    return _restrict(account, TradingState.HALTED, reason=reason, actor=actor)


def reduce_trading(*, account: ExchangeAccount, reason: str, actor: str) -> bool:
    """Have an account only lower its positions from now on, until it is resumed.

    False for one that is halted: it stays so, as to let it sell again is to resume it.
    """
    return _restrict(account, TradingState.REDUCING, reason=reason, actor=actor)


def _restrict(account: ExchangeAccount, state: TradingState, *, reason: str, actor: str) -> bool:
    """For an account that is not halted, decided where its state is written."""
    if not reason.strip():
        raise ValueError("reason: say why")
    with transaction.atomic():
        _before_later_claims()
        rows = ExchangeAccount.objects.filter(pk=account.pk).exclude(trading_state=TradingState.HALTED)
        done = bool(rows.update(trading_state=state, trading_state_reason=reason))
    account.refresh_from_db(fields=["trading_state", "trading_state_reason"])
    if done:
        name = "trading_halted" if state == TradingState.HALTED else "trading_reduced"
        log.warning(name, account=account.name, reason=reason, actor=actor)
    return done


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
            try:
                _require_safe_key(account)
            except UnsafeAccount as unsafe:
                halted = ExchangeAccount.objects.filter(pk=account.pk, trading_state=TradingState.HALTED)
                halted.update(trading_state_reason=str(unsafe))  # it stays so, and says why
                raise
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

    Raises `ValueError` for an unknown kind or state, and `NotSent` where Redis does not answer: nothing has changed.
    """
    if not reason.strip():
        raise ValueError("reason: say why")
    if state not in ("open", "closed", None):
        raise ValueError(f"state: {state!r} is neither open nor closed")
    limits.force_breaker(account.name, limits.Kind(kind), state)
    hold = state or BreakerHold.NONE
    BreakerChange.objects.create(account=account, kind=kind, state=hold, reason=reason, actor=actor)
    log.warning("breaker_forced", account=account.name, kind=kind, state=str(hold), reason=reason, actor=actor)


def breaker_states(account: ExchangeAccount) -> dict[str, str]:
    """Kind of call -> `closed`, `open`, `forced open`, `forced closed`; `unknown` for all while Redis is away."""
    states: dict[str, str] = {}
    for kind in limits.Kind:
        state = limits.breaker_state(account.name, kind)
        if state == "unknown":
            return dict.fromkeys(map(str, limits.Kind), state)  # each further question would wait in vain, too
        states[str(kind)] = state
    return states


def placing_is_broken(account: ExchangeAccount) -> bool | None:
    """Is the breaker of placing open by its own judgement? None: Redis, which holds it, does not answer."""
    state = limits.breaker_state(account.name, limits.Kind.PLACE)
    return None if state == "unknown" else state == "open"


def _set_trading(account: ExchangeAccount | None, *, halted: bool, reason: str, actor: str) -> None:
    if not reason.strip():
        raise ValueError("reason: say why")
    with transaction.atomic():
        _before_later_claims()
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
