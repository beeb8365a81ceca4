"""Warnings about settings of signing in."""

from __future__ import annotations

from pytest_django.fixtures import Settings

from backoffice.people.checks import check_sign_in


def test_check_sign_in__warns_of_a_proxy_that_nobody_counts(settings: Settings) -> None:
    settings.SECOND_FACTOR = "live"
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    assert [each.id for each in check_sign_in()] == ["people.W001"]
    settings.TRUSTED_PROXIES = 1
    assert check_sign_in() == []


def test_check_sign_in__warns_of_an_optional_factor(settings: Settings) -> None:
    settings.SECOND_FACTOR = "optional"
    assert [each.id for each in check_sign_in()] == ["people.W002"]
