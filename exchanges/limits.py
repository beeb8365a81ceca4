"""The exchange's patience, shared: one weight budget per address, one order budget per account, one breaker per account
and kind of call, for all processes together, in Redis.

Before a request leaves, `admit` asks one Lua script; after it, `note` tells another what is new. Who may not go now
gets `NotSent(retry_after)`; nobody waits in here. Cancels pass before status queries, these before new orders, these
before history: each lane may use the budget up to its own share. The exchange's own counts correct ours upwards, and a
429, a 418 or a WAF page stops the whole address in every process until the exchange's Retry-After.

With Redis away a worker places nothing, and cancels and single queries go on under a small local limit. A stop that the
exchange has told a process itself holds there even so. Else a process that is no worker (a shell, a test, eager mode)
goes on by itself: without Redis there are no workers to share with.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import structlog
from django.conf import settings

from exchanges import clock, metrics
from exchanges.errors import NotSent

if TYPE_CHECKING:
    from redis import Redis

log = structlog.get_logger(__name__)

PREFIX = "backoffice:limits"
TIMEOUT_SECONDS = 0.25
PAUSE_SECONDS = 2.0
DEFAULT_WEIGHT_PER_MINUTE = 6000
DEFAULT_STOP_SECONDS = 30.0
WAF_STOP_SECONDS = 60.0
TOO_MANY_REQUESTS = -1003
TOO_MANY_ORDERS = -1015  # counted per account: other calls go on
LOCAL_REQUESTS_PER_SECOND = 5
LOCAL_WEIGHT = 4  # of a status query


class Lane(StrEnum):
    """What a request is for; its share of the budget in percent is in `SHARES`."""

    CANCEL = "cancel"
    STATUS = "status"
    NEW = "new"
    HISTORY = "history"


SHARES: Mapping[Lane, int] = {Lane.CANCEL: 100, Lane.STATUS: 96, Lane.NEW: 93, Lane.HISTORY: 85}


class Kind(StrEnum):
    """Calls that fail together: each has a breaker of its own."""

    PLACE = "place"
    CANCEL = "cancel"
    READ = "read"


@dataclass(frozen=True, slots=True)
class Passage:
    """One request that wants to leave. `host` is the exchange's address, `weight` its documented cost if it fails."""

    host: str
    account: str
    kind: Kind
    lane: Lane
    weight: int

    @property
    def costs_only_if_it_fails(self) -> bool:
        """A placement or a cancel that succeeds costs nothing, by the exchange's rule since 2026-04."""
        return self.kind is not Kind.READ


@dataclass(frozen=True, slots=True)
class OrderLimit:
    """At most `limit` unfilled orders in `seconds`, as exchangeInfo's `rateLimits` says."""

    seconds: int
    limit: int


@dataclass(frozen=True, slots=True)
class Budget:
    """Sizes of the shared budgets of one exchange address."""

    weight_per_minute: int = DEFAULT_WEIGHT_PER_MINUTE
    orders: tuple[OrderLimit, ...] = ()


_SECONDS = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86_400}


def read_budget(rate_limits: Sequence[Mapping[str, Any]]) -> Budget:
    """exchangeInfo's `rateLimits` -> budgets; what is missing keeps its default, what is unknown is passed over."""
    weight = DEFAULT_WEIGHT_PER_MINUTE
    orders: list[OrderLimit] = []
    for row in rate_limits:
        seconds = _SECONDS.get(str(row.get("interval")), 0) * int(row.get("intervalNum") or 0)
        limit = int(row.get("limit") or 0)
        if seconds <= 0 or limit <= 0:
            continue
        if row.get("rateLimitType") == "REQUEST_WEIGHT":
            weight = limit * 60 // seconds
        elif row.get("rateLimitType") == "ORDERS":
            orders.append(OrderLimit(seconds, limit))
    return Budget(weight, tuple(orders))


# -- the two scripts -----------------------------------------------------------------------------------------------

# KEYS: stop of the address, stop of this kind of call, weight of this minute, breaker; one key for each order limit.
# ARGV: weight, ceiling, milliseconds left in this minute, probe milliseconds, weight to count now; then limit and
# window end for each.
# Answer: {0 or milliseconds to wait, why}, and if it may go: 1 for a probe, then the count of each key from the third
# on but the breaker's.
_ADMIT = """
local stop = math.max(redis.call('PTTL', KEYS[1]), redis.call('PTTL', KEYS[2]))
if stop > 0 then return {stop, 'stopped by the exchange'} end
local state = redis.call('HGET', KEYS[4], 'forced')
if state == 'open' then return {1000, 'breaker held open'} end
local opened = state ~= 'closed' and redis.call('HGET', KEYS[4], 'open')
if opened then
  local left = redis.call('PTTL', KEYS[4] .. ':pause')
  if left > 0 then return {left, 'breaker open'} end
end
local used = tonumber(redis.call('GET', KEYS[3]) or '0')
if used + tonumber(ARGV[1]) > tonumber(ARGV[2]) then return {tonumber(ARGV[3]), 'request weight used up'} end
for i = 5, #KEYS do
  local at = 6 + (i - 5) * 2
  if tonumber(redis.call('GET', KEYS[i]) or '0') + 1 > tonumber(ARGV[at]) then
    return {tonumber(ARGV[at + 1]), 'order limit used up'}
  end
end
-- Last: a request that is held back for another reason would take the one probe with it.
if opened and not redis.call('SET', KEYS[4] .. ':probe', '1', 'NX', 'PX', ARGV[4]) then
  return {1000, 'breaker half-open'}
end
local answer = {0, '', opened and 1 or 0, redis.call('INCRBY', KEYS[3], ARGV[5])}
redis.call('PEXPIRE', KEYS[3], 120000)
for i = 5, #KEYS do
  answer[#answer + 1] = redis.call('INCR', KEYS[i])
  redis.call('PEXPIRE', KEYS[i], tonumber(ARGV[6 + (i - 5) * 2 + 1]) + 60000)
end
return answer
"""

# KEYS: as above, then the hash of the counters.
# ARGV: stop milliseconds, stop milliseconds of this kind, weight to count now, weight the exchange counts (0:
# unknown), failed (1, 0, -1: says nothing), failures allowed, window milliseconds, open milliseconds; then the
# exchange's count for each order limit; last the counter to add one to, if any.
_NOTE = """
for i = 1, 2 do
  local stop = tonumber(ARGV[i])
  if stop > 0 and stop > redis.call('PTTL', KEYS[i]) then redis.call('SET', KEYS[i], '1', 'PX', stop) end
end
local used = redis.call('INCRBY', KEYS[3], ARGV[3])
redis.call('PEXPIRE', KEYS[3], 120000)
if tonumber(ARGV[4]) > used then redis.call('SET', KEYS[3], ARGV[4], 'PX', 120000) end
if ARGV[#ARGV] ~= '' then redis.call('HINCRBY', KEYS[#KEYS], ARGV[#ARGV], 1) end
for i = 5, #KEYS - 1 do
  local counted = tonumber(ARGV[9 + i - 5])
  if counted > tonumber(redis.call('GET', KEYS[i]) or '0') then redis.call('SET', KEYS[i], counted, 'KEEPTTL') end
end
local failed = tonumber(ARGV[5])
if failed == 1 then
  local count = redis.call('INCR', KEYS[4] .. ':failures')
  if count == 1 then redis.call('PEXPIRE', KEYS[4] .. ':failures', ARGV[7]) end
  local probing = redis.call('DEL', KEYS[4] .. ':probe')
  if probing == 1 or count >= tonumber(ARGV[6]) then
    redis.call('HSET', KEYS[4], 'open', '1')
    redis.call('SET', KEYS[4] .. ':pause', '1', 'PX', ARGV[8])
    redis.call('DEL', KEYS[4] .. ':failures')
    return 1
  end
elseif failed == 0 and redis.call('HGET', KEYS[4], 'open') then
  redis.call('HDEL', KEYS[4], 'open')
  redis.call('DEL', KEYS[4] .. ':probe', KEYS[4] .. ':pause', KEYS[4] .. ':failures')
  return 2
end
return 0
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request's answer says about limits.

    `failed`: True for infrastructure trouble, False for a sound answer (a refusal included), None where nothing was
    asked. `used_weight` and `order_counts` (by seconds of the window) are the exchange's own counts, if it sent them.
    """

    failed: bool | None
    succeeded: bool
    status: int | None = None
    code: int | None = None
    retry_after: float | None = None
    used_weight: int = 0
    order_counts: Mapping[int, int] | None = None


def admit(passage: Passage, budget: Budget) -> bool:
    """Let the request leave now, counting it, or raise `NotSent` with the seconds to wait.

    True for the one request by which a breaker finds out whether the exchange is back.
    """
    now_ms = clock.now_ms()
    keys, windows = _keys(passage, budget, now_ms)
    minute_left = 60_000 - now_ms % 60_000
    ceiling = budget.weight_per_minute * SHARES[passage.lane] // 100
    arguments: list[int] = [
        passage.weight,
        ceiling,
        minute_left,
        settings.EXCHANGE_REQUEST_TIMEOUT_MS + 1000,
        0 if passage.costs_only_if_it_fails else passage.weight,
    ]
    for limit, left_ms in windows:
        arguments += [limit.limit, left_ms]
    try:
        wait_ms, why, *admitted = cast("tuple[Any, ...]", _run(_ADMIT, keys, arguments))
    except _RedisAway:
        _admit_alone(passage, keys[:2])
        return True
    if wait_ms > 0:
        raise NotSent(why, retry_after=wait_ms / 1000)
    is_probe, *counts = admitted
    if len(_known_counts) > _MOST_KNOWN:
        _known_counts.clear()
    _known_counts.update(zip(_counted(keys), counts, strict=True))  # may be less than before: Redis may forget
    return bool(is_probe)


def note(passage: Passage, budget: Budget, answer: Answer, *, is_probe: bool = True, counter: str = "") -> None:
    """Tell what came of a request that was admitted, and count it (`metrics.counter`) on the way. Never raises.

    A sound answer that says nothing new is not told: that is one message less for almost every order.
    """
    keys, windows = _keys(passage, budget, clock.now_ms())
    told = answer.order_counts or {}
    counts = [answer.used_weight, *(told.get(limit.seconds, 0) for limit, _ in windows)]
    spent = passage.weight if passage.costs_only_if_it_fails and not answer.succeeded else 0
    is_sound = answer.failed is False and not is_probe and not spent
    stop_ms, of_one_kind = _stop_ms(answer), answer.code == TOO_MANY_ORDERS
    if is_sound and not stop_ms and not _exceed_what_is_known(_counted(keys), counts):
        if counter:
            metrics.count_soon(counter)
        return
    if stop_ms > 0:
        key = keys[of_one_kind]
        _stops[key] = max(_stops.get(key, 0.0), clock.monotonic() + stop_ms / 1000)
    arguments: list[int | str] = [
        0 if of_one_kind else stop_ms,
        stop_ms if of_one_kind else 0,
        spent,
        counts[0],
        -1 if answer.failed is None else int(answer.failed),
        settings.BREAKER_FAILURES,
        int(settings.BREAKER_WINDOW_SECONDS * 1000),
        int(settings.BREAKER_OPEN_SECONDS * 1000),
        *counts[1:],
        counter,
    ]
    try:
        changed = _run(_NOTE, [*keys, metrics.KEY], arguments)
    except _RedisAway:
        return
    if changed:
        log.warning(
            "breaker_opened" if changed == 1 else "breaker_closed", account=passage.account, kind=str(passage.kind)
        )


# By key, what the shared counts were when they were last asked for; a key is of one window of time.
_known_counts: dict[str, int] = {}
_MOST_KNOWN = 256


def _counted(keys: Sequence[str]) -> list[str]:
    """The keys of the counts: of weight, and of each order limit."""
    return [keys[2], *keys[4:]]


def _exceed_what_is_known(keys: Sequence[str], counts: Sequence[int]) -> bool:
    return any(count > _known_counts.get(key, 0) for key, count in zip(keys, counts, strict=True))


def force_breaker(account: str, kind: Kind, state: str | None) -> None:
    """Hold a breaker `open` or `closed` by hand, or let it judge again (None). `NotSent`: Redis is away."""
    key = f"{PREFIX}:breaker:{account}:{kind}"
    redis = _redis(settings.REDIS_URL)
    try:
        if state is None:
            redis.hdel(key, "forced")
        else:
            redis.hset(key, "forced", state)
    except Exception as error:  # noqa: BLE001  whatever the client raises, nothing is known to be changed
        raise NotSent(f"Redis does not answer ({type(error).__name__})", retry_after=PAUSE_SECONDS) from None


def breaker_state(account: str, kind: Kind) -> str:
    """`closed`, `open`, `forced open` or `forced closed`; `unknown` while Redis is away."""
    try:
        stored = _redis(settings.REDIS_URL).hgetall(f"{PREFIX}:breaker:{account}:{kind}")
    except Exception:  # noqa: BLE001  a display may not fail for it
        return "unknown"
    if forced := stored.get("forced"):
        return f"forced {cast('str', forced)}"
    return "open" if stored.get("open") else "closed"


def _stop_ms(answer: Answer) -> int:
    if answer.status in (418, 429) or answer.code in (TOO_MANY_REQUESTS, TOO_MANY_ORDERS):
        return int((answer.retry_after or DEFAULT_STOP_SECONDS) * 1000)
    if answer.status == 403:
        return int((answer.retry_after or WAF_STOP_SECONDS) * 1000)
    return 0


def _keys(passage: Passage, budget: Budget, now_ms: int) -> tuple[list[str], list[tuple[OrderLimit, int]]]:
    keys = [
        f"{PREFIX}:stop:{passage.host}",
        f"{PREFIX}:stop:{passage.host}:{passage.account}:{passage.kind}",
        f"{PREFIX}:weight:{passage.host}:{now_ms // 60_000}",
        f"{PREFIX}:breaker:{passage.account}:{passage.kind}",
    ]
    windows: list[tuple[OrderLimit, int]] = []
    if passage.kind is Kind.PLACE:
        for limit in budget.orders:
            length_ms = limit.seconds * 1000
            keys.append(f"{PREFIX}:orders:{passage.account}:{limit.seconds}:{now_ms // length_ms}")
            windows.append((limit, length_ms - now_ms % length_ms))
    return keys, windows


# -- Redis, and what to do without it ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Keeping:
    """How Redis keeps what it holds. None: it does not tell."""

    eviction_policy: str | None
    persists: bool | None


def redis_keeping() -> Keeping | None:
    """How our Redis keeps its data, for `manage.py check`; None while it is away."""
    redis = _redis(settings.REDIS_URL)
    try:
        told = redis.info("everything")
    except Exception:  # noqa: BLE001  whatever the client raises, it does not answer
        return None
    return Keeping(told.get("maxmemory_policy"), True if int(told.get("aof_enabled", 0)) else _saves_snapshots(redis))


def _saves_snapshots(redis: Redis) -> bool | None:
    try:
        return bool(redis.config_get("save").get("save"))
    except Exception:  # noqa: BLE001  a managed Redis keeps its settings to itself
        return None


class _RedisAway(Exception):
    """Redis did not answer; it is left alone for a moment."""


_away_until = 0.0
_is_worker = False
_alone_lock = threading.Lock()
_alone_second: tuple[int, int] = (0, 0)


def share_strictly() -> None:
    """Called in a worker process: without Redis it cannot know what the others spend, and places nothing."""
    global _is_worker
    _is_worker = True


def _run(script: str, keys: list[str], arguments: Sequence[int | str]) -> Any:
    global _away_until
    if clock.monotonic() < _away_until:
        raise _RedisAway
    try:
        return _script(settings.REDIS_URL, script)(keys=keys, args=arguments)
    except Exception as error:  # noqa: BLE001  whatever the client raises, the way on is the same
        _away_until = clock.monotonic() + PAUSE_SECONDS
        if _is_worker:
            log.warning("limits_redis_away", error=type(error).__name__)
    raise _RedisAway


# What this process was told itself, for the time that Redis is away.
_stops: dict[str, float] = {}


def _admit_alone(passage: Passage, stop_keys: Sequence[str]) -> None:
    left = max(_stops.get(key, 0.0) for key in stop_keys) - clock.monotonic()
    if left > 0:
        raise NotSent("stopped by the exchange", retry_after=left)
    if not _is_worker:
        return
    # Single questions only: five lists of all open orders a second would use the address's budget up by themselves.
    if passage.lane in (Lane.NEW, Lane.HISTORY) or passage.weight > LOCAL_WEIGHT:
        raise NotSent("the shared limits cannot be read (Redis is away)", retry_after=PAUSE_SECONDS)
    global _alone_second
    with _alone_lock:
        second = int(clock.monotonic())
        known, count = _alone_second
        count = count + 1 if known == second else 1
        _alone_second = (second, count)
    if count > LOCAL_REQUESTS_PER_SECOND:
        raise NotSent("the local limit is used up (Redis is away)", retry_after=1.0)


@lru_cache(maxsize=16)
def _script(url: str, text: str) -> Any:
    return _redis(url).register_script(text)


@lru_cache(maxsize=4)
def _redis(url: str) -> Redis:
    # Imported on first use: it costs 0.1 s. The pool is safe across threads and forks.
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
