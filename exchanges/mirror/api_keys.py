"""Keep when an account's API key was made and when it expires, as the exchange has it."""

from __future__ import annotations

from exchanges import clock
from exchanges.account_writes import stamp
from exchanges.binance.registry import get_gateway
from exchanges.models import ExchangeAccount
from exchanges.types import KeyPermissions


def read_key(account: ExchangeAccount) -> KeyPermissions:
    """Fetch the permissions of the account's API key, and store its times."""
    permissions = get_gateway(account).fetch_key_permissions()
    stamp(
        account,
        key_created_at=permissions.created_at,
        key_expires_at=permissions.expires_at,
        key_read_at=clock.now(),
    )
    return permissions
