"""Choose the accounts for readings that all accounts of an environment share."""

from __future__ import annotations

from django.db.models import QuerySet

from exchanges.models import ExchangeAccount


def one_of_each_environment() -> list[str]:
    """Return the name of one enabled account for each environment in use."""
    chosen: dict[tuple[str, str], str] = {}
    for account in ExchangeAccount.objects.filter(is_enabled=True):
        chosen.setdefault((account.exchange, account.environment), account.name)
    return list(chosen.values())


def others_of_environment(account: ExchangeAccount) -> QuerySet[ExchangeAccount]:
    """Return the other enabled accounts of the account's environment."""
    return ExchangeAccount.objects.filter(
        exchange=account.exchange, environment=account.environment, is_enabled=True
    ).exclude(pk=account.pk)
