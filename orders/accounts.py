"""Find the account behind a name that a caller gave."""

from __future__ import annotations

from exchanges import clock
from exchanges.models import ExchangeAccount
from orders.intents import invalid

_accounts: dict[str, tuple[float, ExchangeAccount]] = {}
_KEEP_ACCOUNT_SECONDS = 5.0


def known_account(name: str) -> ExchangeAccount:
    """Return the account from a cache of some seconds. Raises `InvalidIntent` if there is none.

    Use only its name and environment, which never change. The gate reads everything else from the
    row itself, in the claim's transaction.
    """
    found = _accounts.get(name)
    if found is not None and clock.monotonic() - found[0] < _KEEP_ACCOUNT_SECONDS:
        return found[1]
    account = account_named(name)
    _accounts[name] = (clock.monotonic(), account)
    return account


def account_named(name: str) -> ExchangeAccount:
    """Return the account. Raises `InvalidIntent` if there is none."""
    try:
        return ExchangeAccount.objects.get(name=name)
    except ExchangeAccount.DoesNotExist:
        raise invalid("account", f"there is no account named {name!r}") from None


def forget_account(name: str) -> None:
    """Drop the account from the cache, because its name belongs to another row now."""
    _accounts.pop(name, None)
