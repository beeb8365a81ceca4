"""Read the shared limits of several accounts at once, for people who look at them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from exchanges import clock
from exchanges.credentials import Account, read_hosts
from exchanges.errors import AccountError
from exchanges.limits.breaker import PREFIX, breaker_key
from exchanges.limits.redis import client
from exchanges.limits.sizes import budget_of
from exchanges.types import CallKind


@dataclass(frozen=True, slots=True)
class LimitState:
    """The breakers of an account by kind of call, and the weight of its address this minute.

    `weight_used` is None if the account has no host.
    """

    breakers: dict[str, str] = field(default_factory=dict)
    weight_used: int | None = None
    weight_limit: int = 0
    is_stopped: bool = False


def read_limit_states(accounts: Iterable[Account]) -> dict[str, LimitState] | None:
    """Return the state of each account by its name, with one message to Redis. None: it is away."""
    wanted = {account.name: (account, _host(account)) for account in accounts}
    try:
        pipeline = client().pipeline(transaction=False)
        for name, (_account, host) in wanted.items():
            for kind in CallKind:
                pipeline.hgetall(breaker_key(name, kind))
            pipeline.get(f"{PREFIX}:weight:{host}:{clock.now_ms() // 60_000}")
            pipeline.exists(f"{PREFIX}:stop:{host}")
        answers = iter(pipeline.execute() if wanted else ())
    except Exception:  # noqa: BLE001  a page that shows the state must not fail because of it
        return None
    states = {}
    for name, (account, host) in wanted.items():
        breakers = {str(kind): _breaker(next(answers)) for kind in CallKind}
        weight, is_stopped = next(answers), bool(next(answers))
        used = int(weight or 0) if host else None
        states[name] = LimitState(breakers, used, budget_of(account).weight_per_minute, is_stopped)
    return states


def _breaker(stored: dict[str, str]) -> str:
    if forced := stored.get("forced"):
        return f"forced {forced}"
    return "open" if stored.get("open") else "closed"


def _host(account: Account) -> str:
    try:
        return read_hosts(account).rest_url
    except AccountError:
        return ""
