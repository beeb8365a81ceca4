"""Connect to the shared Redis, run our scripts there, and leave it alone while it is away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from django.conf import settings

from exchanges import clock
from exchanges.limits.redis_url import canonical_redis_url
from exchanges.limits.sentinel_url import is_sentinel, read_sentinel_url

if TYPE_CHECKING:
    from redis import Redis

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 0.25
PAUSE_SECONDS = 2.0


class RedisAway(Exception):
    """Redis did not answer, and is left alone for `PAUSE_SECONDS`."""


_away_until = 0.0
_is_required = False


def require_redis() -> None:
    """Make this process a worker: it places nothing while it can't share the limits with others."""
    global _is_required
    _is_required = True


def is_required() -> bool:
    return _is_required


def client() -> Redis:
    """Return this process's client. Its connections are safe across threads and forks."""
    return _client(settings.REDIS_URL)


def run(script: str, keys: Sequence[str], argument: Mapping[str, Any]) -> Any:
    """Run the script of this name with one JSON argument, and return its reply.

    Raise `RedisAway` if there is no answer, or was none a moment ago.
    """
    global _away_until
    if clock.monotonic() < _away_until:
        raise RedisAway
    try:
        return _script(settings.REDIS_URL, script)(keys=keys, args=[orjson.dumps(argument)])
    except Exception as error:  # noqa: BLE001  whichever it is, Redis can't be used now
        _away_until = clock.monotonic() + PAUSE_SECONDS
        _leave_a_demoted_server(error)
        if _is_required:
            log.warning("limits_redis_away", error=type(error).__name__)
    raise RedisAway


def _leave_a_demoted_server(error: Exception) -> None:
    """Drop the connections to a server that only reads: its name may lead to a new primary."""
    from redis.exceptions import ReadOnlyError

    if isinstance(error, ReadOnlyError) or "READONLY" in str(error):
        client().connection_pool.disconnect()


@lru_cache(maxsize=16)
def _script(url: str, name: str) -> Any:
    text = Path(__file__).with_name(f"{name}.lua").read_text(encoding="utf-8")
    return _client(url).register_script(text)


@lru_cache(maxsize=4)
def _client(url: str) -> Redis:
    # Imported on first use, because it takes 0.1 s.
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
    from redis.sentinel import Sentinel

    url = canonical_redis_url("REDIS_URL", url)
    options: dict[str, Any] = {
        "decode_responses": True,
        "socket_timeout": TIMEOUT_SECONDS,
        "socket_connect_timeout": TIMEOUT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }
    if not is_sentinel(url):
        return Redis.from_url(url, **options)
    read = read_sentinel_url("REDIS_URL", url)
    sentinels: Any = Sentinel(  # type: ignore[no-untyped-call]
        read.hosts, sentinel_kwargs=read.sentinel_options(TIMEOUT_SECONDS), db=read.database
    )
    primary: Redis = sentinels.master_for(read.master_name, Redis, **read.credentials(), **options)
    return primary


@dataclass(frozen=True, slots=True)
class Durability:
    """Redis's settings for keeping data. None: Redis doesn't say."""

    eviction_policy: str | None
    persists: bool | None


def redis_durability() -> Durability | None:
    """Return how well our Redis keeps its data, for `manage.py check`. None while it is away."""
    redis = client()
    try:
        info = redis.info("everything")
    except Exception:  # noqa: BLE001  whatever the client raises, Redis doesn't answer
        return None
    return Durability(
        info.get("maxmemory_policy"),
        True if int(info.get("aof_enabled", 0)) else _saves_snapshots(redis),
    )


def _saves_snapshots(redis: Redis) -> bool | None:
    try:
        return bool(redis.config_get("save").get("save"))
    except Exception:  # noqa: BLE001  a managed Redis may hide its settings
        return None
