"""The account behind a name that a caller gave."""

from __future__ import annotations

from exchanges import clock
from exchanges.models import ExchangeAccount
from orders.intents import invalid

_accounts: dict[str, tuple[float, ExchangeAccount]] = {}
_KEEP_ACCOUNT_SECONDS = 5.0


def known_account(name: str) -> ExchangeAccount:
    """The account as it was some seconds ago: only its name and environment are used, which never change.

    What may change, the gate reads from the row itself, in the claim's transaction.
    """
    found = _accounts.get(name)
    if found is not None and clock.monotonic() - found[0] < _KEEP_ACCOUNT_SECONDS:
        return found[1]
    account = account_named(name)
    _accounts[name] = (clock.monotonic(), account)
    return account


def account_named(name: str) -> ExchangeAccount:
    """Raises `InvalidIntent` where there is none."""
    try:
        return ExchangeAccount.objects.get(name=name)
    except ExchangeAccount.DoesNotExist:
        raise invalid("account", f"there is no account named {name!r}") from None


def forget_account(name: str) -> None:
    """The account of this name is another row than it was."""
    _accounts.pop(name, None)
