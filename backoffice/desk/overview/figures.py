"""Read the figures of the accounts: a fixed number of queries for any number of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Count, Min, Q, QuerySet, Sum

from backoffice.desk.lists.numbers import MONEY_DECIMALS, rounded
from exchanges import breakers
from exchanges.breakers import LimitState
from exchanges.mirror.money import money_assets
from exchanges.models import (
    ExchangeAccount,
    Instrument,
    ScopedHalt,
    StreamState,
    TradingHalt,
)
from exchanges.types import EXACT
from orders import states
from orders.models import Fill, Order, Position, ReconciliationBreak, Status
from orders.positions.store import result_of_day

ZERO = Decimal(0)


@dataclass(slots=True)
class AccountFigures:
    """One account's card. Amounts are by quote asset."""

    account: ExchangeAccount
    stream: StreamState | None
    limits: LimitState | None = None
    open: int = 0
    in_flight: int = 0
    oldest_in_flight: datetime | None = None
    unresolved: int = 0
    oldest_unresolved: datetime | None = None
    breaks: int = 0
    orders: int = 0
    fills: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    notional: dict[str, Decimal] = field(default_factory=dict)
    realized: dict[str, Decimal] = field(default_factory=dict)
    unrealized: dict[str, Decimal] = field(default_factory=dict)
    unknown_results: set[str] = field(default_factory=set)
    unpriced: int = 0
    priced_at: datetime | None = None

    @property
    def denied(self) -> int:
        return self.statuses[Status.DENIED]

    @property
    def rejected(self) -> int:
        return self.statuses[Status.REJECTED]


@dataclass(slots=True)
class Figures:
    """All cards, by the account's key, and the halt of everything."""

    now: datetime
    accounts: dict[int, AccountFigures]
    halt: TradingHalt | None
    scoped_halts: list[ScopedHalt]
    knows_limits: bool
    money: frozenset[str]

    @property
    def midnight(self) -> datetime:
        return self.now.replace(hour=0, minute=0, second=0, microsecond=0)


def read_figures(
    now: datetime, only: str = "", known: QuerySet[ExchangeAccount] | None = None
) -> Figures:
    """Read the cards of all `known` accounts, or of the one with this name."""
    rows = ExchangeAccount.objects.order_by("name") if known is None else known
    rows = rows.select_related("stream", "sync")
    accounts = [row for row in rows if only in ("", row.name)]
    limits = breakers.limit_states(accounts)
    figures = Figures(
        now,
        {
            row.pk: AccountFigures(row, getattr(row, "stream", None), (limits or {}).get(row.name))
            for row in accounts
        },
        TradingHalt.objects.filter(pk=TradingHalt.ROW, is_halted=True).first(),
        _scoped_halts(accounts),
        limits is not None,
        money_of(accounts),
    )
    _add_open(figures)
    _add_breaks(figures)
    _add_today(figures)
    _add_fills(figures)
    _add_results(figures)
    return figures


def _scoped_halts(accounts: Collection[ExchangeAccount]) -> list[ScopedHalt]:
    """Return the halts of symbols and strategies that concern these accounts."""
    mine = Q(account=None) | Q(account__in=accounts)
    return list(ScopedHalt.objects.filter(mine).select_related("account"))


def _add_open(figures: Figures) -> None:
    # Each half reads an index of its own. For all statuses at once, PostgreSQL reads every order.
    open_orders, unresolved = (
        Order.objects.filter(status__in=[*statuses], account__in=figures.accounts)
        .order_by()
        .values_list("account_id", "status")
        .annotate(Count("pk"), Min("created_at"))
        for statuses in (states.OPEN, states.UNRESOLVED)
    )
    for account_id, status, count, first in open_orders.union(unresolved, all=True):
        card = figures.accounts[account_id]
        if status in states.OPEN:
            card.open += count
            continue
        card.unresolved += count
        card.oldest_unresolved = min(first, card.oldest_unresolved or first)
        if status == Status.PENDING_NEW:
            card.in_flight, card.oldest_in_flight = count, first


def _add_breaks(figures: Figures) -> None:
    rows = (
        ReconciliationBreak.objects.filter(resolved_at__isnull=True, account__in=figures.accounts)
        .order_by()
        .values_list("account_id")
        .annotate(Count("pk"))
    )
    for account_id, count in rows:
        figures.accounts[account_id].breaks = count


def _quote_assets(symbols: set[str]) -> dict[tuple[str, str, str], str]:
    rows = Instrument.objects.filter(symbol__in=symbols)
    return {(row.exchange, row.environment, row.symbol): row.quote_asset for row in rows}


def _add_today(figures: Figures) -> None:
    rows = list(
        Order.objects.filter(created_at__gte=figures.midnight, account__in=figures.accounts)
        .order_by()
        .values_list("account_id", "symbol", "status")
        .annotate(Count("pk"), Sum("filled_quote_quantity"))
    )
    quotes = _quote_assets({symbol for _account, symbol, *_ in rows})
    for account_id, symbol, status, count, traded in rows:
        card = figures.accounts[account_id]
        card.orders += count
        card.statuses[status] += count
        if traded:
            own = card.account
            quote = quotes.get((own.exchange, own.environment, symbol), symbol)
            _add(card.notional, quote, traded)


def _add_fills(figures: Figures) -> None:
    rows = (
        Fill.objects.filter(traded_at__gte=figures.midnight, account__in=figures.accounts)
        .order_by()
        .values_list("account_id")
        .annotate(Count("pk"))
    )
    for account_id, count in rows:
        figures.accounts[account_id].fills = count


def _add_results(figures: Figures) -> None:
    """Add the results as the positions' rows have them: up to a minute old, and priced then."""
    for row in Position.objects.filter(account__in=figures.accounts):
        card = figures.accounts[row.account_id]
        realized, unrealized = result_of_day(row, figures.now.date())
        if realized is None:
            card.unknown_results.add(row.quote_asset)
        else:
            _add(card.realized, row.quote_asset, realized)
        if unrealized is None:
            card.unpriced += 1
            continue
        _add(card.unrealized, row.quote_asset, unrealized)
        if row.priced_at:
            card.priced_at = min(row.priced_at, card.priced_at or row.priced_at)


def _add(amounts: dict[str, Decimal], asset: str, amount: Decimal) -> None:
    amounts[asset] = EXACT.add(amounts.get(asset, ZERO), amount)


def money_of(accounts: Iterable[ExchangeAccount]) -> frozenset[str]:
    """Return the assets that are money where these accounts trade."""
    places = {(account.exchange, account.environment) for account in accounts}
    return frozenset().union(*(money_assets(*place) for place in places))


def money_text(asset: str, amount: Decimal, money: Collection[str]) -> str:
    """Write an amount of a quote asset: money to two decimals, other assets to eight."""
    decimals = MONEY_DECIMALS if asset in money else 8
    return f"{rounded(amount, decimals)} {asset}"


def age(now: datetime, since: datetime | None) -> timedelta | None:
    return None if since is None else max(now - since, timedelta())
