"""Fixtures for the pages of the admin."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client


@pytest.fixture
def boss(client: Client) -> Client:
    """Return a client that is signed in with every permission."""
    client.force_login(User.objects.create_superuser("boss"))
    return client
