"""Report bad configuration in `manage.py check`, each finding with the next step.

The checks of accounts read the database and ask Redis: `manage.py check` and `migrate` run them.
They never show a key, only the names of variables.
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
from django.db import DatabaseError

from exchanges.credentials import WrongHost, read_credentials, read_hosts, variable
from exchanges.errors import AccountError
from exchanges.limits import redis as shared
from exchanges.models import Environment, ExchangeAccount

LONGEST_RECV_WINDOW_MS = 60_000
ADVISED_RECV_WINDOW_MS = 5_000


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
            hint="Set SECRET_KEY to a long random text, or DEBUG=on on your own machine.",
            id="exchanges.E001",
        )
    ]


@register()
def check_timing(app_configs: object, **kwargs: Any) -> list[CheckMessage]:
    """Report settings that contradict the exchange's rules or each other."""
    found: list[CheckMessage] = []
    recv_window_ms = settings.EXCHANGE_RECV_WINDOW_MS
    if not 0 < recv_window_ms <= LONGEST_RECV_WINDOW_MS:
        found.append(
            Error(
                f"EXCHANGE_RECV_WINDOW_MS is {recv_window_ms}. The exchange accepts 1 to 60000.",
                hint="Set it to 5000, as the exchange advises.",
                id="exchanges.E002",
            )
        )
    elif recv_window_ms > ADVISED_RECV_WINDOW_MS:
        found.append(
            Warning(
                f"EXCHANGE_RECV_WINDOW_MS is {recv_window_ms}. "
                "A delayed request may run that late.",
                hint="Set it to 5000 or less, as the exchange advises.",
                id="exchanges.W003",
            )
        )
    if settings.EXCHANGE_REQUEST_TIMEOUT_MS <= settings.EXCHANGE_ENGINE_TIMEOUT_MS:
        found.append(
            Warning(
                "EXCHANGE_REQUEST_TIMEOUT_MS must be longer than EXCHANGE_ENGINE_TIMEOUT_MS. "
                "Answers on their way come too late, which leaves their orders unresolved.",
                hint="Use the defaults, 12000 and 10000.",
                id="exchanges.W004",
            )
        )
    longest_interval = max(settings.SYNC_INTERVAL_SECONDS, settings.SYNC_INTERVAL_STREAMING_SECONDS)
    if longest_interval >= settings.MAX_UNSYNCED_SECONDS:
        found.append(
            Warning(
                "MAX_UNSYNCED_SECONDS must be longer than the sync interval. "
                "Otherwise orders wait for syncs.",
                hint="Set it to at least twice SYNC_INTERVAL_STREAMING_SECONDS.",
                id="exchanges.W005",
            )
        )
    if settings.PLACE_WITHIN_SECONDS <= 0:
        found.append(
            Error(
                f"PLACE_WITHIN_SECONDS is {settings.PLACE_WITHIN_SECONDS}. "
                "Every order would be late.",
                hint="Set it to a positive number. The default is 30.",
                id="exchanges.E006",
            )
        )
    return found


@register(Tags.database)
def check_accounts(
    app_configs: object, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Report accounts whose keys or hosts are missing, shared, or of another environment."""
    if "default" not in (databases or ()):
        return []
    try:
        accounts = list(ExchangeAccount.objects.filter(is_enabled=True).only("name", "environment"))
    except DatabaseError:
        return []  # not migrated or not reachable: other checks report it
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
    except WrongHost:
        return []  # E011 reports it
    except AccountError as error:
        return [
            Warning(
                f"Account {account.name}: {error.message}.",
                hint="Set it for every process (see .env.example), or disable the account.",
                id="exchanges.W010",
            )
        ]
    return []


def _check_hosts(account: ExchangeAccount) -> list[CheckMessage]:
    """Report accounts that lead to a host of another environment, and live keys without
    encryption.
    """
    try:
        hosts = read_hosts(account)
    except WrongHost as error:
        return [
            Error(
                f"Account {account.name}: {error.message}.",
                hint="Correct or remove the variable, or create an account of that environment.",
                id="exchanges.E011",
            )
        ]
    except AccountError:
        return []  # W010 reports it
    found: list[CheckMessage] = []
    for suffix, url in (("REST_URL", hosts.rest_url), ("WS_URL", hosts.ws_url)):
        if account.environment == Environment.LIVE and urlsplit(url).scheme in ("http", "ws"):
            found.append(
                Error(
                    f"Account {account.name} is live, but {variable(account, suffix)} is not"
                    " encrypted.",
                    hint="Use https and wss, or create an account with the environment simulator.",
                    id="exchanges.E012",
                )
            )
    return found


def _check_live(account: ExchangeAccount) -> list[CheckMessage]:
    if not settings.DEBUG:
        return []
    return [
        Error(
            f"Account {account.name} is live and DEBUG is on. Error pages would show settings.",
            hint="Set DEBUG=0.",
            id="exchanges.E013",
        )
    ]


def _check_shared_keys(accounts: Iterable[ExchangeAccount]) -> list[CheckMessage]:
    """Report accounts that share a key: the exchange sees one account, so their orders mix."""
    names: dict[str, list[str]] = defaultdict(list)
    for account in accounts:
        if key := os.environ.get(variable(account, "API_KEY"), "").strip():
            names[key].append(account.name)
    return [
        Error(
            f"Accounts {', '.join(sharing)} have the same API key.",
            hint="Give each account its own key, or disable all but one of them.",
            id="exchanges.E015",
        )
        for sharing in names.values()
        if len(sharing) > 1
    ]


def refuse_danger() -> None:
    """End this process if its settings endanger a live account. `check` shows the same errors.

    Every process that sends, follows or shows orders calls it at its start. The commands that halt
    and cancel don't: they must work in any case. Without a database there is nothing to compare.
    """
    try:
        found = _dangers()
    except DatabaseError:
        return
    if found:
        lines = [f"{error.id}: {error.msg} {error.hint}" for error in found]
        raise SystemExit("Refusing to start.\n" + "\n".join(lines))


def _dangers() -> list[CheckMessage]:
    """Return the errors of enabled live accounts."""
    accounts = list(
        ExchangeAccount.objects.filter(is_enabled=True).only("name", "environment", "exchange")
    )
    live = [account for account in accounts if account.environment == Environment.LIVE]
    found = _check_shared_keys(accounts) if live else []
    for account in live:
        found += _check_live(account)
        # A proxy on this machine may do the encryption.
        found += [] if _is_on_this_machine(account) else _check_hosts(account)
    return [error for error in found if isinstance(error, Error)]


def _is_on_this_machine(account: ExchangeAccount) -> bool:
    url = os.environ.get(variable(account, "REST_URL"), "").strip()
    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")


def _check_redis() -> list[CheckMessage]:
    """Report a Redis that may lose messages, shared limits or a breaker held by hand."""
    durability = shared.redis_durability()
    if durability is None:
        return [
            Warning(
                "REDIS_URL: Redis does not answer. Without it workers place nothing.",
                hint="Start Redis, or correct REDIS_URL.",
                id="exchanges.W018",
            )
        ]
    found: list[CheckMessage] = []
    if durability.eviction_policy not in (None, "noeviction"):
        found.append(
            Warning(
                f"REDIS_URL: Redis may evict data (maxmemory-policy {durability.eviction_policy}), "
                "such as messages and the exchange's order to stop.",
                hint="Set maxmemory-policy to noeviction.",
                id="exchanges.W016",
            )
        )
    if durability.persists is False:
        found.append(
            Warning(
                "REDIS_URL: Redis stores nothing on disk. "
                "A restart loses messages, and the exchange's order to stop.",
                hint="Set appendonly to yes.",
                id="exchanges.W017",
            )
        )
    return found
