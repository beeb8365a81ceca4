"""Celery tasks that read the outside world. All are safe to repeat."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from exchanges import services
from exchanges.errors import GatewayError
from exchanges.models import ExchangeAccount

_READS: dict[str, Any] = {
    "autoretry_for": (GatewayError,),
    "retry_backoff": 2,
    "retry_backoff_max": 60,
    "retry_jitter": True,
    "max_retries": 4,
}


@shared_task(name="exchanges.sync_instruments", **_READS)
def sync_instruments(account: str) -> dict[str, int]:
    """Store exchangeInfo for the account's environment."""
    return services.sync_instruments(ExchangeAccount.objects.get(name=account))


@shared_task(name="exchanges.sync_balances", **_READS)
def sync_balances(account: str) -> dict[str, int]:
    """Store every balance of the account."""
    return services.sync_balances(ExchangeAccount.objects.get(name=account))


@shared_task(name="exchanges.sync_all_instruments")
def sync_all_instruments() -> dict[str, int]:
    """One task for each environment in use: its instruments are the same for all of its accounts."""
    chosen: dict[tuple[str, str], str] = {}
    for account in ExchangeAccount.objects.filter(is_enabled=True):
        chosen.setdefault((account.exchange, account.environment), account.name)
    for name in chosen.values():
        sync_instruments.apply_async((name,), expires=3600)
    return {"environments": len(chosen)}
