"""Bad configuration as findings of `manage.py check`, each with what to do about it.

Findings about accounts read the database and ask Redis: `manage.py check` and `migrate` show them. They never hold
a key; `exchanges.credentials` names variables only.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register  # noqa: A004
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections

from exchanges import limits
from exchanges.credentials import read_credentials, read_hosts, variable
from exchanges.errors import AccountError
from exchanges.models import Environment, ExchangeAccount

LONGEST_RECV_WINDOW_MS = 60_000
ADVISED_RECV_WINDOW_MS = 5_000
LIVE_HOST = "binance.com"
TEST_HOSTS = ("demo-api.binance.com", "demo-ws-api.binance.com")


@register(Tags.security)
def check_secret_key(app_configs: object, **kwargs: Any) -> list[CheckMessage]:
    try:
        known = bool(settings.SECRET_KEY)
    except ImproperlyConfigured:
        known = False
    if known:
        return []
    return [
        Error(
            "SECRET_KEY is empty.",
            hint="Put a long random text into SECRET_KEY, or set DEBUG=1 on a machine that is only for trying out.",
            id="exchanges.E001",
        )
    ]


@register()
def check_timing(app_configs: object, **kwargs: Any) -> list[CheckMessage]:
    """Settings that contradict the exchange's rules or each other."""
    found: list[CheckMessage] = []
    recv_window_ms = settings.EXCHANGE_RECV_WINDOW_MS
    if not 0 < recv_window_ms <= LONGEST_RECV_WINDOW_MS:
        found.append(
            Error(
                f"EXCHANGE_RECV_WINDOW_MS is {recv_window_ms}; the exchange refuses every request outside 1 to 60000.",
                hint="5000 is its own advice.",
                id="exchanges.E002",
            )
        )
    elif recv_window_ms > ADVISED_RECV_WINDOW_MS:
        found.append(
            Warning(
                f"EXCHANGE_RECV_WINDOW_MS is {recv_window_ms}: a request that was held up is executed that much later.",
                hint="The exchange advises 5000 or less.",
                id="exchanges.W003",
            )
        )
    if settings.EXCHANGE_REQUEST_TIMEOUT_MS <= settings.EXCHANGE_ENGINE_TIMEOUT_MS:
        found.append(
            Warning(
                "EXCHANGE_REQUEST_TIMEOUT_MS is not longer than EXCHANGE_ENGINE_TIMEOUT_MS: "
                "answers that are on their way are given up, and their orders have to be resolved.",
                hint="12000 and 10000 are the defaults.",
                id="exchanges.W004",
            )
        )
    longest_interval = max(settings.SYNC_INTERVAL_SECONDS, settings.SYNC_INTERVAL_STREAMING_SECONDS)
    if longest_interval >= settings.MAX_UNSYNCED_SECONDS:
        found.append(
            Warning(
                "MAX_UNSYNCED_SECONDS is not longer than the sync interval: orders wait for a sync again and again.",
                hint="Make it at least twice SYNC_INTERVAL_STREAMING_SECONDS.",
                id="exchanges.W005",
            )
        )
    if settings.PLACE_WITHIN_SECONDS <= 0:
        found.append(
            Error(
                f"PLACE_WITHIN_SECONDS is {settings.PLACE_WITHIN_SECONDS}: every order is late when it is recorded.",
                hint="30 is the default.",
                id="exchanges.E006",
            )
        )
    return found


@register(Tags.database)
def check_accounts(app_configs: object, databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Accounts whose keys and hosts are missing, shared, or lead somewhere else than they say."""
    if "default" not in (databases or ()):
        return []
    try:
        accounts = list(ExchangeAccount.objects.filter(is_enabled=True).only("name", "environment"))
    except DatabaseError:
        return []  # not migrated yet, or not to be reached: others say so
    found: list[CheckMessage] = []
    for account in accounts:
        found += _check_credentials(account)
        found += _check_hosts(account)
        found += _check_live(account) if account.environment == Environment.LIVE else []
    found += _check_shared_keys(accounts)
    return found + (_check_redis() if accounts else [])


def _check_credentials(account: ExchangeAccount) -> list[CheckMessage]:
    try:
        read_credentials(account)
    except AccountError as error:
        return [
            Warning(
                f"Account {account.name}: {error.message}.",
                hint="Set the variable for every process, or disable the account; .env.example lists them.",
                id="exchanges.W010",
            )
        ]
    return []


def _check_hosts(account: ExchangeAccount) -> list[CheckMessage]:
    """A test account must not lead to the live exchange, and a live key not over a readable connection."""
    found: list[CheckMessage] = []
    for suffix, url in _addresses(account):
        name, parts = variable(account, suffix), urlsplit(url)
        if account.environment != Environment.LIVE and _is_live_host(parts.hostname or ""):
            found.append(
                Error(
                    f"Account {account.name} is for {account.environment}, but {name} leads to the live exchange.",
                    hint="Remove the variable, or make an account of the environment live.",
                    id="exchanges.E011",
                )
            )
        if account.environment == Environment.LIVE and parts.scheme in ("http", "ws"):
            found.append(
                Error(
                    f"Account {account.name} is live, but {name} is not encrypted.",
                    hint="Use https and wss, or make an account of the environment simulator.",
                    id="exchanges.E012",
                )
            )
    return found


def _addresses(account: ExchangeAccount) -> Iterable[tuple[str, str]]:
    try:
        hosts = read_hosts(account)
    except AccountError:
        return ()  # W010 says so
    return (("REST_URL", hosts.rest_url), ("WS_URL", hosts.ws_url))


def _is_live_host(host: str) -> bool:
    return (host == LIVE_HOST or host.endswith("." + LIVE_HOST)) and host not in TEST_HOSTS


def _check_live(account: ExchangeAccount) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    if settings.DEBUG:
        found.append(
            Error(
                f"Account {account.name} is live, and DEBUG is on: its pages show tracebacks with settings.",
                hint="Set DEBUG=0.",
                id="exchanges.E013",
            )
        )
    if connections["default"].vendor == "sqlite":
        found.append(
            Error(
                f"Account {account.name} is live on an SQLite database, which one machine alone can use.",
                hint="Set DATABASE_URL to a PostgreSQL database.",
                id="exchanges.E014",
            )
        )
    return found


def _check_shared_keys(accounts: Iterable[ExchangeAccount]) -> list[CheckMessage]:
    """Two accounts with one key are one account at the exchange: each would take the other's orders for strangers'."""
    names: dict[str, list[str]] = defaultdict(list)
    for account in accounts:
        if key := os.environ.get(variable(account, "API_KEY"), "").strip():
            names[key].append(account.name)
    return [
        Error(
            f"Accounts {', '.join(sharing)} have the same API key.",
            hint="Give each account a key of its own, or disable all but one of them.",
            id="exchanges.E015",
        )
        for sharing in names.values()
        if len(sharing) > 1
    ]


def _check_redis() -> list[CheckMessage]:
    """Messages, shared limits and a breaker held by hand live there."""
    keeping = limits.redis_keeping()
    if keeping is None:
        return [
            Warning(
                "REDIS_URL: Redis does not answer. Workers place nothing without it.",
                hint="Start it, or correct REDIS_URL.",
                id="exchanges.W018",
            )
        ]
    found: list[CheckMessage] = []
    if keeping.eviction_policy not in (None, "noeviction"):
        found.append(
            Warning(
                f"REDIS_URL: Redis may evict what it holds (maxmemory-policy {keeping.eviction_policy}): "
                "messages, and the exchange's order to stop.",
                hint="Set maxmemory-policy to noeviction.",
                id="exchanges.W016",
            )
        )
    if keeping.persists is False:
        found.append(
            Warning(
                "REDIS_URL: Redis keeps nothing on disk: a restart loses messages, and the exchange's order to stop.",
                hint="Set appendonly to yes.",
                id="exchanges.W017",
            )
        )
    return found
