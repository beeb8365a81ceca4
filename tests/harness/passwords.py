"""Hash passwords quickly: most tests that make a person with a password are about other things."""

from __future__ import annotations

from django.contrib.auth.hashers import PBKDF2PasswordHasher


class QuickHasher(PBKDF2PasswordHasher):
    """Hash with one round. Production's hasher, say of a web process, can check the result."""

    iterations = 1
