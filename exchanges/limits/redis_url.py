"""Give a Redis URL one spelling, which Celery's broker, its results and our client read alike."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from django.core.exceptions import ImproperlyConfigured

from exchanges.limits.sentinel_url import SENTINEL_SCHEME, is_sentinel, read_sentinel_url

REDIS_SCHEMES = ("redis", "rediss", SENTINEL_SCHEME)

_CERT_REQS = {
    "cert_required": "required",
    "cert_optional": "optional",
    "cert_none": "none",
    "required": "required",
    "optional": "optional",
    "none": "none",
}
# The parameters that all three clients read. Any other one would work for some of them only.
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_FORM = "redis://host:6379/0"


def canonical_redis_url(name: str, url: str) -> str:
    """Return the URL of the variable `name` in the spelling that all clients understand alike.

    `rediss://` checks the server's certificate unless `ssl_cert_reqs` says otherwise. Raise
    ImproperlyConfigured, which names the variable and never shows the URL, for anything unknown.
    """
    if is_sentinel(url):
        return str(read_sentinel_url(name, url))
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ImproperlyConfigured(f"{name} is not a well-formed URL.") from None
    scheme = parts.scheme.lower()
    if scheme not in REDIS_SCHEMES or not parts.hostname or re.search(r"[\s\x00-\x1f]", url):
        raise ImproperlyConfigured(f"{name} must be a Redis URL such as {_FORM}.")
    if parts.fragment or not re.fullmatch(r"/?[0-9]{0,4}", parts.path):
        raise ImproperlyConfigured(
            f"{name}: after the host only the number of a database may follow, as in {_FORM}."
            " Write special characters of a password percent-encoded."
        )
    query = _tls_options(name, scheme, parts.query)
    address = f"{scheme}://{parts.netloc}{parts.path}"
    return f"{address}?{urlencode(query, quote_via=quote)}" if query else address


def _tls_options(name: str, scheme: str, text: str) -> dict[str, str]:
    given = dict(parse_qsl(text, keep_blank_values=True))
    if unknown := sorted(set(given) - {"ssl_cert_reqs", *_FILES}):
        raise ImproperlyConfigured(f"{name} has a parameter that is not understood: {unknown[0]}.")
    if scheme == "redis":
        if given:
            raise ImproperlyConfigured(f"{name} has TLS parameters: they need rediss://.")
        return {}
    wanted = given.get("ssl_cert_reqs", "required").lower()
    if wanted not in _CERT_REQS:
        raise ImproperlyConfigured(f"{name}: ssl_cert_reqs must be required, optional or none.")
    files = {key: value for key, value in given.items() if key in _FILES}
    if empty := [key for key, value in files.items() if not value]:
        raise ImproperlyConfigured(f"{name}: {empty[0]} must name a file.")
    return {"ssl_cert_reqs": _CERT_REQS[wanted], **files}
