"""Read the series of the last hour: orders and fills a minute, and the time that orders took."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

WINDOW = timedelta(hours=1)

_PACE = """
SELECT 'orders' AS kind, extract(epoch FROM date_trunc('minute', created_at))::bigint, count(*)
  FROM orders_order WHERE created_at >= %(start)s AND account_id = ANY(%(accounts)s) GROUP BY 2
UNION ALL
SELECT 'fills', extract(epoch FROM date_trunc('minute', traded_at))::bigint, count(*)
  FROM orders_fill WHERE traded_at >= %(start)s AND account_id = ANY(%(accounts)s) GROUP BY 2
"""
# The first attempt only: a second one waits for the proof that the first is absent.
_LATENCY = """
WITH spans AS (
  SELECT date_trunc('minute', o.created_at) AS minute,
         extract(epoch FROM o.created_at - o.submitted_at) * 1000 AS received,
         extract(epoch FROM e.sent_at - o.created_at) * 1000 AS claimed,
         extract(epoch FROM e.acknowledged_at - e.sent_at) * 1000 AS answered,
         extract(epoch FROM e.acknowledged_at - o.created_at) * 1000 AS whole
    FROM orders_order o JOIN orders_exchangeorder e ON e.order_id = o.id AND e.attempt = 1
   WHERE o.created_at >= %(start)s AND o.account_id = ANY(%(accounts)s)
     AND e.acknowledged_at IS NOT NULL AND NOT o.is_external
)
SELECT extract(epoch FROM minute)::bigint AS at, count(*) AS orders,
       percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY received) AS received,
       percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY claimed) AS claimed,
       percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY answered) AS answered,
       percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY whole) AS whole
  FROM spans GROUP BY GROUPING SETS ((minute), ())
"""
STAGES = ("received", "claimed", "answered", "whole")


def read_charts(now: datetime, account_ids: Collection[int]) -> dict[str, Any]:
    """Return the series for the page's script, and percentiles by stage for its table."""
    end = now.replace(second=0, microsecond=0)
    given: dict[str, Any] = {"start": end - WINDOW, "accounts": list(account_ids)}
    with connection.cursor() as cursor:
        cursor.execute(_PACE, given)
        pace = {(kind, at): count for kind, at, count in cursor.fetchall()}
        cursor.execute(_LATENCY, given)
        names = [column.name for column in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    by_minute = {row["at"]: row["whole"] for row in rows if row["at"] is not None}
    hour = next((row for row in rows if row["at"] is None), {})
    # A minute without a row is zero orders, but an unknown latency.
    first = int((end - WINDOW).timestamp())
    at = [first + 60 * minute for minute in range(61)]
    return {
        "pace": [at, *([pace.get((kind, one), 0) for one in at] for kind in ("orders", "fills"))],
        "latency": [at, *([_part(by_minute.get(one), rank) for one in at] for rank in range(3))],
        "stages": {name: _figures(hour.get(name)) for name in STAGES},
        "answered": hour.get("orders") or 0,
    }


def _figures(percentiles: list[float | None] | None) -> list[float | None]:
    return [_part(percentiles, rank) for rank in range(3)]


def _part(percentiles: list[float | None] | None, rank: int) -> float | None:
    value = percentiles[rank] if percentiles else None
    return None if value is None else round(value, 1)
