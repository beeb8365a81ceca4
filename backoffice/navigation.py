"""What the admin's frame shows: the environment badge."""

from __future__ import annotations

from django.http import HttpRequest
from django.utils.translation import gettext as _

from exchanges.models import Environment, ExchangeAccount


def environment_badge(request: HttpRequest) -> list[str]:
    """The most serious environment among the enabled accounts, with unfold's colour for it."""
    environments = set(ExchangeAccount.objects.filter(is_enabled=True).values_list("environment", flat=True))
    if Environment.LIVE in environments:
        return [_("live"), "danger"]
    if Environment.TESTNET in environments:
        return [_("testnet"), "warning"]
    return [_("simulator"), "success"]
