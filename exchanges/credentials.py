"""Read keys and hosts of an account from the environment, under the account's name.

`EXCHANGE_<NAME>_API_KEY`, `_API_SECRET` or `_API_SECRET_FILE`, `_REST_URL`, `_WS_URL`. The name is
in upper case with `-` as `_`. The secret is an HMAC secret, or an Ed25519 or RSA private key in
PEM.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from exchanges.errors import AccountError

# Binance's own hosts, by environment: (REST scheme and host, WebSocket API).
OWN_HOSTS = {
    "live": ("https://api.binance.com", "wss://ws-api.binance.com:443/ws-api/v3"),
    "testnet": ("https://testnet.binance.vision", "wss://ws-api.testnet.binance.vision/ws-api/v3"),
}


# The hosts that an account of an environment may use, besides hosts of our own network.
_PUBLIC_HOSTS = {
    "live": frozenset(
        {
            "api.binance.com",
            "api1.binance.com",
            "api2.binance.com",
            "api3.binance.com",
            "api4.binance.com",
            "api-gcp.binance.com",
            "ws-api.binance.com",
        }
    ),
    "testnet": frozenset(
        {
            "testnet.binance.vision",
            "ws-api.testnet.binance.vision",
            "demo-api.binance.com",
            "demo-ws-api.binance.com",
        }
    ),
}
_OWN_NAME = re.compile(
    r"[a-z][a-z0-9_-]*"
    r"|([a-z0-9_-]+\.)+(localhost|local|internal|lan|test|invalid|svc|home\.arpa)"
)


class Account(Protocol):
    """The fields of an `ExchangeAccount` row that lead to its keys and hosts."""

    name: str
    exchange: str
    environment: str


@dataclass(frozen=True, slots=True)
class Hosts:
    """The addresses of an account's exchange.

    `rest_url` is scheme and host, `ws_url` the whole address.
    """

    rest_url: str
    ws_url: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """Key and hosts of one account. Neither the key nor the secret appears in a repr."""

    api_key: str = field(repr=False)
    api_secret: str = field(repr=False)
    hosts: Hosts


class WrongHost(AccountError):
    """A variable leads to a host that isn't of the account's environment."""


def variable(account: Account, suffix: str) -> str:
    """Return the name of an account's variable: `EXCHANGE_BOT_1_API_KEY` for `bot-1`."""
    return f"EXCHANGE_{account.name.upper().replace('-', '_')}_{suffix}"


def read_hosts(account: Account) -> Hosts:
    """Read hosts from the environment, else return Binance's own.

    Raise `AccountError` that names a missing or malformed variable, and `WrongHost` for a host that
    an account of this environment must not use.
    """
    own_rest_url, own_ws_url = OWN_HOSTS.get(account.environment, ("", ""))
    rest_url = os.environ.get(variable(account, "REST_URL"), "").strip() or own_rest_url
    ws_url = os.environ.get(variable(account, "WS_URL"), "").strip() or own_ws_url
    if not rest_url:
        name = variable(account, "REST_URL")
        raise AccountError(
            f"{name} is not set, and the environment {account.environment!r} has no host of its own"
        )
    hosts = Hosts(
        _rest_base(rest_url, variable(account, "REST_URL")),
        _checked_ws(ws_url, variable(account, "WS_URL")),
    )
    for suffix, url in (("REST_URL", hosts.rest_url), ("WS_URL", hosts.ws_url)):
        if url and not _may_use(account.environment, urlsplit(url).hostname or ""):
            raise WrongHost(
                f"{variable(account, suffix)} leads to a host that is not for"
                f" {account.environment} accounts"
            )
    return hosts


def _may_use(environment: str, host: str) -> bool:
    """Return whether an account of this environment may use the host.

    A simulator or a proxy is in our own network: a private address, or a name that no public host
    has. Other hosts must be listed, so that no test account trades on a live exchange.
    """
    if host in _PUBLIC_HOSTS.get(environment, ()):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return _OWN_NAME.fullmatch(host) is not None
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_private


def read_credentials(account: Account) -> Credentials:
    """Read key, secret and hosts of an account from the environment as it is now.

    Raise `AccountError` that names a missing or malformed variable.
    """
    hosts = read_hosts(account)
    api_key = os.environ.get(variable(account, "API_KEY"), "").strip()
    if not api_key:
        raise AccountError(f"{variable(account, 'API_KEY')} is not set")
    if not api_key.isascii() or not api_key.isprintable():
        raise AccountError(f"{variable(account, 'API_KEY')} holds characters that no key has")
    return Credentials(
        api_key, _normalized(_read_secret(account), variable(account, "API_SECRET")), hosts
    )


def environment_stamp(account: Account) -> tuple[str | int | None, ...]:
    """Return a value that changes whenever the credentials or hosts in the environment do."""
    read = os.environ.get
    secret_file = read(variable(account, "API_SECRET_FILE"))
    changed = None
    if secret_file:
        try:
            changed = Path(secret_file).stat().st_mtime_ns
        except OSError:
            changed = -1
    return (
        account.environment,
        read(variable(account, "API_KEY")),
        read(variable(account, "API_SECRET")),
        secret_file,
        changed,
        read(variable(account, "REST_URL")),
        read(variable(account, "WS_URL")),
    )


def _read_secret(account: Account) -> str:
    if secret := os.environ.get(variable(account, "API_SECRET"), "").strip():
        return secret
    name = variable(account, "API_SECRET_FILE")
    path = os.environ.get(name, "").strip()
    if not path:
        raise AccountError(f"{variable(account, 'API_SECRET')} is not set, and neither is {name}")
    try:
        secret = Path(path).read_text(encoding="utf-8").strip()
        problem = "" if secret else "is empty"
    except (OSError, UnicodeDecodeError) as error:
        secret, problem = "", f"can't be read: {getattr(error, 'strerror', None) or 'not a text'}"
    if problem:
        raise AccountError(f"{name}: {path} {problem}")
    return secret


def _normalized(secret: str, name: str) -> str:
    """Return an HMAC secret unchanged, and a PEM rewritten, because ccxt guesses its kind by
    length.

    CRLF line ends, a literal backslash-n from an env file, or attributes before the key would make
    that guess wrong.
    """
    if "PRIVATE KEY" not in secret:
        if not secret.isascii() or not secret.isprintable():
            raise AccountError(f"{name} holds characters that no secret has")
        return secret
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    text = secret.replace("\\n", "\n").replace("\r\n", "\n").replace("\r", "\n")
    text = "\n".join(line.strip() for line in text.splitlines())
    try:
        key = serialization.load_pem_private_key(text.encode(), None)
    except Exception:  # noqa: BLE001  any error text may quote the key
        key = None
    if not isinstance(key, Ed25519PrivateKey | RSAPrivateKey):
        raise AccountError(f"{name} is not an unencrypted Ed25519 or RSA private key in PEM")
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _rest_base(url: str, name: str) -> str:
    parts = urlsplit(url)
    if not _is_address(url, ("http", "https")) or parts.path not in ("", "/"):
        raise AccountError(f"{name} must be scheme and host only, such as http://127.0.0.1:9080")
    return f"{parts.scheme}://{parts.netloc}"


def _checked_ws(url: str, name: str) -> str:
    if url and not _is_address(url, ("ws", "wss")):
        raise AccountError(f"{name} must be an address such as ws://127.0.0.1:9080/ws-api/v3")
    return url


def _is_address(url: str, schemes: tuple[str, ...]) -> bool:
    """Return whether this is a plain address of one of the schemes.

    It has no user, query or fragment, and its port is a number.
    """
    try:
        parts = urlsplit(url)
        well_formed = parts.port is None or parts.port > 0
    except ValueError:
        return False
    extras = parts.query or parts.fragment or parts.username or parts.password
    return well_formed and parts.scheme in schemes and bool(parts.hostname) and not extras
