"""The figures behind `/metrics`, read when they are asked for.

Each query is served by an index that does not grow with the history: orders that are not closed by the partial indexes,
the others by their recording time, for the last day only. A count of all orders ever would read all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import product

from django.db.models import Count, Min
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from exchanges import clock
from exchanges.limits import Kind, breaker_state
from exchanges.metrics import read_counters
from exchanges.models import ExchangeAccount, TradingHalt, TradingState
from orders import states
from orders.models import BreakKind, Order, ReconciliationBreak
from orders.states import OrderStatus

Counts = dict[tuple[int, str], int]  # by account and status

PREFIX = "backoffice"
RECENT = timedelta(hours=24)
_NOT_A_NAME = re.compile(r"[^a-zA-Z0-9_]")
# What the counters of `exchanges.metrics` count.
_COUNTER_HELP = {
    "exchange_calls": "Requests to the exchange by outcome: ok, or the error they ended in.",
    "invalid_intents": "Messages that were refused as malformed, by the argument at fault.",
}


class BackOfficeCollector(Collector):
    """One reading of the whole back office. Raises `DatabaseError` while there is no database."""

    def collect(self) -> Iterator[Metric]:
        now = clock.now()
        accounts = list(ExchangeAccount.objects.select_related("stream"))
        yield from _orders(accounts, now)
        yield _breaks(accounts)
        yield from _accounts(accounts, now)
        yield from _streams(accounts, now)
        yield _breakers(accounts)
        yield from _counters()


def _gauge(name: str, text: str, labels: Iterable[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=list(labels))


# -- orders --------------------------------------------------------------------------------------------------------


def _orders(accounts: list[ExchangeAccount], now: datetime) -> Iterator[Metric]:
    names = {account.pk: account.name for account in accounts}
    unsettled, oldest = _unsettled()
    yield _by_status(
        _gauge("orders_not_closed", "Orders that are not closed, by status.", ["account", "status"]),
        names,
        [status for status in OrderStatus if status not in states.CLOSED],
        unsettled | _counts(states.OPEN),
    )
    yield _by_status(
        _gauge("orders_recorded_24h", "Orders recorded in the last 24 hours, by status.", ["account", "status"]),
        names,
        [*OrderStatus],
        _counts(since=now - RECENT),
    )
    unresolved = _gauge("unresolved_orders", "Orders not sent yet or without a trustworthy answer.", ["account"])
    age = _gauge("unresolved_oldest_age_seconds", "Age of the oldest unresolved order, 0 if none.", ["account"])
    for pk, name in names.items():
        unresolved.add_metric([name], sum(unsettled.get((pk, status), 0) for status in states.UNSETTLED))
        age.add_metric([name], (now - oldest[pk]).total_seconds() if pk in oldest else 0.0)
    yield unresolved
    yield age


def _by_status(gauge: GaugeMetricFamily, names: dict[int, str], statuses: list[OrderStatus], counts: Counts) -> Metric:
    """A sample for each account and status, zeros too: a series that comes and goes cannot be alerted on."""
    for (pk, name), status in product(names.items(), statuses):
        gauge.add_metric([name, status], counts.get((pk, status), 0))
    return gauge


def _unsettled() -> tuple[Counts, dict[int, datetime]]:
    """Count by (account, status), and when the oldest of each account was recorded."""
    rows = Order.objects.filter(status__in=[*states.UNSETTLED]).order_by().values_list("account_id", "status")
    counts: Counts = {}
    oldest: dict[int, datetime] = {}
    for account_id, status, count, first in rows.annotate(Count("pk"), Min("created_at")):
        counts[account_id, status] = count
        oldest[account_id] = min(first, oldest.get(account_id, first))
    return counts, oldest


def _counts(statuses: Iterable[str] = (), *, since: datetime | None = None) -> Counts:
    rows = Order.objects.order_by()
    rows = rows.filter(status__in=[*statuses]) if since is None else rows.filter(created_at__gte=since)
    return {
        (account_id, status): count
        for account_id, status, count in rows.values_list("account_id", "status").annotate(Count("pk"))
    }


def _breaks(accounts: list[ExchangeAccount]) -> Metric:
    gauge = _gauge("open_breaks", "Differences with the exchange that nobody has resolved.", ["account", "kind"])
    rows = ReconciliationBreak.objects.filter(resolved_at__isnull=True).order_by()
    counts = {
        (account_id, kind): count
        for account_id, kind, count in rows.values_list("account_id", "kind").annotate(Count("pk"))
    }
    for account, kind in product(accounts, BreakKind):
        gauge.add_metric([account.name, kind], counts.get((account.pk, kind), 0))
    return gauge


# -- accounts ------------------------------------------------------------------------------------------------------


def _accounts(accounts: list[ExchangeAccount], now: datetime) -> Iterator[Metric]:
    everything = _gauge("trading_halted", "1 while all trading is halted.", [])
    everything.add_metric([], float(TradingHalt.objects.filter(pk=TradingHalt.ROW, is_halted=True).exists()))
    yield everything
    state = _gauge(
        "account_trading_state", "1 for the state that the account is in.", ["account", "environment", "state"]
    )
    for account, word in product(accounts, TradingState):
        state.add_metric([account.name, account.environment, word], float(account.trading_state == word))
    yield state
    enabled = _gauge("account_enabled", "1 if the account is enabled.", ["account", "environment"])
    synced = _gauge(
        "seconds_since_sync", "Since the last complete comparison with the exchange; +Inf if never.", ["account"]
    )
    for account in accounts:
        enabled.add_metric([account.name, account.environment], float(account.is_enabled))
        last = account.last_synced_at
        synced.add_metric([account.name], (now - last).total_seconds() if last else float("inf"))
    yield enabled
    yield synced


def _streams(accounts: list[ExchangeAccount], now: datetime) -> Iterator[Metric]:
    """The private streams, as their listener has last told of them; no lag and no event is told before the first."""
    connected = _gauge("stream_connected", "1 while the private stream is subscribed.", ["account"])
    in_sync = _gauge("stream_in_sync", "1 while the private stream is connected and caught up.", ["account"])
    silence = _gauge("stream_seconds_since_event", "Since the private stream's last event.", ["account"])
    lag = _gauge("stream_lag_seconds", "From the exchange's time of the last event to its commit.", ["account"])
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


def _breakers(accounts: list[ExchangeAccount]) -> Metric:
    gauge = _gauge(
        "breaker_open", "1 while calls of this kind are not sent; nothing while Redis is away.", ["account", "kind"]
    )
    for account, kind in product(accounts, Kind):
        state = breaker_state(account.name, kind)
        if state == "unknown":
            break  # each further question would wait in vain, too
        gauge.add_metric([account.name, kind], float(state.endswith("open")))
    return gauge


# -- counters of all processes -------------------------------------------------------------------------------------


def _counters() -> Iterator[Metric]:
    families: dict[str, CounterMetricFamily] = {}
    for (name, labels), count in sorted(read_counters().items()):
        text = _COUNTER_HELP.get(name, f"Counted by every process: {name}.")
        family = families.setdefault(name, CounterMetricFamily(f"{PREFIX}_{_NOT_A_NAME.sub('_', name)}", text))
        family.add_sample(f"{family.name}_total", {_NOT_A_NAME.sub("_", k): v for k, v in labels}, count)
    yield from families.values()
