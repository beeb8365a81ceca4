"""Check keys and signatures: the documented examples pass and forged ones don't."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from exchanges.simulator.client import ControlClient
from exchanges.simulator.exchange.keys import KeyKind, make_api_key, rest_payload, websocket_payload
from tests.exchanges.simulator.conftest import PrivateKey, RawClient, now_ms, sign_text
from tests.exchanges.simulator.helpers import refusal

DOCUMENTED_SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
QUERY = "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC"
BODY = "quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559"
PRIVATE_KEYS: list[PrivateKey] = [
    ed25519.Ed25519PrivateKey.generate(),
    rsa.generate_private_key(public_exponent=65537, key_size=2048),
]


def public_pem(key: PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def private_pem(key: PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    ("query", "body", "signature"),
    [
        ("", f"{QUERY}&{BODY}", "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"),
        (f"{QUERY}&{BODY}", "", "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"),
        (QUERY, BODY, "0fd168b8ddb4876a0358a8d14d0c9f3da0e9b20c5d52b2a00fcf7d1c602f9a77"),
        (
            (
                "symbol=%EF%BC%91%EF%BC%92%EF%BC%93%EF%BC%94%EF%BC%95%EF%BC%96"
                f"&side=BUY&type=LIMIT&timeInForce=GTC&{BODY}"
            ),
            "",
            "e1353ec6b14d888f1164ae9af8228a3dbd508bc82eb867db8ab6046442f33ef3",
        ),
    ],
)
def test_hmac__documented_examples(query: str, body: str, signature: str) -> None:
    key = make_api_key("k", DOCUMENTED_SECRET, "main")
    assert key.kind is KeyKind.HMAC
    for part in (signature, signature.upper()):
        assert key.verify(rest_payload(f"{query}&signature={part}" if query else "", body), part)
    assert not key.verify(rest_payload(query, body), signature[:-1] + "0")


def test_websocket_payload__documented_example() -> None:
    params = {
        "symbol": "BTCUSDT",
        "side": "SELL",
        "type": "LIMIT",
        "timeInForce": "GTC",
        "quantity": "0.01000000",
        "price": "52000.00",
        "newOrderRespType": "ACK",
        "recvWindow": "100",
        "timestamp": "1645423376532",
        "apiKey": "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A",
        "signature": "left out",
    }
    key = make_api_key("k", DOCUMENTED_SECRET, "main")
    assert key.verify(
        websocket_payload(params),
        "cc15477742bd704c29492d96c7ead9414dfd8e0ec4a00f947bb5bb454ddbd08a",
    )


@pytest.mark.parametrize("private", PRIVATE_KEYS, ids=["ed25519", "rsa"])
def test_asymmetric__public_and_private_pem_verify_alike(private: PrivateKey) -> None:
    signature = sign_text(private, "a=1&b=2")
    for pem in (public_pem(private), private_pem(private)):
        key = make_api_key("k", pem, "main")
        assert key.verify(b"a=1&b=2", signature)
        assert not key.verify(b"a=1&b=3", signature)
        assert not key.verify(b"a=1&b=2", signature.lower())
        assert not key.verify(b"a=1&b=2", "no base64 at all!")


def test_make_api_key__refuses_other_keys() -> None:
    with pytest.raises(ValueError, match="PEM"):
        make_api_key("k", "-----BEGIN PUBLIC KEY-----\nnonsense\n-----END PUBLIC KEY-----", "main")


@pytest.mark.parametrize("private", PRIVATE_KEYS, ids=["ed25519", "rsa"])
def test_rest__asymmetric_keys_place_orders(
    client: RawClient, control: ControlClient, private: PrivateKey
) -> None:
    control.add_key("main", "pem-key", public_pem(private))
    signer = RawClient(client.url, "pem-key", private)
    assert signer.place().json()["status"] == "NEW"
    # base64 in the form body instead of the query
    form = {"symbol": "BTCUSDT", "timestamp": now_ms()}
    form_text = urlencode(form)
    signed: dict[str, Any] = {**form, "signature": sign_text(private, form_text)}
    answer = signer.session.delete(
        f"{client.url}/api/v3/openOrders", data=signed, headers={"X-MBX-APIKEY": "pem-key"}
    )
    assert answer.json()[0]["status"] == "CANCELED"
    assert refusal(signer.signed("GET", "account", signature="AAAA"))[:2] == (400, -1022)


def test_rest__who_may_not(client: RawClient, control: ControlClient) -> None:
    url = client.url
    assert refusal(RawClient(url, "").signed("GET", "account")) == (
        401,
        -2014,
        "API-key format invalid.",
    )
    unknown = (401, -2015, "Invalid API-key, IP, or permissions for action.")
    assert refusal(RawClient(url, "stranger").signed("GET", "account")) == unknown
    wrong = (400, -1022, "Signature for this request is not valid.")
    assert refusal(RawClient(url, secret="guess").signed("GET", "account")) == wrong
    control.add_key("main", "reader", "secret", can_trade=False)
    reader = RawClient(url, "reader", "secret")
    assert reader.signed("GET", "account").status_code == 200
    assert refusal(reader.place()) == unknown
    control.revoke_key("reader")
    assert refusal(reader.signed("GET", "account")) == unknown


def test_rest__signature_must_be_there(client: RawClient) -> None:
    response = client.session.get(
        f"{client.url}/api/v3/account?timestamp={now_ms()}", headers={"X-MBX-APIKEY": client.key}
    )
    assert refusal(response)[1:] == (
        -1102,
        "Mandatory parameter 'signature' was not sent, was empty/null, or malformed.",
    )


@pytest.mark.parametrize(
    ("shift_ms", "window", "code"),
    [
        (0, None, None),
        (-4_000, None, None),
        (-6_000, None, -1021),
        (-6_000, "10000", None),
        (900, None, None),
        (1_500, None, -1021),
        (0, "0.5", None),
        (0, "6000.346", None),
        (0, "6000.3461", -1100),
        (0, "60001", -1131),
        (0, "-1", -1100),
    ],
)
def test_timing__window_around_the_servers_clock(
    client: RawClient, shift_ms: int, window: str | None, code: int | None
) -> None:
    for factor in (1, 1000):  # milliseconds, microseconds
        params: dict[str, Any] = {"timestamp": (now_ms() + shift_ms) * factor}
        if window is not None:
            params["recvWindow"] = window
        body = client.signed("GET", "account", params).json()
        if code is None and window == "0.5":
            assert body.get("code") in (None, -1021)  # half a millisecond may have passed
        else:
            assert body.get("code") == code


@pytest.mark.parametrize("stamp", ["", "abc", "-5", "1.5", "9" * 21])
def test_timing__malformed_timestamp(client: RawClient, stamp: str) -> None:
    status, code, _ = refusal(client.signed("GET", "account", {"timestamp": stamp}))
    assert (status, code) == (400, -1105 if stamp == "" else -1100)


def test_signature__covers_the_text_as_sent(client: RawClient) -> None:
    """Sign percent-encoded text. The raw text counts, not the decoded one."""
    stamp = now_ms()
    sent = f"symbol=%42TCUSDT&timestamp={stamp}"
    # A high-level HTTP client would decode %42 on its way.
    connection = http.client.HTTPConnection(client.url.removeprefix("http://"), timeout=10)
    answers = []
    for signed in (sent, f"symbol=BTCUSDT&timestamp={stamp}"):
        target = f"/api/v3/openOrders?{sent}&signature={sign_text(client.secret, signed)}"
        connection.request("GET", target, headers={"X-MBX-APIKEY": client.key})
        answers.append(json.loads(connection.getresponse().read()))
    connection.close()
    assert answers[0] == []
    assert answers[1]["code"] == -1022
