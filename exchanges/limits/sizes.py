"""Store and read the sizes of the exchange's limits, as the last exchangeInfo gave them."""

from __future__ import annotations

from typing import Any

from django.db import DatabaseError

from exchanges import clock
from exchanges.credentials import Account
from exchanges.limits.budget import Budget, read_budget
from exchanges.models import RateLimits

_KEEP_SECONDS = 60.0

_known: dict[tuple[str, str], tuple[float, Budget]] = {}


def budget_of(account: Account) -> Budget:
    """Return the budget of the account's exchange and environment.

    It is the documented default until the first exchangeInfo is stored.
    """
    key = (account.exchange, account.environment)
    found = _known.get(key)
    if found is not None and clock.monotonic() - found[0] < _KEEP_SECONDS:
        return found[1]
    budget = read_budget(_stored(*key))
    _known[key] = (clock.monotonic(), budget)
    return budget


def store_rate_limits(account: Account, rate_limits: list[dict[str, Any]]) -> None:
    """Store exchangeInfo's `rateLimits` for every process."""
    RateLimits.objects.update_or_create(
        exchange=account.exchange,
        environment=account.environment,
        defaults={"rate_limits": rate_limits, "updated_at": clock.now()},
    )
    _known.pop((account.exchange, account.environment), None)


def _stored(exchange: str, environment: str) -> list[dict[str, Any]]:
    try:
        row = RateLimits.objects.filter(exchange=exchange, environment=environment).first()
    except DatabaseError:
        return []
    return row.rate_limits if row is not None else []
