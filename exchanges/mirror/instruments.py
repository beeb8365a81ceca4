"""Keep our copy of the exchange's symbols and their rules."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from exchanges import clock
from exchanges.binance.registry import get_gateway
from exchanges.db.leases import acquire, do_once, holder_name
from exchanges.errors import GatewayError, NotSent, OrderRejected
from exchanges.instrument_rules import InstrumentRules
from exchanges.limits.sizes import store_rate_limits
from exchanges.mirror.environments import others_of_environment
from exchanges.mirror.readings import was_read
from exchanges.models import ExchangeAccount, Instrument, Lease

log = structlog.get_logger(__name__)


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
    """Store exchangeInfo for the account's environment. Return how many were seen and changed."""
    info = get_gateway(account).fetch_exchange_info()
    rows = info.instruments
    store_rate_limits(account, [dict(row) for row in info.rate_limits])
    unreadable = {row.subject for row in info.unreadable}
    gone = _gone(account, {rules.symbol for rules in rows} | unreadable)
    if any(" " in subject for subject in unreadable):
        gone = set()  # A row without a name may be any of them.
    with transaction.atomic():
        changed = _store_instruments(account, rows)
        # An unlisted symbol can't be traded. Its row stays for the orders that name it.
        _instruments(account).filter(symbol__in=gone).exclude(status="DELISTED").update(
            status="DELISTED", updated_at=clock.now()
        )
    was_read.send(None, account=account, reader="exchangeInfo", unreadable=info.unreadable)
    log.info(
        "instruments_synced", account=account.name, seen=len(rows), changed=changed, gone=len(gone)
    )
    return {"seen": len(rows), "changed": changed}


def sync_instruments_by_any(account: ExchangeAccount) -> dict[str, int]:
    """Sync the instruments, through another account of the environment if this one fails.

    All accounts of an environment have the same instruments. Raise the first account's error if
    none of them gets an answer.
    """
    first_error: GatewayError | None = None
    for one in [account, *others_of_environment(account)]:
        try:
            return sync_instruments(one)
        except GatewayError as error:
            log.warning("instruments_not_read", account=one.name, error=str(error))
            first_error = first_error or error
    assert first_error is not None
    raise first_error


def _gone(account: ExchangeAccount, listed: set[str]) -> set[str]:
    """Return the symbols to delist: none if the answer lacks more than half of what trades."""
    known = dict(_instruments(account).values_list("symbol", "status"))
    gone = set(known) - listed
    trading = {symbol for symbol, status in known.items() if status != "DELISTED"}
    if not listed or len(trading - listed) * 2 > len(trading):
        log.warning(
            "instruments_incomplete", account=account.name, listed=len(listed), missing=len(gone)
        )
        return set()
    return gone


def _store_instruments(account: ExchangeAccount, rows: Sequence[InstrumentRules]) -> int:
    """Store the instruments that have changed, and return how many. The others keep
    `updated_at`.
    """
    now = clock.now()
    rows = list({rules.symbol: rules for rules in rows}.values())
    known = {
        i.symbol: i
        for i in _instruments(account).filter(symbol__in=[rules.symbol for rules in rows])
    }
    changed = [
        instrument
        for rules in rows
        if _figures(instrument := _instrument(account, rules, now))
        != _figures(known.get(rules.symbol))
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


# We ask about symbols in HALT or BREAK repeatedly while someone wants to trade them: weight 20 each
# time, for all such symbols together.
REFRESH_SECONDS = 3.0


_WANTED_FOR = timedelta(seconds=30)


_MOST_SYMBOLS = 100


def pause_symbol(account: ExchangeAccount, symbol: str) -> None:
    """Pause a market that the exchange has just called closed, and ask when it reopens."""
    trading = _instruments(account).filter(symbol=symbol, status="TRADING")
    if trading.update(status="HALT", updated_at=clock.now()):
        log.warning("symbol_paused", account=account.name, symbol=symbol)
    refresh_symbol(account, symbol)


def refresh_symbol(account: ExchangeAccount, symbol: str) -> None:
    """Ask again about this symbol and the others that someone wants to trade and can't.

    All workers together ask once in `REFRESH_SECONDS`. Callers in between use the known state.
    """
    group = f"symbol:{account.exchange}:{account.environment}:"
    holder, now = str(os.getpid()), clock.now()
    acquire(group + symbol, holder, REFRESH_SECONDS)  # marks the symbol as wanted
    if not acquire(group, holder, REFRESH_SECONDS):
        return
    wanted = Lease.objects.filter(pk__startswith=group, expires_at__gt=now - _WANTED_FOR).exclude(
        pk=group
    )
    symbols = {
        name.removeprefix(group)
        for name in wanted.order_by("-expires_at").values_list("pk", flat=True)
    }
    try:
        rows = get_gateway(account).fetch_instruments(sorted([*symbols][:_MOST_SYMBOLS]))
    except OrderRejected:
        sync_instruments(account)  # an unlisted symbol fails the whole call
        return
    if _store_instruments(account, rows):
        log.warning(
            "symbols_changed",
            account=account.name,
            symbols={row.symbol: row.status for row in rows},
        )


LEARN_SECONDS = 10.0
LEARN_ANY_SECONDS = 0.5
LEARN_WAIT_SECONDS = 3.0  # for another worker that is asking about the symbol
_LEARN_WITHIN_SECONDS = 2.0


def learn_symbol(account: ExchangeAccount, symbol: str) -> None:
    """Read a symbol's rules again, because they refused an order.

    All workers together ask once in `LEARN_SECONDS` for a symbol, and once in
    `LEARN_ANY_SECONDS` for any, so that wrong symbols don't use up the weight. While one asks, the
    others wait for its answer. Raises `NotSent` if the rules are still unread, because other
    symbols come first or the exchange didn't answer.
    """
    group = f"rules:{account.exchange}:{account.environment}:"
    mark = f"rules-read:{account.exchange}:{account.environment}:{symbol}"
    do_once(
        group + symbol,
        is_done=Lease.objects.filter(pk=mark, expires_at__gt=Now()).exists,
        work=lambda: _learn(account, symbol, group, mark),
        wait_seconds=LEARN_WAIT_SECONDS,
    )


def _learn(account: ExchangeAccount, symbol: str, group: str, mark: str) -> None:
    try:
        _take_turn(group)
        rows = get_gateway(account).fetch_instruments([symbol])
    except OrderRejected as error:  # the exchange doesn't know the symbol
        log.info("symbol_not_read", account=account.name, symbol=symbol, error=str(error))
    except NotSent:
        raise
    except GatewayError as error:
        raise NotSent(f"the rules of {symbol} are not read: {error}", retry_after=None) from error
    else:
        if _store_instruments(account, rows):
            log.warning("symbol_learned", account=account.name, symbol=symbol)
    acquire(mark, holder_name(), LEARN_SECONDS)


def _take_turn(group: str) -> None:
    """Wait until any symbol may be read. Raises `NotSent` if others take too long."""
    give_up_at, holder = clock.monotonic() + _LEARN_WITHIN_SECONDS, holder_name()
    while not acquire(group, holder, LEARN_ANY_SECONDS):
        if clock.monotonic() > give_up_at:
            raise NotSent("the rules of other symbols are read first", retry_after=1.0)
        clock.sleep(LEARN_ANY_SECONDS / 10)


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
