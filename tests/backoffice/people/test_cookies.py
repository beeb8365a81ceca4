"""Cookies of signing in: bound to this host and to HTTPS wherever the site has it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.backoffice.test_settings import start

NAMES = (
    *("SESSION_COOKIE_NAME", "SESSION_COOKIE_SECURE", "CSRF_COOKIE_NAME", "CSRF_COOKIE_SECURE"),
    *("SESSION_COOKIE_AGE", "LANGUAGE_COOKIE_SECURE"),
)


def read(**variables: str) -> dict[str, Any]:
    started = start(*NAMES, **variables)
    found: dict[str, Any] = json.loads(started.stdout)
    return found


def test_cookies__belong_to_this_host_and_https() -> None:
    assert read(SECURE_SSL="on") == {
        "SESSION_COOKIE_NAME": "__Host-sessionid",
        "SESSION_COOKIE_SECURE": True,
        "CSRF_COOKIE_NAME": "__Host-csrftoken",
        "CSRF_COOKIE_SECURE": True,
        "SESSION_COOKIE_AGE": 28_800,
        "LANGUAGE_COOKIE_SECURE": True,
    }


@pytest.mark.django_db
def test_cookies__have_no_domain_and_no_script_reads_them() -> None:
    User.objects.create_superuser("boss", password="correct-horse-battery")
    client = Client()
    form = {"username": "boss", "password": "correct-horse-battery"}
    client.get("/admin/login/")
    client.post("/admin/login/", form)
    assert set(client.cookies) == {"sessionid", "csrftoken"}
    for cookie in client.cookies.values():
        assert cookie["domain"] == ""  # browsers refuse a `__Host-` cookie with one
        assert cookie["path"] == "/"
        assert cookie["httponly"] is True
        assert cookie["samesite"] == "Lax"


@pytest.mark.django_db
def test_every_answer__has_the_policies(client: Client) -> None:
    for address in ("/admin/login/", "/admin/no-such-page/", "/readyz"):
        headers = client.get(address).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"], address
        assert "camera=()" in headers["Permissions-Policy"], address
        assert headers["X-Frame-Options"] == "DENY"
