"""Run a simulator in a thread, with a client that signs by hand and shares no code with it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import requests
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from exchanges.simulator.client import ControlClient
from exchanges.simulator.engine.types import OrderLimit, units
from exchanges.simulator.exchange.exchange import Exchange, Settings
from exchanges.simulator.exchange.rate_limits import LimitSettings
from exchanges.simulator.server.server import ThreadedSimulator

KEY = "test-key"
SECRET = "test-secret"
BALANCES = {"USDT": units("100000"), "BTC": units("2"), "ETH": units("10")}
PrivateKey = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def sign_text(secret: str | PrivateKey, payload: str) -> str:
    if isinstance(secret, str):
        return hmac.new(secret.encode(), payload.encode(), hashlib.sha256).hexdigest()
    if isinstance(secret, ed25519.Ed25519PrivateKey):
        return base64.b64encode(secret.sign(payload.encode())).decode()
    return base64.b64encode(
        secret.sign(payload.encode(), padding.PKCS1v15(), hashes.SHA256())
    ).decode()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class RawClient:
    """Send HTTP requests as a client of the documented API does."""

    url: str
    key: str = KEY
    secret: str | PrivateKey = SECRET
    session: requests.Session = field(default_factory=requests.Session)
    timeout: float = 10.0

    def __post_init__(self) -> None:
        self.session.trust_env = False

    def public(
        self, path: str, params: Mapping[str, Any] | None = None, **options: Any
    ) -> requests.Response:
        return self.session.get(
            f"{self.url}/api/v3/{path}", params=params, timeout=self.timeout, **options
        )

    def signed(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        signature: str | None = None,
    ) -> requests.Response:
        """Send a signed request.

        `params` go into the query, with a timestamp, and `body` goes into the form.
        """
        query = urlencode(
            {
                **(params or {}),
                **({} if params and "timestamp" in params else {"timestamp": now_ms()}),
            }
        )
        form = urlencode(body or {})
        signed = signature if signature is not None else sign_text(self.secret, query + form)
        prefix = "" if path.startswith("/") else "/api/v3/"
        return self.session.request(
            method,
            f"{self.url}{prefix}{path}?{query}&signature={quote(signed, safe='')}",
            data=form or None,
            headers={
                "X-MBX-APIKEY": self.key,
                **({"Content-Type": "application/x-www-form-urlencoded"} if form else {}),
                **(headers or {}),
            },
            timeout=self.timeout,
        )

    def place(self, **params: Any) -> requests.Response:
        """Place a LIMIT BUY of 0.01 BTC at 50000, changed by `params`.

        None leaves a parameter out.
        """
        order: dict[str, Any] = {
            "symbol": "BTCUSDT",
            "side": "BUY",
            "type": "LIMIT",
            "timeInForce": "GTC",
            "quantity": "0.01",
            "price": "50000",
        }
        order |= params
        return self.signed(
            "POST", "order", {name: value for name, value in order.items() if value is not None}
        )

    def order(self, client_order_id: str, symbol: str = "BTCUSDT") -> requests.Response:
        return self.signed("GET", "order", {"symbol": symbol, "origClientOrderId": client_order_id})


def make_exchange() -> Exchange:
    exchange = Exchange(
        Settings(frozen=True, history_limit=1_000),
        limits=LimitSettings(request_weight=1_000_000, ws_connections=10_000),
        order_limits=(OrderLimit("SECOND", 10, 100_000), OrderLimit("DAY", 1, 1_000_000)),
    )
    exchange.add_first_account("main", BALANCES)
    exchange.add_first_key(KEY, SECRET, "main")
    return exchange


@pytest.fixture(scope="session")
def threaded() -> Iterator[ThreadedSimulator]:
    with ThreadedSimulator(make_exchange()) as simulator:
        yield simulator


@pytest.fixture
def sim(threaded: ThreadedSimulator) -> Iterator[ThreadedSimulator]:
    """Return a freshly reset simulator with a frozen book.

    Fails afterwards if a request of the test failed inside of it.
    """
    control = ControlClient(threaded.url)
    control.reset()
    yield threaded
    assert control.truth().raw["internal_errors"] == 0


@pytest.fixture
def control(sim: ThreadedSimulator) -> ControlClient:
    return ControlClient(sim.url)


@pytest.fixture
def client(sim: ThreadedSimulator) -> RawClient:
    return RawClient(sim.url)
