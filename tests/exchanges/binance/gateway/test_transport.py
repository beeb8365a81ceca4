"""Check how far a request gets over broken connections, and what the gateway makes of it."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pytest_django.fixtures import Settings

from exchanges import clock
from exchanges.binance import http
from exchanges.binance.gateway import Gateway
from exchanges.credentials import read_credentials
from exchanges.errors import (
    AccountError,
    NotSent,
    OutcomeUnknown,
)
from exchanges.models import ExchangeAccount
from tests.exchanges.binance import binance_answers as binance
from tests.exchanges.binance.gateway.steps import (
    CALLS,
    error_of,
    pem,
    place,
    refusal,
)
from tests.exchanges.binance.raw_server import (
    Behavior,
    RawServer,
    answer,
    closed_port,
    unanswering_port,
)

pytestmark = pytest.mark.usefixtures("without_limits")


@pytest.mark.parametrize("call", CALLS)
def test_calls__without_a_connection_nothing_is_sent(
    account: ExchangeAccount, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    for host in (f"127.0.0.1:{closed_port()}", "no-such-host.invalid"):
        monkeypatch.setenv("EXCHANGE_BOT_1_REST_URL", f"http://{host}")
        error = error_of(CALLS[call], Gateway(account, read_credentials(account)))
        assert type(error) is NotSent
        assert "no connection to the exchange" in error.message


def test_calls__a_connection_that_does_not_come_about_is_not_sent(
    account: ExchangeAccount, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.EXCHANGE_REQUEST_TIMEOUT_MS = 30_000
    monkeypatch.setattr(http, "CONNECT_TIMEOUT_SECONDS", 0.2)
    with unanswering_port() as port:
        monkeypatch.setenv("EXCHANGE_BOT_1_REST_URL", f"http://127.0.0.1:{port}")
        assert type(error_of(place, Gateway(account, read_credentials(account)))) is NotSent


@pytest.mark.parametrize(
    ("at_once", "bit_by_bit"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n", b" "),  # the body
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x"),  # one header
        (b"HTTP/1.1 200 OK\r\n", b"X-More: x\r\n"),  # header after header
        (b"HTTP/1.1 ", b"2"),  # the status
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
def test_calls__an_answer_that_comes_byte_by_byte_is_given_up(
    account: ExchangeAccount,
    server: RawServer,
    settings: Settings,
    at_once: bytes,
    bit_by_bit: bytes,
) -> None:
    settings.EXCHANGE_REQUEST_TIMEOUT_MS = 300
    server.then(drip(at_once, bit_by_bit))
    started = time.monotonic()
    assert type(error_of(place, Gateway(account, read_credentials(account)))) is OutcomeUnknown
    assert time.monotonic() - started < 3


def drip(at_once: bytes, bit_by_bit: bytes) -> Behavior:
    """Send the first part, then the other again and again for ten seconds."""

    def behave(connection: socket.socket, server: RawServer) -> None:
        connection.sendall(at_once)
        with suppress(OSError):  # Nobody listens any more.
            for _ in range(100):
                connection.sendall(bit_by_bit)
                time.sleep(0.1)

    return behave


def test_calls__to_a_host_with_a_false_certificate_nothing_is_sent(
    account: ExchangeAccount, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = RawServer([answer(200, binance.placed())], tls=self_signed(tmp_path))
    try:
        monkeypatch.setenv("EXCHANGE_BOT_1_REST_URL", server.url)
        error = error_of(place, Gateway(account, read_credentials(account)))
        assert type(error) is NotSent
        assert "SSLCertVerificationError" in error.message
        assert server.received == []
    finally:
        server.stop()


def self_signed(directory: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2120, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    path = directory / "certificate.pem"
    path.write_text(pem(key) + certificate.public_bytes(serialization.Encoding.PEM).decode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 120 ", 120.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("inf", None),
        ("1e9", None),
        ("7.5", 7.5),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None),
        ("999999999999", 3600.0),
    ],
)
@pytest.mark.parametrize("status", [429, 418, 403])
def test_calls__retry_after_is_read_where_there_is_one(
    server: RawServer, exchange: Gateway, status: int, header: str | None, seconds: float | None
) -> None:
    server.then(
        answer(
            status,
            refusal(-1003, "Too many."),
            headers={} if header is None else {"Retry-After": header},
        )
    )
    error = error_of(place, exchange)
    assert isinstance(error, NotSent)
    if status == 418:  # a ban lasts from two minutes to three days
        seconds = {None: 120.0, 3600.0: 259_200.0}.get(seconds, seconds)
    assert error.retry_after == seconds


def test_calls__a_date_in_retry_after_is_a_wait(server: RawServer, exchange: Gateway) -> None:
    moment = format_datetime(clock.now() + timedelta(seconds=90), usegmt=True)
    server.then(answer(429, refusal(-1003, "Too many."), headers={"Retry-After": moment}))
    error = error_of(place, exchange)
    assert isinstance(error, NotSent)
    assert error.retry_after is not None
    assert 80 < error.retry_after <= 90


def test_calls__the_order_count_of_a_day_is_waited_for(
    server: RawServer, exchange: Gateway
) -> None:
    server.then(
        answer(429, refusal(-1015, "Too many new orders."), headers={"Retry-After": "80000"})
    )
    error = error_of(place, exchange)
    assert isinstance(error, NotSent)
    assert error.retry_after == 80_000


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (-2010, "Account has insufficient balance for requested action."),
        (-1022, "Signature for this request is not valid."),
    ],
)
def test_calls__the_exchanges_words_arrive(
    server: RawServer, exchange: Gateway, code: int, text: str
) -> None:
    server.then(answer(400, refusal(code, text)))
    error = error_of(place, exchange)
    assert (error.code, error.http_status, error.message) == (code, 400, text)


def test_calls__a_refused_key_is_an_account_error_after_earlier_success_too(
    server: RawServer, exchange: Gateway
) -> None:
    refused = answer(400, refusal(-2015, "Invalid API-key, IP, or permissions for action."))
    server.then(answer(200, binance.placed()), refused)
    place(exchange)
    error = error_of(place, exchange)
    assert isinstance(error, AccountError)
    assert error.message == "Invalid API-key, IP, or permissions for action."


def test_calls__go_past_the_proxies_of_the_environment(
    server: RawServer, exchange: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    server.then(answer(200, binance.placed()))
    assert place(exchange).status == "FILLED"
