"""Celery tasks that read from the exchange. All are safe to repeat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from celery import shared_task
from django.conf import settings

from exchanges import market_view, trading_state
from exchanges.db.duty_runs import stamp_run
from exchanges.duties import enqueue_each, queue_duty
from exchanges.errors import GatewayError
from exchanges.mirror import api_keys, balances, instruments
from exchanges.mirror.environments import one_of_each_environment
from exchanges.models import Environment, ExchangeAccount

# How often beat enqueues the reading of all environments.
INSTRUMENTS_SECONDS = 3600.0
KEYS_SECONDS = 3600.0

# An exchange that doesn't answer is reported without a traceback: the beat repeats these.
_READS: dict[str, Any] = {"throws": (GatewayError,)}


@shared_task(name=trading_state.KEY_CHECK)
def check_key(account: str) -> dict[str, Any]:
    """Return why the account's key isn't safe, or why that can't be known."""
    try:
        owner = ExchangeAccount.objects.get(name=account)
        return {"problems": trading_state.key_problems(owner), "error": ""}
    except GatewayError as error:
        return {"problems": [], "error": error.message}


@shared_task(name="exchanges.read_key", **_READS)
def read_key(account: str) -> None:
    """Store when the account's API key was made and when it expires."""
    api_keys.read_key(ExchangeAccount.objects.get(name=account))


@shared_task(name="exchanges.read_keys")
def read_keys() -> dict[str, int]:
    """Enqueue one reading for each account. A testnet knows no times of keys."""
    rows = ExchangeAccount.objects.filter(is_enabled=True)
    names = list(rows.exclude(environment=Environment.TESTNET).values_list("name", flat=True))
    return {"accounts": enqueue_each(read_key, names, every=KEYS_SECONDS)}


@shared_task(name=market_view.READ_CANDLES)
def read_candles(account: str, symbol: str, start: str, end: str) -> dict[str, Any]:
    """Return the market's candles for a process without keys, or why they can't be read."""
    owner = ExchangeAccount.objects.get(name=account)
    return market_view.answer_of(owner, symbol, start, end)


@shared_task(name="exchanges.heartbeat")
def heartbeat(queue: str) -> None:
    """Store that a worker consumes this queue, and touch `HEARTBEAT_FILE` for a health check."""
    stamp_run(queue_duty(queue))
    if settings.HEARTBEAT_FILE:
        Path(settings.HEARTBEAT_FILE).touch()


@shared_task(name="exchanges.sync_instruments", **_READS)
def sync_instruments(account: str) -> dict[str, int]:
    """Store exchangeInfo for the account's environment, through any account that gets it."""
    return instruments.sync_instruments_by_any(ExchangeAccount.objects.get(name=account))


@shared_task(name="exchanges.sync_balances", **_READS)
def sync_balances(account: str) -> dict[str, int]:
    """Store every balance of the account."""
    return balances.sync_balances(ExchangeAccount.objects.get(name=account))


@shared_task(name="exchanges.sync_all_instruments")
def sync_all_instruments() -> dict[str, int]:
    """Enqueue one task per environment in use.

    All accounts of an environment have the same instruments.
    """
    names = one_of_each_environment()
    return {"environments": enqueue_each(sync_instruments, names, every=INSTRUMENTS_SECONDS)}
