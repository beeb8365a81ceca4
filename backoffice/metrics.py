"""Serve `/metrics`: read everything at each scrape and answer in Prometheus's text format.

Each query uses an index that doesn't grow with the history. Partial indexes count the orders that
aren't closed, the index on the recording time counts the last day's. Counting all orders would
read the whole table.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import accumulate, product

import structlog
from django.db import Error, connection
from django.db.models import Count, Min
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Metric,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from backoffice.duty_states import duty_states
from backoffice.web.bearer import may_read_details
from exchanges import clock, errors
from exchanges.binance.gateway import Gateway
from exchanges.limits.breaker import breaker_state
from exchanges.limits.counters import BEYOND, EDGES, SUM_SUFFIX, Labels, read_counters
from exchanges.models import ExchangeAccount, TradingHalt, TradingState
from exchanges.types import CallKind
from orders import states
from orders.models import BreakKind, Order, ReconciliationBreak
from orders.stages import HISTOGRAM, WHOLE, Stage
from orders.states import OrderStatus
from orders.tasks import KNOWN_FIELDS

log = structlog.get_logger(__name__)

Counts = dict[tuple[int, str], int]  # by account and status

PREFIX = "backoffice"
RECENT = timedelta(hours=24)
OTHER = "other"
_CALLS = {
    *("place", "cancel", "cancel_open_orders", "fetch_time"),
    *(name for name in vars(Gateway) if name.startswith("fetch_")),
}
_OUTCOMES = {"ok", *(kind.__name__ for kind in vars(errors).values() if isinstance(kind, type))}
_TASKS = {"submit_order", "cancel_order"}
_STAGES = {*Stage, WHOLE}
_EDGES = {*map(repr, EDGES), BEYOND}
_COUNTER_HELP = {
    "exchange_calls": "Requests to the exchange by outcome: ok, or the error they ended in.",
    "invalid_intents": "Messages that were refused as malformed, by the argument at fault.",
}


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """Return the metrics, to requests with `METRICS_TOKEN` as bearer token."""
    if not may_read_details(request):
        return HttpResponse(
            "send METRICS_TOKEN as a bearer token (METRICS_OPEN=on opens this page to anyone)\n",
            status=401,
            headers={"WWW-Authenticate": "Bearer"},
        )
    registry = CollectorRegistry(auto_describe=False)
    registry.register(BackOfficeCollector())
    try:
        text = generate_latest(registry)
    except Error as error:
        log.warning("database_does_not_answer", error=str(error))
        connection.close()
        return HttpResponse(f"the database does not answer ({type(error).__name__})\n", status=503)
    return HttpResponse(text, content_type=CONTENT_TYPE_PLAIN_0_0_4)


class BackOfficeCollector(Collector):
    """Read the whole back office once. Raise `Error` while the database is away."""

    def collect(self) -> Iterator[Metric]:
        now = clock.now()
        accounts = list(ExchangeAccount.objects.select_related("stream", "sync"))
        yield from _orders(accounts, now)
        yield _breaks(accounts)
        yield from _accounts(accounts, now)
        yield from _streams(accounts, now)
        yield from _duties()
        yield _breakers(accounts)
        yield from _counters(accounts)


def _gauge(name: str, text: str, labels: Iterable[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=list(labels))


# -- orders --------------------------------------------------------------------------------------


def _orders(accounts: list[ExchangeAccount], now: datetime) -> Iterator[Metric]:
    names = {account.pk: account.name for account in accounts}
    unsettled, oldest = _unsettled()
    yield _by_status(
        _gauge(
            "orders_not_closed", "Orders that are not closed, by status.", ["account", "status"]
        ),
        names,
        [status for status in OrderStatus if status not in states.CLOSED],
        unsettled | _counts([*states.OPEN, OrderStatus.HELD]),
    )
    yield _by_status(
        _gauge(
            "orders_recorded_24h",
            "Orders recorded in the last 24 hours, by status.",
            ["account", "status"],
        ),
        names,
        [*OrderStatus],
        _counts(since=now - RECENT),
    )
    unresolved = _gauge(
        "unresolved_orders", "Orders not sent yet or without a trustworthy answer.", ["account"]
    )
    age = _gauge(
        "unresolved_oldest_age_seconds",
        "Age of the oldest unresolved order, 0 if none.",
        ["account"],
    )
    for pk, name in names.items():
        unresolved.add_metric(
            [name], sum(unsettled.get((pk, status), 0) for status in states.UNRESOLVED)
        )
        age.add_metric([name], (now - oldest[pk]).total_seconds() if pk in oldest else 0.0)
    yield unresolved
    yield age


def _by_status(
    gauge: GaugeMetricFamily, names: dict[int, str], statuses: list[OrderStatus], counts: Counts
) -> Metric:
    """Add a sample for each account and status, also zeros, because alerts need lasting series."""
    for (pk, name), status in product(names.items(), statuses):
        gauge.add_metric([name, status], counts.get((pk, status), 0))
    return gauge


def _unsettled() -> tuple[Counts, dict[int, datetime]]:
    """Return counts by (account, status), and the time of each account's oldest order."""
    rows = (
        Order.objects.filter(status__in=[*states.UNRESOLVED])
        .order_by()
        .values_list("account_id", "status")
    )
    counts: Counts = {}
    oldest: dict[int, datetime] = {}
    for account_id, status, count, first in rows.annotate(Count("pk"), Min("created_at")):
        counts[account_id, status] = count
        oldest[account_id] = min(first, oldest.get(account_id, first))
    return counts, oldest


def _counts(statuses: Iterable[str] = (), *, since: datetime | None = None) -> Counts:
    rows = Order.objects.order_by()
    rows = (
        rows.filter(status__in=[*statuses]) if since is None else rows.filter(created_at__gte=since)
    )
    return {
        (account_id, status): count
        for account_id, status, count in rows.values_list("account_id", "status").annotate(
            Count("pk")
        )
    }


def _breaks(accounts: list[ExchangeAccount]) -> Metric:
    gauge = _gauge(
        "open_breaks",
        "Unresolved differences with the exchange.",
        ["account", "kind"],
    )
    rows = ReconciliationBreak.objects.filter(resolved_at__isnull=True).order_by()
    counts = {
        (account_id, kind): count
        for account_id, kind, count in rows.values_list("account_id", "kind").annotate(Count("pk"))
    }
    for account, kind in product(accounts, BreakKind):
        gauge.add_metric([account.name, kind], counts.get((account.pk, kind), 0))
    return gauge


# -- accounts ------------------------------------------------------------------------------------


def _accounts(accounts: list[ExchangeAccount], now: datetime) -> Iterator[Metric]:
    everything = _gauge("trading_halted", "1 while all trading is halted.", [])
    everything.add_metric(
        [], float(TradingHalt.objects.filter(pk=TradingHalt.ROW, is_halted=True).exists())
    )
    yield everything
    state = _gauge(
        "account_trading_state",
        "1 for the state that the account is in.",
        ["account", "environment", "state"],
    )
    for account, word in product(accounts, TradingState):
        state.add_metric(
            [account.name, account.environment, word], float(account.trading_state == word)
        )
    yield state
    enabled = _gauge("account_enabled", "1 if the account is enabled.", ["account", "environment"])
    synced = _gauge(
        "seconds_since_sync",
        "Since the last complete comparison with the exchange. +Inf if never.",
        ["account"],
    )
    for account in accounts:
        enabled.add_metric([account.name, account.environment], float(account.is_enabled))
        last = account.last_synced_at
        synced.add_metric([account.name], (now - last).total_seconds() if last else float("inf"))
    yield enabled
    yield synced


def _streams(accounts: list[ExchangeAccount], now: datetime) -> Iterator[Metric]:
    """Report each stream as its listener last stored it, and its lag only after an event."""
    connected = _gauge("stream_connected", "1 while the private stream is subscribed.", ["account"])
    in_sync = _gauge(
        "stream_in_sync", "1 while the private stream is connected and caught up.", ["account"]
    )
    silence = _gauge(
        "stream_seconds_since_event", "Since the private stream's last event.", ["account"]
    )
    lag = _gauge(
        "stream_lag_seconds",
        "From the exchange's time of the last event to its commit.",
        ["account"],
    )
    for account in accounts:
        stream = getattr(account, "stream", None)
        subscribed = stream.connected_since if stream is not None and stream.is_alive(now) else None
        connected.add_metric([account.name], float(subscribed is not None))
        in_sync.add_metric([account.name], float(stream is not None and stream.is_healthy(now)))
        if stream is not None and stream.last_event_at is not None:
            silence.add_metric([account.name], (now - stream.last_event_at).total_seconds())
        if stream is not None and stream.lag_ms is not None:
            lag.add_metric([account.name], stream.lag_ms / 1000)
    yield from (connected, in_sync, silence, lag)


def _duties() -> Iterator[Metric]:
    still = _gauge("duty_stands_still", "1 while beat's duty doesn't run.", ["duty", "account"])
    age = _gauge(
        "seconds_since_duty", "Since the duty last ran. +Inf if never.", ["duty", "account"]
    )
    for state in duty_states():
        labels = [state.duty, state.account]
        still.add_metric(labels, float(state.stands_still))
        age.add_metric(labels, float("inf") if state.age is None else state.age)
    yield from (still, age)


def _breakers(accounts: list[ExchangeAccount]) -> Metric:
    gauge = _gauge(
        "breaker_open",
        "1 while calls of this kind are blocked. No sample while Redis is away.",
        ["account", "kind"],
    )
    for account, kind in product(accounts, CallKind):
        state = breaker_state(account.name, kind)
        if state == "unknown":
            break  # Redis is away: every further read would wait
        gauge.add_metric([account.name, kind], float(state.endswith("open")))
    return gauge


def _stages(counts: Mapping[tuple[str, Labels], int]) -> Metric:
    """Return the time that placements spend in each stage, as a histogram."""
    family = HistogramMetricFamily(
        f"{PREFIX}_{HISTOGRAM}",
        "Duration of each stage of a placement, since the stage before. "
        "all: from received to recorded. first_fill: from the gate to its record.",
        labels=["stage"],
    )
    in_bucket: dict[str, dict[str, int]] = defaultdict(dict)
    for (name, labels), count in counts.items():
        if name == HISTOGRAM:
            named = dict(labels)
            if named.get("stage") not in _STAGES or named.get("le") not in _EDGES:
                continue
            in_bucket[named["stage"]][named["le"]] = count
    for stage, found in sorted(in_bucket.items()):
        edges = [*map(repr, EDGES), BEYOND]
        cumulative = accumulate(found.get(edge, 0) for edge in edges)
        total = counts.get((HISTOGRAM + SUM_SUFFIX, (("stage", stage),)), 0) / 1e6
        family.add_metric([stage], list(zip(edges, cumulative, strict=True)), total)
    return family


# -- counters of all processes -------------------------------------------------------------------


def _known_labels(accounts: set[str]) -> dict[str, dict[str, Collection[str]]]:
    """Return each counter's labels, with the values that each may have."""
    return {
        "exchange_calls": {"account": accounts, "call": _CALLS, "outcome": _OUTCOMES},
        "invalid_intents": {"task": _TASKS, "field": KNOWN_FIELDS},
    }


def _counters(accounts: list[ExchangeAccount]) -> Iterator[Metric]:
    counts = read_counters()
    yield _stages(counts)
    known = _known_labels({account.name for account in accounts})
    totals: Counter[tuple[str, tuple[str, ...]]] = Counter()
    for (name, labels), count in counts.items():
        if name in known:
            values = dict(labels)
            key = name, tuple(_known(values.get(k, ""), known[name][k]) for k in known[name])
            totals[key] += count
    for name, text in _COUNTER_HELP.items():
        family = CounterMetricFamily(f"{PREFIX}_{name}", text, labels=list(known[name]))
        for (counter, of_labels), count in sorted(totals.items()):
            if counter == name:
                family.add_metric(list(of_labels), count)
        yield family


def _known(value: str, allowed: Collection[str]) -> str:
    """Return the value of a label, `other` if it isn't one of ours.

    Whoever writes to Redis, or sends messages, can't make new series.
    """
    return value if value in allowed else OTHER
