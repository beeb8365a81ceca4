"""Warn of settings that would make signing in weaker than it looks."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Tags, register
from django.core.checks import Warning as CheckWarning


@register(Tags.security, deploy=True)
def check_sign_in(**_: Any) -> list[CheckMessage]:
    """Report a proxy whose address hides all others, and a second factor that isn't required."""
    found: list[CheckMessage] = []
    if settings.SECURE_PROXY_SSL_HEADER and not settings.TRUSTED_PROXIES:
        found.append(
            CheckWarning(
                "All requests seem to come from the address of the proxy, so one person's failed"
                " sign-ins lock all people out.",
                hint="Set TRUSTED_PROXIES to the number of proxies in front of the site.",
                id="people.W001",
            )
        )
    if settings.SECOND_FACTOR == "optional":
        found.append(
            CheckWarning(
                "A password alone opens the site, also with live accounts.",
                hint="Set SECOND_FACTOR to live or always.",
                id="people.W002",
            )
        )
    return found
