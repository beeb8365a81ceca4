"""Read the result and the exposure over the day (UTC), from the samples that workers keep."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db.models import Count, QuerySet, Sum

from backoffice.desk.overview.figures import money_of, money_text
from exchanges.models import Environment, ExchangeAccount
from orders.models import ResultSample
from orders.positions.samples import SAMPLE, sample_of

#: Money of one environment is never added to that of another. The first that has samples is shown.
_ENVIRONMENTS = (Environment.LIVE, Environment.TESTNET, Environment.SIMULATOR)
_NAMES = ("realized", "unrealized", "exposure")
Line = list[Decimal | None]


@dataclass(frozen=True, slots=True)
class Day:
    """The sums of some accounts, for each five minutes since the day's first. None: unknown."""

    asset: str
    environment: str
    at: list[int]
    realized: Line
    total: Line
    exposure: Line
    others: list[str] = field(default_factory=list)
    money: Collection[str] = ()

    def data(self) -> dict[str, Any]:
        """Return the numbers for the page's script."""
        result = [_drawn(self.realized), _drawn(self.total)]
        return {"result": [self.at, *result], "exposure": [self.at, _drawn(self.exposure)]}

    def text(self, name: str) -> dict[str, str] | None:
        """Return the last, the lowest and the highest value of a line in words."""
        line: Line = getattr(self, name)
        known = [value for value in line if value is not None]
        if not known:
            return None
        last = next(rank for rank in range(len(line) - 1, -1, -1) if line[rank] is not None)
        ends = {"last": known[-1], "lowest": min(known), "highest": max(known)}
        found = {key: money_text(self.asset, value, self.money) for key, value in ends.items()}
        return found | {"at": f"{datetime.fromtimestamp(self.at[last], tz=UTC):%H:%M}"}


def read_day(now: datetime, accounts: QuerySet[ExchangeAccount]) -> Day | None:
    """Return the day of these accounts in their main quote asset, None without a sample.

    A time is unknown if the sample of an account that has earlier ones is missing.
    """
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    rows: Any = (
        ResultSample.objects.filter(account__in=accounts.filter(is_enabled=True), at__gte=midnight)
        .order_by()
        .values("account__environment", "quote_asset", "at")
        .annotate(
            *(Sum(name) for name in _NAMES),
            # A sum skips unknown values, so each part is counted.
            *(Count(name) for name in _NAMES),
            accounts=Count("pk"),
        )
    )
    found: dict[tuple[str, str], dict[datetime, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        found[row["account__environment"], row["quote_asset"]][row["at"]] = row
    chosen = next((name for name in _ENVIRONMENTS if any(key[0] == name for key in found)), None)
    if chosen is None:
        return None
    assets = [asset for environment, asset in found if environment == chosen]
    asset = max(assets, key=lambda each: _weight(found[chosen, each]))
    others = sorted(set(assets) - {asset})
    return _day(found[chosen, asset], now, asset, chosen, others, money_of(accounts))


def _weight(rows: dict[datetime, dict[str, Any]]) -> tuple[int, int, Decimal]:
    newest = rows[max(rows)]
    return newest["accounts"], len(rows), newest["exposure__sum"] or Decimal(0)


def _day(
    rows: dict[datetime, dict[str, Any]],
    now: datetime,
    asset: str,
    environment: str,
    others: list[str],
    money: Collection[str],
) -> Day:
    times, most = [], 0
    lines: dict[str, Line] = {"realized": [], "total": [], "exposure": []}
    moment = min(rows)
    while moment <= sample_of(now):
        times.append(int(moment.timestamp()))
        row = rows.get(moment)
        is_whole = row is not None and row["accounts"] >= most
        if is_whole and row is not None:
            most = row["accounts"]
        for name, value in _values(row if is_whole else None).items():
            lines[name].append(value)
        moment += SAMPLE
    label = str(Environment(environment).label)
    return Day(asset, label, times, **lines, others=others, money=money)


def _values(row: dict[str, Any] | None) -> dict[str, Decimal | None]:
    realized, unrealized, exposure = (
        row[f"{name}__sum"] if row and row[f"{name}__count"] == row["accounts"] else None
        for name in _NAMES
    )
    total = None if realized is None or unrealized is None else realized + unrealized
    return {"realized": realized, "total": total, "exposure": exposure}


def _drawn(line: Line) -> list[float | None]:
    return [None if value is None else float(round(value, 8)) for value in line]
