"""Read a Sentinel URL, in our spelling for all three clients, and spell it for Celery.

    sentinel://user:password@one:26379,two:26379,three:26379/0?master_name=mymaster

User, password and database are those of the Redis behind. The sentinels' own are parameters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from django.core.exceptions import ImproperlyConfigured

SENTINEL_SCHEME = "sentinel"
_FORM = "sentinel://one:26379,two:26379,three:26379/0?master_name=mymaster"
_PORT = 26379
_HOST = re.compile(r"(?P<host>[A-Za-z0-9_.-]+)(:(?P<port>[0-9]{1,5}))?")
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_OWN = {"sentinel_username": "username", "sentinel_password": "password"}  # nosec B105: names
_SENTINEL_ANSWERS_WITHIN = 1.0


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """A Redis whose address the sentinels know."""

    hosts: tuple[tuple[str, int], ...]
    master_name: str
    database: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    of_sentinels: dict[str, str] = field(default_factory=dict, repr=False)

    def credentials(self) -> dict[str, str]:
        """Return user and password of the Redis, those that are set."""
        given = {"username": self.username, "password": self.password}
        return {name: value for name, value in given.items() if value}

    def sentinel_options(self, timeout: float = _SENTINEL_ANSWERS_WITHIN) -> dict[str, Any]:
        """Return the arguments of a connection to a sentinel."""
        return {"socket_timeout": timeout, "socket_connect_timeout": timeout, **self.of_sentinels}

    def __str__(self) -> str:
        """Return the one spelling of this URL."""
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        own = {f"sentinel_{name}": value for name, value in self.of_sentinels.items()}
        query = urlencode({"master_name": self.master_name, **own}, quote_via=quote)
        return f"{SENTINEL_SCHEME}://{self._user()}{hosts}/{self.database}?{query}"

    def for_celery(self) -> str:
        """Return a URL for each sentinel, as Celery's broker and result store want it."""
        return ";".join(
            f"{SENTINEL_SCHEME}://{self._user()}{host}:{port}/{self.database}"
            for host, port in self.hosts
        )

    def _user(self) -> str:
        if not self.credentials():
            return ""
        return f"{quote(self.username, safe='')}:{quote(self.password, safe='')}@"


def is_sentinel(url: str) -> bool:
    return url.partition("://")[0].lower() == SENTINEL_SCHEME


def read_sentinel_url(name: str, url: str) -> SentinelUrl:
    """Return the parts of the URL in the variable `name`.

    Raise ImproperlyConfigured, which names the variable and never shows the URL.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ImproperlyConfigured(f"{name} is not a well-formed URL.") from None
    user, _, hosts = parts.netloc.rpartition("@")
    found = [_HOST.fullmatch(host) for host in hosts.split(",")]
    path = re.fullmatch(r"/?([0-9]{0,4})", parts.path)
    if not all(found) or path is None or parts.fragment or re.search(r"[\s\x00-\x1f;]", url):
        raise ImproperlyConfigured(
            f"{name} must name the sentinels in one URL, separated by commas: {_FORM}."
        )
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(set(query) - {"master_name", *_OWN}):
        raise ImproperlyConfigured(f"{name} has a parameter that is not understood: {unknown[0]}.")
    if not _NAME.fullmatch(query.get("master_name", "")):
        raise ImproperlyConfigured(
            f"{name} must say by which name the sentinels know the primary: {_FORM}."
        )
    username, _, password = user.partition(":")
    return SentinelUrl(
        hosts=tuple((each["host"], int(each["port"] or _PORT)) for each in found if each),
        master_name=query["master_name"],
        database=int(path[1] or 0),
        username=unquote(username),
        password=unquote(password),
        of_sentinels={key: query[name] for name, key in _OWN.items() if query.get(name)},
    )


def celery_url(name: str, url: str) -> str:
    """Return the URL as Celery spells it. Only a Sentinel URL changes."""
    return read_sentinel_url(name, url).for_celery() if is_sentinel(url) else url


def celery_options(name: str, url: str) -> dict[str, Any]:
    """Return the transport options that Celery needs besides a Sentinel URL."""
    if not is_sentinel(url):
        return {}
    sentinel = read_sentinel_url(name, url)
    return {
        "master_name": sentinel.master_name,
        "sentinel_kwargs": sentinel.sentinel_options(),
    }
