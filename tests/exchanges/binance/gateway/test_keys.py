"""Check each kind of key, and how the environment names it."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from exchanges.binance.gateway import Gateway
from exchanges.binance.registry import get_gateway
from exchanges.credentials import WrongHost, read_credentials, read_hosts
from exchanges.errors import (
    AccountError,
)
from exchanges.models import ExchangeAccount
from tests.exchanges.binance.gateway.steps import (
    Ask,
    error_of,
    pem,
    place,
    read,
    refusal,
)
from tests.exchanges.binance.raw_server import (
    RawServer,
    answer,
)

pytestmark = pytest.mark.usefixtures("without_limits")


def as_it_is(text: str) -> str:
    return text


def with_crlf(text: str) -> str:
    return text.replace("\n", "\r\n")


def on_one_line(text: str) -> str:
    return text.strip().replace("\n", "\\n")


@pytest.mark.parametrize("written", [as_it_is, with_crlf, on_one_line])
@pytest.mark.parametrize("ask", [place, read], ids=["body", "query"])
def test_calls__are_signed_by_an_ed25519_key(
    server: RawServer,
    account: ExchangeAccount,
    monkeypatch: pytest.MonkeyPatch,
    written: Callable[[str], str],
    ask: Ask,
) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    monkeypatch.setenv("EXCHANGE_BOT_1_API_SECRET", written(pem(key)))
    server.then(answer(400, refusal(-1121, "Invalid symbol.")))
    error_of(ask, Gateway(account, read_credentials(account)))
    (request,) = server.received
    key.public_key().verify(
        b64decode(request.parameters["signature"]), request.signed_text.encode()
    )


@pytest.mark.parametrize(
    "kind", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL]
)
def test_calls__are_signed_by_an_rsa_key_from_a_file(
    server: RawServer,
    account: ExchangeAccount,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: serialization.PrivateFormat,
) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path = tmp_path / "key.pem"
    path.write_text(with_crlf(pem(key, kind=kind)))
    monkeypatch.delenv("EXCHANGE_BOT_1_API_SECRET")
    monkeypatch.setenv("EXCHANGE_BOT_1_API_SECRET_FILE", str(path))
    server.then(answer(400, refusal(-1121, "Invalid symbol.")))
    error_of(place, Gateway(account, read_credentials(account)))
    (request,) = server.received
    signature = b64decode(request.parameters["signature"])
    key.public_key().verify(
        signature, request.signed_text.encode(), padding.PKCS1v15(), hashes.SHA256()
    )


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"API_KEY": ""}, "EXCHANGE_BOT_1_API_KEY"),
        ({"API_SECRET": ""}, "EXCHANGE_BOT_1_API_SECRET"),
        ({"API_SECRET": "", "API_SECRET_FILE": "no-such-file"}, "EXCHANGE_BOT_1_API_SECRET_FILE"),
        (
            {"API_SECRET": "-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----"},
            "EXCHANGE_BOT_1_API_SECRET",
        ),
        ({"API_SECRET": pem(ec.generate_private_key(ec.SECP256R1()))}, "EXCHANGE_BOT_1_API_SECRET"),
        ({"API_KEY": "ключ"}, "EXCHANGE_BOT_1_API_KEY"),
        ({"REST_URL": ""}, "EXCHANGE_BOT_1_REST_URL"),
        ({"REST_URL": "127.0.0.1:9080"}, "EXCHANGE_BOT_1_REST_URL"),
        ({"REST_URL": "http://127.0.0.1:9080/api/v3"}, "EXCHANGE_BOT_1_REST_URL"),
        ({"REST_URL": "http://user:word@127.0.0.1:9080"}, "EXCHANGE_BOT_1_REST_URL"),
        ({"REST_URL": "http://127.0.0.1:port"}, "EXCHANGE_BOT_1_REST_URL"),
        ({"WS_URL": "http://127.0.0.1:9080"}, "EXCHANGE_BOT_1_WS_URL"),
    ],
)
def test_get_gateway__names_the_variable_that_is_wrong(
    account: ExchangeAccount,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    named: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"EXCHANGE_BOT_1_{name}", value)
    with pytest.raises(AccountError, match=named) as caught:
        get_gateway(account)
    for value in environment.values():
        assert not value.startswith("-----") or value not in str(caught.value)


LIVE_HOSTS = (
    "api.binance.com",
    "API.Binance.COM",
    "api.binance.com.",
    "api1.binance.com",
    "api-gcp.binance.com",
    "data-api.binance.vision",
    "api.binance.us",
    "api.binance.tr",
    "www.binance.tr",
    "api.binance.th",
    "www.trbinance.com",
    "api.binance.je",
    "api\uff0ebinance\uff0ecom",
    "binance.com",
    "8.8.8.8",
    "134744072",
    "[::ffff:8.8.8.8]",
    "[2001:4860:4860::8888]",
)


@pytest.mark.parametrize("host", LIVE_HOSTS)
@pytest.mark.parametrize("environment", ["simulator", "testnet"])
@pytest.mark.parametrize("suffix", ["REST_URL", "WS_URL"])
def test_read_credentials__a_test_account_reaches_no_live_host(
    account: ExchangeAccount,
    monkeypatch: pytest.MonkeyPatch,
    environment: str,
    suffix: str,
    host: str,
) -> None:
    account.environment = environment
    url = f"https://{host}" if suffix == "REST_URL" else f"wss://{host}:443/ws-api/v3"
    monkeypatch.setenv(f"EXCHANGE_BOT_1_{suffix}", url)
    for reader in (read_hosts, read_credentials, get_gateway):
        with pytest.raises(WrongHost, match=f"EXCHANGE_BOT_1_{suffix} leads to a host"):
            reader(account)


@pytest.mark.parametrize(
    ("environment", "host"),
    [
        ("simulator", "127.0.0.1:9080"),
        ("simulator", "[::1]:9080"),
        ("simulator", "localhost:9080"),
        ("simulator", "simulator:9080"),
        ("simulator", "10.0.3.7"),
        ("simulator", "simulator.trading.svc"),
        ("simulator", "simulator.trading.svc.cluster.local"),
        ("testnet", "testnet.binance.vision"),
        ("testnet", "demo-api.binance.com"),
        ("live", "api3.binance.com"),
        ("live", "proxy"),
    ],
)
def test_read_hosts__takes_the_hosts_of_the_environment_and_our_own(
    account: ExchangeAccount, monkeypatch: pytest.MonkeyPatch, environment: str, host: str
) -> None:
    account.environment = environment
    monkeypatch.setenv("EXCHANGE_BOT_1_REST_URL", f"https://{host}")
    monkeypatch.setenv("EXCHANGE_BOT_1_WS_URL", "wss://localhost/ws-api/v3")
    assert read_hosts(account).rest_url == f"https://{host}"


@pytest.mark.parametrize(
    "host", ["testnet.binance.vision", "api.binance.us", "demo-api.binance.com"]
)
def test_read_hosts__a_live_account_reaches_no_other_exchange(
    account: ExchangeAccount, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    account.environment = "live"
    monkeypatch.setenv("EXCHANGE_BOT_1_REST_URL", f"https://{host}")
    with pytest.raises(WrongHost):
        read_hosts(account)


def test_read_hosts__are_binances_own_without_variables() -> None:
    live = read_hosts(ExchangeAccount(name="desk", environment="live"))
    testnet = read_hosts(ExchangeAccount(name="desk", environment="testnet"))
    assert (live.rest_url, testnet.rest_url) == (
        "https://api.binance.com",
        "https://testnet.binance.vision",
    )
    assert live.ws_url.startswith("wss://ws-api.binance.com")
    assert testnet.ws_url.startswith("wss://ws-api.testnet.binance.vision")
