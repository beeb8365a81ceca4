"""Show how much of each limit is used, with a fixed number of queries for any number of rows.

These figures are for people. The gate counts by itself and under a lock (`orders.gate.usage`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Case, Count, DecimalField, F, Q, Sum, Value, When
from django.db.models.functions import Coalesce, Greatest
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _

from backoffice.desk.lists.columns import EMPTY
from exchanges import clock
from exchanges.models import Balance, Instrument
from exchanges.types import EXACT, plain
from orders import states
from orders.models import Order, Position, RiskLimit, Status
from orders.positions.store import result_of_day

ZERO = Decimal(0)
_NUMBER: DecimalField[Any, Any] = DecimalField(max_digits=38, decimal_places=18)
_BAR = (
    '<div class="desk-use"><span>{}</span>'
    '<meter class="desk-meter" min="0" max="100" low="70" high="90" optimum="0" value="{}"'
    ' aria-label="{}"></meter><span class="desk-number">{} / {}</span></div>'
)


@dataclass(frozen=True, slots=True)
class Use:
    """The used part of one limit. None: it is unknown."""

    name: str
    used: Decimal | None
    limit: Decimal

    @property
    def percent(self) -> int:
        if self.used is None or not self.limit:
            return 0 if not self.used else 100
        return min(100, max(0, round(100 * self.used / self.limit)))


@dataclass(frozen=True, slots=True)
class _Group:
    """The orders of one account, symbol and strategy."""

    account_id: int
    symbol: str
    strategy: str
    side: str
    open: int
    today: int
    notional: Decimal
    open_buys: Decimal


def uses_of(rows: Iterable[RiskLimit], now: datetime | None = None) -> dict[int, list[Use]]:
    """Return the used parts of each row's limits that can be used up, by the row's key."""
    limits = list(rows)
    accounts = {row.account_id for row in limits}
    now = now or clock.now()
    groups = _groups(accounts, now)
    assets = _assets()
    balances = {
        (row.account_id, row.asset): EXACT.add(row.free, row.locked)
        for row in Balance.objects.filter(account__in=accounts)
    }
    positions = list(Position.objects.filter(account__in=accounts))
    return {row.pk: list(_uses(row, groups, assets, balances, positions, now)) for row in limits}


def _groups(accounts: set[int], now: datetime) -> list[_Group]:
    """Add up the orders of today and the open ones: two index scans, one statement."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    is_open = Q(status__in=[*states.OPEN, Status.PENDING_NEW])
    is_today = Q(created_at__gte=midnight, attempt__gt=0, is_external=False)
    worth = Case(
        When(status__in=[*states.CLOSED], then=Value(ZERO)),
        default=Coalesce(
            F("quote_quantity"), F("price") * F("quantity"), Value(ZERO), output_field=_NUMBER
        ),
        output_field=_NUMBER,
    )
    rows = (
        Order.objects.filter(is_open | is_today, account__in=accounts)
        .order_by()
        .values("account_id", "symbol", "strategy", "side")
        .annotate(
            open=Count("pk", filter=is_open),
            today=Count("pk", filter=is_today),
            notional=Sum(
                Greatest(F("filled_quote_quantity"), worth, output_field=_NUMBER),
                filter=is_today,
                default=ZERO,
            ),
            open_buys=Sum(
                Greatest(
                    Value(ZERO, output_field=_NUMBER),
                    Coalesce(F("quantity"), Value(ZERO), output_field=_NUMBER)
                    - F("filled_quantity"),
                    output_field=_NUMBER,
                ),
                filter=is_open & Q(side="BUY"),
                default=ZERO,
            ),
        )
    )
    return [_Group(**row) for row in rows]


def _assets() -> dict[str, tuple[str, str]]:
    """Return base and quote asset by symbol."""
    rows = Instrument.objects.order_by().values_list("symbol", "base_asset", "quote_asset")
    return {symbol: (base, quote) for symbol, base, quote in rows.distinct()}


def _uses(
    row: RiskLimit,
    groups: list[_Group],
    assets: dict[str, tuple[str, str]],
    balances: dict[tuple[int, str], Decimal],
    positions: list[Position],
    now: datetime,
) -> Iterable[Use]:
    mine = [group for group in groups if _applies(row, group)]
    if row.max_open_orders is not None:
        used = Decimal(sum(group.open for group in mine))
        yield Use(_("open orders"), used, Decimal(row.max_open_orders))
    if row.max_orders_per_day is not None:
        used = Decimal(sum(group.today for group in mine))
        yield Use(_("orders today"), used, Decimal(row.max_orders_per_day))
    if row.max_notional_per_day is not None:
        traded = [g.notional for g in mine if assets.get(g.symbol, ("", ""))[1] == row.currency]
        yield Use(_("notional today"), sum(traded, ZERO), row.max_notional_per_day)
    if row.max_position is not None and row.symbol in assets:
        base = assets[row.symbol][0]
        held = balances.get((row.account_id, base), ZERO)
        buys = [
            group.open_buys
            for group in groups
            if group.account_id == row.account_id and assets.get(group.symbol, ("", ""))[0] == base
        ]
        yield Use(_("position"), held + sum(buys, ZERO), row.max_position)
    if row.max_daily_loss is not None:
        yield Use(_("loss today"), _loss(row, positions, now), row.max_daily_loss)


def _applies(row: RiskLimit, group: _Group) -> bool:
    return (
        group.account_id == row.account_id
        and row.symbol in ("", group.symbol)
        and row.strategy in ("", group.strategy)
    )


def _loss(row: RiskLimit, positions: Iterable[Position], now: datetime) -> Decimal | None:
    """Return the realized loss of today, up to a minute old. A gain is no use of the limit."""
    total = ZERO
    for position in positions:
        if position.account_id != row.account_id or position.quote_asset != row.currency:
            continue
        if row.symbol not in ("", position.symbol):
            continue
        result, _unrealized = result_of_day(position, now.date())
        if result is None:
            return None
        total = EXACT.subtract(total, result)
    return max(total, ZERO)


def bars(uses: Iterable[Use]) -> str:
    """Return a bar for each use as HTML."""
    found = [
        (
            use.name,
            use.percent,
            use.name,
            _("unknown") if use.used is None else _short(use.used),
            _short(use.limit),
        )
        for use in uses
    ]
    return format_html_join("", _BAR, found) if found else format_html("{}", EMPTY)


def _short(value: Decimal) -> str:
    """Write at most eight decimals, without trailing zeros."""
    return plain(value.quantize(Decimal("1e-8"), context=EXACT).normalize(EXACT))
