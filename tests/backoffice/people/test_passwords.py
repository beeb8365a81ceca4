"""Passwords that are refused, and that are not."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError


@pytest.mark.parametrize(
    "password",
    [
        "elevenchars",
        "password123456",
        "P@ssw0rd!2026",
        "iloveyou!!!!!!!!",
        "!!!!Princess1999",
        "BinanceTrading2026!",
        "bitcoin-bitcoin-1",
        "admin-admin-admin",
        "aaaaaaaaaaaaaa",
        "abcabcabcabcabc",
        "qwerty123456qwerty",
        "123456789012345",
        "BackOffice#2027",
        "пароль1234567",
        "pat-trades-here",
    ],
)
def test_password__that_is_guessed_first_is_refused(password: str) -> None:
    with pytest.raises(ValidationError):
        validate_password(password, User(username="pat-trades"))


@pytest.mark.parametrize(
    "password",
    [
        "correct-horse-battery",
        "mauve kettle sings low",
        "x7Kq-93vP-wL2m",
        "тихий самовар поёт",
        "order more blue herons",
        "my trading desk faces north",
    ],
)
def test_password__that_nobody_expects_passes(password: str) -> None:
    validate_password(password, User(username="pat"))
