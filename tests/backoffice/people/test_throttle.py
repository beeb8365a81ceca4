"""The limits of attempts to sign in: counted before a password is hashed, and past no header."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth import hashers
from django.contrib.auth.models import User
from django.test import Client
from pytest_django.fixtures import Settings

from backoffice.people.addresses import network_of
from backoffice.people.throttle_models import AttemptCount

pytestmark = pytest.mark.django_db

PASSWORD = "correct-horse-battery"
MORNING = datetime(2026, 11, 30, 8, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def quick_hashes(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def pat(db: None, quick_hashes: None) -> User:
    return User.objects.create_user("pat", password=PASSWORD, is_staff=True)


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note each hash that is computed."""
    computed: list[str] = []
    encode = hashers.MD5PasswordHasher.encode

    def noted(self: Any, password: str, salt: str) -> str:
        computed.append(password)
        return encode(self, password, salt)

    monkeypatch.setattr(hashers.MD5PasswordHasher, "encode", noted)
    return computed


@pytest.fixture
def clock() -> Iterator[Any]:
    with time_machine.travel(MORNING, tick=False) as clock:
        yield clock


def attempt(name: str, password: str = "guess", address: str = "192.0.2.1", **more: Any) -> Any:
    form = {"username": name, "password": password}
    return Client().post("/admin/login/", form, REMOTE_ADDR=address, **more)


def test_sign_in__locks_a_person_out_at_one_address_only(pat: User, hashes: list[str]) -> None:
    for _ in range(5):
        assert attempt("pat").status_code == 200
    hashes.clear()
    for name in ("pat", "PAT"):
        refused = attempt(name, PASSWORD)
        assert refused.status_code == 429
        assert 800 < int(refused["Retry-After"]) <= 900
        assert "Too many attempts. Try again in 15 minutes." in refused.content.decode()
    assert hashes == []
    assert attempt("pat", PASSWORD, address="192.0.2.2").status_code == 302
    assert attempt("sam", address="192.0.2.1").status_code == 200


def test_sign_in__opens_again_when_the_window_is_over(pat: User, clock: Any) -> None:
    for _ in range(6):
        attempt("pat")
    clock.shift(timedelta(minutes=14))
    assert attempt("pat", PASSWORD).status_code == 429
    clock.shift(timedelta(minutes=2))
    assert attempt("pat", PASSWORD).status_code == 302


def test_sign_in__forgets_the_failures_of_who_signed_in(pat: User) -> None:
    for _ in range(3):
        for _ in range(4):
            assert attempt("pat").status_code == 200
        assert attempt("pat", PASSWORD).status_code == 302


@pytest.mark.long
def test_sign_in__limits_an_address_whatever_names_it_tries(hashes: list[str]) -> None:
    for number in range(20):
        assert attempt(f"name-{number}").status_code == 200
    hashes.clear()
    rows = AttemptCount.objects.count()
    for number in range(20, 40):
        assert attempt(f"name-{number}").status_code == 429
    assert hashes == []
    assert AttemptCount.objects.count() == rows  # made-up names fill no table
    assert attempt("name-1", address="192.0.2.2").status_code == 200


@pytest.mark.long
def test_sign_in__limits_everybody_together(hashes: list[str], clock: Any) -> None:
    for number in range(60):
        assert attempt("x", address=f"198.51.100.{number}").status_code == 200
    hashes.clear()
    assert attempt("x", address="203.0.113.1").status_code == 429
    assert hashes == []
    clock.shift(timedelta(seconds=61))
    assert attempt("x", address="203.0.113.2").status_code == 200


def test_sign_in__forgets_old_counters(clock: Any) -> None:
    attempt("x")
    clock.shift(timedelta(hours=1))
    attempt("y", address="192.0.2.9")
    assert AttemptCount.objects.count() == 3


def test_sign_in__believes_no_header_without_a_proxy(pat: User) -> None:
    for number in range(5):
        attempt("pat", headers={"X-Forwarded-For": f"203.0.113.{number}"})
    refused = attempt("pat", PASSWORD, headers={"X-Forwarded-For": "203.0.113.99"})
    assert refused.status_code == 429


def test_sign_in__believes_only_the_entry_of_its_own_proxy(pat: User, settings: Settings) -> None:
    settings.TRUSTED_PROXIES = 1
    for number in range(5):
        claim = f"203.0.113.{number}, 198.51.100.7"  # the client's own, and the proxy's
        attempt("pat", address="10.0.0.1", headers={"X-Forwarded-For": claim})
    same = {"X-Forwarded-For": "203.0.113.99, 198.51.100.7"}
    assert attempt("pat", PASSWORD, address="10.0.0.1", headers=same).status_code == 429
    other = {"X-Forwarded-For": "198.51.100.7, 198.51.100.8"}
    assert attempt("pat", PASSWORD, address="10.0.0.1", headers=other).status_code == 302


@pytest.mark.parametrize("header", ["", "not-an-address", "203.0.113.1"])
def test_sign_in__falls_back_to_the_socket(pat: User, settings: Settings, header: str) -> None:
    settings.TRUSTED_PROXIES = 2
    for _ in range(5):
        attempt("pat", address="10.0.0.1", headers={"X-Forwarded-For": header})
    assert attempt("pat", PASSWORD, address="10.0.0.1").status_code == 429
    assert attempt("pat", PASSWORD, address="10.0.0.2").status_code == 302


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("testclient", "testclient"),
    ],
)
def test_network_of__is_the_part_that_one_client_owns(address: str, network: str) -> None:
    assert network_of(address) == network


def test_step_up__counts_like_signing_in(pat: User, clock: Any) -> None:
    User.objects.filter(pk=pat.pk).update(is_superuser=True)
    client = Client()
    client.force_login(pat)
    clock.shift(timedelta(minutes=6))
    proof = {"step_up_asked_by": "GET"}
    page = "/admin/auth/group/add/"
    for _ in range(5):
        assert "not correct" in client.post(page, {**proof, "step_up_answer": "x"}).content.decode()
    refused = client.post(page, {**proof, "step_up_answer": PASSWORD})
    assert "Too many attempts" in refused.content.decode()
