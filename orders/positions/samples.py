"""Keep the result and the exposure of an account over time, one row for five minutes and asset.

The rows come from the positions' rows when their prices have been read. A row whose minutes aren't
over yet is written again. Later ones are never changed: a fill that arrives late shows from its
arrival on.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from decimal import Decimal

from exchanges import clock
from exchanges.models import ExchangeAccount
from exchanges.types import EXACT
from orders.models import Position, ResultSample
from orders.positions.store import recent_holding, result_of_day

SAMPLE = timedelta(minutes=5)
_FIELDS = ("realized", "unrealized", "exposure")
#: None: a part is unknown, so the sum is.
_Sums = list[Decimal | None]


def sample_of(moment: datetime) -> datetime:
    """Return the beginning of the five minutes that a moment is in."""
    return moment - timedelta(
        minutes=moment.minute % 5, seconds=moment.second, microseconds=moment.microsecond
    )


def keep_sample(account: ExchangeAccount) -> int:
    """Store the account's result of today and its exposure now. Return the number of assets."""
    now = clock.now()
    sums: dict[str, _Sums] = defaultdict(lambda: [Decimal(0)] * len(_FIELDS))
    for row in Position.objects.filter(account=account):
        known = sums[row.quote_asset]
        sums[row.quote_asset] = [
            _sum(*pair) for pair in zip(known, _figures(row, now), strict=True)
        ]
    ResultSample.objects.bulk_create(
        [
            ResultSample(
                account=account,
                at=sample_of(now),
                quote_asset=asset,
                **dict(zip(_FIELDS, figures, strict=True)),
            )
            for asset, figures in sums.items()
        ],
        update_conflicts=True,
        unique_fields=["account", "at", "quote_asset"],
        update_fields=_FIELDS,
    )
    return len(sums)


def _figures(row: Position, now: datetime) -> _Sums:
    realized, unrealized = result_of_day(row, now.date())
    if row.priced_at is None or now - row.priced_at > SAMPLE:
        return [realized, None, None]  # the price is too old
    holding = recent_holding(row.base_asset, row.quote_asset, row.recent) if row.recent else None
    quantity = row.quantity if holding is None else holding.quantity
    exposure = None
    if row.last_price is not None:
        exposure = abs(EXACT.multiply(quantity, row.last_price))
    return [realized, unrealized, exposure]


def _sum(first: Decimal | None, second: Decimal | None) -> Decimal | None:
    return None if first is None or second is None else EXACT.add(first, second)
