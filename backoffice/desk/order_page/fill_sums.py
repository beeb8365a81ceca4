"""Add up an order's fills in the database: an order can have thousands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from django.db.models import Count, Max, Sum

from orders.models import Fill, Order


@dataclass(frozen=True, slots=True)
class FillSums:
    """Number and last time of the fills, and the commissions by asset."""

    count: int = 0
    last_at: datetime | None = None
    fees: Mapping[str, Decimal] = field(default_factory=dict)


def fill_sums_of(order: Order) -> FillSums:
    rows = list(
        Fill.objects.filter(order=order)
        .order_by()
        .values_list("commission_asset")
        .annotate(Count("pk"), Max("traded_at"), Sum("commission"))
    )
    return FillSums(
        sum(count for _, count, _, _ in rows),
        max((at for _, _, at, _ in rows), default=None),
        {asset: amount for asset, _, _, amount in rows if amount},
    )
