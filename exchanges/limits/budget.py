"""Share the exchange's rate limits among all processes, in Redis.

There is one weight budget per address, one order budget per account, and one breaker per account
and kind of call. Before a request leaves, `acquire` runs one Lua script. Afterwards
`record_response` runs another if the response says something new. A request never blocks: over the
limit, it fails with `NotSent(retry_after)`. Cancels have priority over status queries, these over
new orders, and these over history: each priority may use the budget up to its own share. The
exchange's own counts correct ours upwards. A 429, a 418 or a firewall page stops the whole address
in every process until the exchange's Retry-After.

While Redis is away a worker places nothing, and cancels and single queries continue under a small
local limit. A stop still holds in each process that knows of it, and a Redis that has forgotten it
hears of it again with the next request. A process that is not a worker
(a shell, a test, eager mode) continues by itself: without Redis it has no workers to share with.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import structlog
from django.conf import settings

from exchanges import clock
from exchanges.errors import NotSent
from exchanges.limits import book_memory, counters
from exchanges.limits import redis as shared
from exchanges.limits.book_memory import Memory
from exchanges.limits.breaker import PREFIX, breaker_key
from exchanges.types import CallKind

log = structlog.get_logger(__name__)

DEFAULT_WEIGHT_PER_MINUTE = 6000
DEFAULT_STOP_SECONDS = 30.0
WAF_STOP_SECONDS = 60.0
TOO_MANY_REQUESTS = -1003
TOO_MANY_ORDERS = -1015  # counted per account: other calls continue
LOCAL_REQUESTS_PER_SECOND = 5
LOCAL_WEIGHT = 4  # of a status query


class Priority(StrEnum):
    """The purpose of a request, in the order of importance."""

    CANCEL = "cancel"
    STATUS = "status"
    NEW = "new"
    HISTORY = "history"


# The share of the budget, in percent, up to which requests of each priority may leave.
SHARES: Mapping[Priority, int] = {
    Priority.CANCEL: 100,
    Priority.STATUS: 96,
    Priority.NEW: 93,
    Priority.HISTORY: 85,
}


@dataclass(frozen=True, slots=True)
class Request:
    """One request that is about to leave.

    `host` is the exchange's address, `weight` the documented cost of the request if it fails.
    """

    host: str
    account: str
    kind: CallKind
    priority: Priority
    weight: int

    @property
    def costs_only_if_it_fails(self) -> bool:
        """Return whether success costs nothing: placements and cancels, by the rule of 2026-04."""
        return self.kind is not CallKind.READ


@dataclass(frozen=True, slots=True)
class Response:
    """The facts about limits in the response to a request.

    `failed`: True for infrastructure trouble, False for a sound response (a refusal included), None
    if the exchange was not reached. `used_weight` and `order_counts` (by the window's seconds) are
    the exchange's own counts, if it sent them.
    """

    failed: bool | None
    succeeded: bool
    status: int | None = None
    code: int | None = None
    retry_after: float | None = None
    used_weight: int = 0
    order_counts: Mapping[int, int] | None = None

    @property
    def stop_ms(self) -> int:
        """Return the milliseconds for which the exchange wants no more requests."""
        if self.status in (418, 429) or self.code in (TOO_MANY_REQUESTS, TOO_MANY_ORDERS):
            return int((self.retry_after or DEFAULT_STOP_SECONDS) * 1000)
        if self.status == 403:
            return int((self.retry_after or WAF_STOP_SECONDS) * 1000)
        return 0


@dataclass(frozen=True, slots=True)
class OrderLimit:
    """At most `limit` unfilled orders in `seconds`, as in exchangeInfo's `rateLimits`."""

    seconds: int
    limit: int


@dataclass(frozen=True, slots=True)
class Budget:
    """Sizes of the shared budgets of one exchange address."""

    weight_per_minute: int = DEFAULT_WEIGHT_PER_MINUTE
    orders: tuple[OrderLimit, ...] = ()


_SECONDS = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86_400}


def read_budget(rate_limits: Sequence[Mapping[str, Any]]) -> Budget:
    """Read exchangeInfo's `rateLimits`. Keep defaults, ignore rows that aren't understood."""
    weight = DEFAULT_WEIGHT_PER_MINUTE
    orders: list[OrderLimit] = []
    for row in rate_limits:
        number, limit = row.get("intervalNum"), row.get("limit")
        if type(number) is not int or type(limit) is not int:
            continue
        seconds = _SECONDS.get(str(row.get("interval")), 0) * number
        if seconds <= 0 or limit <= 0:
            continue
        if row.get("rateLimitType") == "REQUEST_WEIGHT":
            weight = limit * 60 // seconds or weight
        elif row.get("rateLimitType") == "ORDERS":
            orders.append(OrderLimit(seconds, limit))
    return Budget(weight, tuple(orders))


# -- Before a request and after it -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to send one request, which is counted already.

    `is_probe` marks the one request that tests, for a breaker, whether the exchange is back.
    `counted_in` are the keys of the order counts that it was added to. `memory` comes with the
    permit for a placement.
    """

    request: Request
    budget: Budget
    is_probe: bool = False
    counted_in: tuple[str, ...] = ()
    memory: Memory | None = None


def acquire(request: Request, budget: Budget) -> bool:
    """Acquire a permit as `acquire_permit` does. Return `is_probe`."""
    return acquire_permit(request, budget).is_probe


def acquire_permit(request: Request, budget: Budget) -> Permit:
    """Permit the request and count it, or raise `NotSent` with the seconds to wait."""
    keys = _keys(request, budget, clock.now_ms())
    is_placement = request.kind is CallKind.PLACE
    book = book_memory.redis_keys() if is_placement and not book_memory.is_private() else []
    ask = {
        "keys": keys.names,
        "weight": request.weight,
        "weight_now": 0 if request.costs_only_if_it_fails else request.weight,
        "ceiling": budget.weight_per_minute * SHARES[request.priority] // 100,
        "minute_left_ms": keys.minute_left_ms,
        "probe_ms": settings.EXCHANGE_REQUEST_TIMEOUT_MS + 1000,
        "known_stop_ms": _known_stop_ms(keys.stop),
        "known_stop_of_kind_ms": _known_stop_ms(keys.stop_of_kind),
        "orders": [
            {"key": window.key, "limit": window.limit.limit, "left_ms": window.left_ms}
            for window in keys.orders
        ],
        "book": book,
    }
    try:
        wait_ms, why, *acquired = shared.run("acquire", [*keys.all, *book], ask)
    except shared.RedisAway:
        _acquire_alone(request, keys)
        return Permit(request, budget, is_probe=True, memory=book_memory.own_copy())
    if wait_ms > 0:
        if acquired:
            _remember_stop(keys.stop, acquired[0])
            _remember_stop(keys.stop_of_kind, acquired[1])
        raise NotSent(why, retry_after=wait_ms / 1000)
    is_probe, counts, token, claims = acquired
    if len(_known_counts) > _MOST_KNOWN:
        _known_counts.clear()
    # The counts may be lower than before, because Redis may forget them.
    _known_counts.update(zip(keys.counts, counts, strict=True))
    return Permit(
        request,
        budget,
        is_probe=bool(is_probe),
        counted_in=tuple(window.key for window in keys.orders),
        memory=book_memory.copy_of(token, claims) if book else book_memory.own_copy(),
    )


def give_back(permit: Permit) -> None:
    """Take back the count of a request that did not leave, and free the breaker's probe.

    Never raise. While Redis is away, the count stays until its window ends.
    """
    breaker = breaker_key(permit.request.account, permit.request.kind) if permit.is_probe else ""
    if not breaker and not permit.counted_in:
        return
    for key in permit.counted_in:
        _known_counts.pop(key, None)
    with suppress(shared.RedisAway):
        shared.run(
            "give_back",
            [*permit.counted_in, *([breaker] if breaker else [])],
            {"orders": permit.counted_in, "breaker": breaker},
        )


def record_response(
    request: Request,
    budget: Budget,
    response: Response,
    *,
    is_probe: bool = True,
    counter: str = "",
) -> None:
    """Record the response to a request that left, and add one to `counter`. Never raise.

    A sound response that says nothing new is not sent to Redis: that saves a message for almost
    every order.
    """
    keys = _keys(request, budget, clock.now_ms())
    reported = response.order_counts or {}
    order_counts = [reported.get(window.limit.seconds, 0) for window in keys.orders]
    spent = request.weight if request.costs_only_if_it_fails and not response.succeeded else 0
    stop_ms = response.stop_ms
    is_sound = response.failed is False and not is_probe and not spent and not stop_ms
    if is_sound and not _exceed_known_counts(keys, response.used_weight, order_counts):
        if counter:
            counters.count_soon(counter)
        return
    is_of_one_kind = response.code == TOO_MANY_ORDERS
    if stop_ms > 0:
        _remember_stop(keys.stop_of_kind if is_of_one_kind else keys.stop, stop_ms)
    told = {
        "keys": {**keys.names, "counters": counters.KEY},
        "stop_ms": 0 if is_of_one_kind else stop_ms,
        "stop_of_kind_ms": stop_ms if is_of_one_kind else 0,
        "spent": spent,
        "used_weight": response.used_weight,
        "orders": [
            {"key": window.key, "count": count}
            for window, count in zip(keys.orders, order_counts, strict=True)
        ],
        "outcome": {True: "failed", False: "sound", None: "none"}[response.failed],
        "breaker": {
            "failures": settings.BREAKER_FAILURES,
            "window_ms": int(settings.BREAKER_WINDOW_SECONDS * 1000),
            "open_ms": int(settings.BREAKER_OPEN_SECONDS * 1000),
        },
        "counter": counter,
    }
    try:
        changed = shared.run("record_response", [*keys.all, counters.KEY], told)
    except shared.RedisAway:
        return
    if changed:
        event = "breaker_opened" if changed == "opened" else "breaker_closed"
        log.warning(event, account=request.account, kind=str(request.kind))


# The shared counts as the last `acquire` saw them. A key belongs to one window of time.
_known_counts: dict[str, int] = {}
_MOST_KNOWN = 256


def _exceed_known_counts(keys: _Keys, used_weight: int, order_counts: Sequence[int]) -> bool:
    return used_weight > _known_counts.get(keys.weight, 0) or any(
        count > _known_counts.get(window.key, 0)
        for window, count in zip(keys.orders, order_counts, strict=True)
    )


# -- Keys ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _OrderWindow:
    key: str
    limit: OrderLimit
    left_ms: int


@dataclass(frozen=True, slots=True)
class _Keys:
    """The Redis keys that a request concerns, at one moment."""

    stop: str
    stop_of_kind: str
    weight: str
    breaker: str
    minute_left_ms: int
    orders: tuple[_OrderWindow, ...]

    @property
    def names(self) -> dict[str, str]:
        return {
            "stop": self.stop,
            "stop_of_kind": self.stop_of_kind,
            "weight": self.weight,
            "breaker": self.breaker,
        }

    @property
    def counts(self) -> list[str]:
        """Return the keys of the counts: of weight, and of each order limit."""
        return [self.weight, *(window.key for window in self.orders)]

    @property
    def all(self) -> list[str]:
        return [*self.names.values(), *(window.key for window in self.orders)]


def _keys(request: Request, budget: Budget, now_ms: int) -> _Keys:
    host, account = request.host, request.account
    limits = budget.orders if request.kind is CallKind.PLACE else ()
    return _Keys(
        stop=f"{PREFIX}:stop:{host}",
        stop_of_kind=f"{PREFIX}:stop:{host}:{account}:{request.kind}",
        weight=f"{PREFIX}:weight:{host}:{now_ms // 60_000}",
        breaker=breaker_key(account, request.kind),
        minute_left_ms=60_000 - now_ms % 60_000,
        orders=tuple(_window(account, limit, now_ms) for limit in limits),
    )


def _window(account: str, limit: OrderLimit, now_ms: int) -> _OrderWindow:
    number, passed_ms = divmod(now_ms, limit.seconds * 1000)
    key = f"{PREFIX}:orders:{account}:{limit.seconds}:{number}"
    return _OrderWindow(key, limit, limit.seconds * 1000 - passed_ms)


# -- Without Redis ---------------------------------------------------------------------------------

# By key, until when the exchange wants no request, as far as this process knows. It holds while
# Redis is away, and is stored again in a Redis that has forgotten it.
_stops: dict[str, float] = {}
_alone_lock = threading.Lock()
_alone_second: tuple[int, int] = (0, 0)


def _remember_stop(key: str, stop_ms: int) -> None:
    if stop_ms > 0:
        _stops[key] = max(_stops.get(key, 0.0), clock.monotonic() + stop_ms / 1000)


def _known_stop_ms(key: str) -> int:
    """Return the milliseconds that are left of a stop that this process knows of."""
    left = _stops.get(key, 0.0) - clock.monotonic()
    if left <= 0:
        _stops.pop(key, None)
        return 0
    return int(left * 1000)


def _acquire_alone(request: Request, keys: _Keys) -> None:
    """Decide without Redis, under a small limit of this process's own."""
    left = max(_stops.get(key, 0.0) for key in (keys.stop, keys.stop_of_kind)) - clock.monotonic()
    if left > 0:
        raise NotSent("stopped by the exchange", retry_after=left)
    if not shared.is_required():
        return
    # Single queries only: five lists of all open orders a second would use up the address's budget.
    is_urgent = request.priority in (Priority.CANCEL, Priority.STATUS)
    if not is_urgent or request.weight > LOCAL_WEIGHT:
        raise NotSent(
            "the shared limits can't be read (Redis is away)", retry_after=shared.PAUSE_SECONDS
        )
    global _alone_second
    with _alone_lock:
        second = int(clock.monotonic())
        known, count = _alone_second
        count = count + 1 if known == second else 1
        _alone_second = (second, count)
    if count > LOCAL_REQUESTS_PER_SECOND:
        raise NotSent("the local limit is used up (Redis is away)", retry_after=1.0)
