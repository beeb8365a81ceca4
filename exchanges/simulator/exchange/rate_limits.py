"""Limit request weight, raw requests and connection attempts, and ban addresses.

Windows are fixed and follow the clock: a minute starts at :00, ten seconds start at :00, :10 and so
on, a day starts at 00:00 UTC. Weight, raw requests, connection attempts and bans belong to an IP
address and are counted here. Unfilled orders belong to an account, so the engine counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from exchanges.simulator.engine.types import OrderLimit
from exchanges.simulator.errors import ApiError

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
MAX_BAN_US = 3 * 24 * 60 * MINUTE_US


@dataclass(slots=True)
class LimitSettings:
    """Configure all limits.

    After `ban_after` refused requests in a row, a 429 becomes a ban.
    """

    request_weight: int = 6_000
    raw_requests: int = 300_000
    ws_connections: int = 300
    ws_messages_per_second: int = 0
    ws_subscriptions: int = 1_000
    ban_after: int = 20
    first_ban_seconds: float = 120.0

    def describe(self, orders: Iterable[OrderLimit], api: str) -> list[dict[str, Any]]:
        """Return the `rateLimits` of exchangeInfo.

        Raw requests belong to REST, connections to the WebSocket API.
        """
        return [
            _row("REQUEST_WEIGHT", "MINUTE", 1, self.request_weight),
            *(
                _row("ORDERS", limit.interval, limit.interval_num, limit.limit)
                for limit in orders
                if limit.limit
            ),
            _row("RAW_REQUESTS", "MINUTE", 5, self.raw_requests)
            if api == "rest"
            else _row("CONNECTIONS", "MINUTE", 5, self.ws_connections),
        ]


def _row(kind: str, interval: str, number: int, limit: int) -> dict[str, Any]:
    return {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit}


class Window:
    """Count within one interval of the clock, and start at zero in the next one."""

    __slots__ = ("count", "interval_us", "period")

    def __init__(self, interval_us: int) -> None:
        self.interval_us = interval_us
        self.period = -1
        self.count = 0

    def at(self, now_us: int) -> int:
        period = now_us // self.interval_us
        if period != self.period:
            self.period = period
            self.count = 0
        return self.count

    def add(self, now_us: int, amount: int) -> int:
        self.at(now_us)
        self.count = max(0, self.count + amount)
        return self.count

    def ends_in_us(self, now_us: int) -> int:
        return self.interval_us - now_us % self.interval_us


class IpUsage:
    """Count the requests of one IP address and remember its ban."""

    __slots__ = ("banned_until_us", "bans", "connections", "raw", "refused", "weight")

    def __init__(self) -> None:
        self.weight = Window(MINUTE_US)
        self.raw = Window(5 * MINUTE_US)
        self.connections = Window(5 * MINUTE_US)
        self.refused = 0
        self.bans = 0
        self.banned_until_us = 0


class Limiter:
    """Count requests and refuse those over a limit. `settings` may change at any time."""

    def __init__(
        self,
        settings: LimitSettings | None = None,
        on_ban: Callable[[str], None] = lambda _ip: None,
    ) -> None:
        self.settings = settings or LimitSettings()
        self._on_ban = on_ban
        self.ips: dict[str, IpUsage] = {}

    def usage(self, ip: str) -> IpUsage:
        usage = self.ips.get(ip)
        if usage is None:
            usage = self.ips[ip] = IpUsage()
        return usage

    def admit(self, ip: str, weight: int, now_us: int) -> IpUsage:
        """Count a request. Raise 429 over a limit and 418 during a ban."""
        usage = self.usage(ip)
        if usage.banned_until_us > now_us:
            self._refuse(ip, usage, now_us)
            raise banned(usage.banned_until_us, now_us)
        settings = self.settings
        if usage.raw.add(now_us, 1) > settings.raw_requests:
            self._refuse(ip, usage, now_us)
            raise _too_many(
                f"{settings.raw_requests} raw requests per 5 MINUTE", usage.raw, usage, now_us
            )
        if usage.weight.add(now_us, weight) > settings.request_weight:
            self._refuse(ip, usage, now_us)
            raise _too_many(
                f"{settings.request_weight} request weight per 1 MINUTE",
                usage.weight,
                usage,
                now_us,
            )
        usage.refused = 0
        return usage

    def admit_connection(self, ip: str, now_us: int) -> None:
        """Count a WebSocket connection attempt.

        It costs 2 weight, and the number per five minutes is limited.
        """
        usage = self.admit(ip, 2, now_us)
        limit = self.settings.ws_connections
        if usage.connections.add(now_us, 1) > limit:
            raise ApiError(
                -1034,
                f"Too many connection attempts from IP; current limit is {limit} per '5 MINUTE'.",
                status=429,
                retry_after_ms=now_us // 1000 + usage.connections.ends_in_us(now_us) // 1000,
            )

    def _refuse(self, ip: str, usage: IpUsage, now_us: int) -> None:
        """Count a refused request.

        A client that ignores 429 is banned, each time for twice as long, up to three days.
        """
        usage.refused += 1
        if usage.refused < self.settings.ban_after:
            return
        usage.refused = 0
        length_us = min(
            int(self.settings.first_ban_seconds * SECOND_US) << min(usage.bans, 20), MAX_BAN_US
        )
        usage.bans += 1
        usage.banned_until_us = max(usage.banned_until_us, now_us + length_us)
        self._on_ban(ip)

    def weight_row(self, ip: str, now_us: int) -> dict[str, Any]:
        row = _row("REQUEST_WEIGHT", "MINUTE", 1, self.settings.request_weight)
        return {**row, "count": self.usage(ip).weight.at(now_us)}

    def reset(self) -> None:
        self.ips.clear()


def banned(until_us: int, now_us: int) -> ApiError:
    until_ms = until_us // 1000
    return ApiError(
        -1003,
        f"Way too much request weight used; IP banned until {until_ms}. "
        "Please use WebSocket Streams for live updates to avoid bans.",
        status=418,
        retry_after_ms=until_ms,
        data={"serverTime": now_us // 1000, "retryAfter": until_ms},
    )


def too_much_weight(limit: str, retry_after_ms: int, now_us: int) -> ApiError:
    return ApiError(
        -1003,
        f"Too much request weight used; current limit is {limit}. "
        "Please use WebSocket Streams for live updates to avoid polling the API.",
        status=429,
        retry_after_ms=retry_after_ms,
        data={"serverTime": now_us // 1000, "retryAfter": retry_after_ms},
    )


def _too_many(limit: str, window: Window, usage: IpUsage, now_us: int) -> ApiError:
    if usage.banned_until_us > now_us:
        return banned(usage.banned_until_us, now_us)
    return too_much_weight(limit, (now_us + window.ends_in_us(now_us)) // 1000, now_us)


def order_rows(counts: Mapping[OrderLimit, int]) -> list[dict[str, Any]]:
    """Return unfilled order counts as rateLimit/order and the WebSocket API show them."""
    return [
        {**_row("ORDERS", limit.interval, limit.interval_num, limit.limit), "count": count}
        for limit, count in counts.items()
    ]


def too_many_orders(limit: OrderLimit, now_us: int) -> ApiError:
    retry_ms = (now_us + limit.microseconds - now_us % limit.microseconds) // 1000
    return ApiError(
        -1015,
        f"Too many new orders; current limit is {limit.limit} orders "
        f"per {limit.interval_num} {limit.interval}.",
        status=429,
        retry_after_ms=retry_ms,
        data={"serverTime": now_us // 1000, "retryAfter": retry_ms},
    )
