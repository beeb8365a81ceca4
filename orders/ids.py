"""Create identifiers: keys for our rows, and client order ids for the exchange."""

from __future__ import annotations

import base64
import hashlib
import os
from uuid import UUID

from django.conf import settings

from exchanges import clock

OUR_PREFIX = "bo-"


def uuid7() -> UUID:
    """Return a UUIDv7 (RFC 9562 §5.7): 48 bits of milliseconds, then random bits.

    It sorts by the time it was created.
    """
    value = clock.now_ms() << 80 | int.from_bytes(os.urandom(10), "big")
    value &= ~(0xF << 76 | 0x3 << 62)
    return UUID(int=value | 0x7 << 76 | 0x2 << 62)


def intent_hash(*, deployment_id: str, environment: str, account: str, intent_id: str) -> str:
    """Return 26 characters of lower-case base32, the same for an intent on any machine, always."""
    text = "\n".join((deployment_id, environment, account, intent_id))
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return base64.b32encode(digest).decode().rstrip("=").lower()


def client_order_id(hashed_intent: str, attempt: int) -> str:
    """Return the id for the exchange: `bo-` + hash + `-` + attempt.

    It has at most 36 characters of `[a-z0-9-]`.
    """
    return f"{OUR_PREFIX}{hashed_intent}-{attempt}"


def split_client_order_id(text: str) -> tuple[str, int] | None:
    """Return the intent's hash and the attempt, or None if the id doesn't have our form."""
    prefix, _, rest = text.partition("-")
    hashed, _, attempt = rest.rpartition("-")
    if (
        f"{prefix}-" != OUR_PREFIX
        or len(hashed) != 26
        or not attempt.isascii()
        or not attempt.isdigit()
    ):
        return None
    return hashed, int(attempt)


def hash_for(*, environment: str, account: str, intent_id: str) -> str:
    """Return the intent's hash in this deployment (`DEPLOYMENT_ID`)."""
    return intent_hash(
        deployment_id=settings.DEPLOYMENT_ID,
        environment=environment,
        account=account,
        intent_id=intent_id,
    )
