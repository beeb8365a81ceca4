"""Identifiers: ours for rows, and the one an exchange is sent."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from uuid import UUID

OUR_PREFIX = "bo-"


def uuid7() -> UUID:
    """A UUIDv7 (RFC 9562 §5.7): 48 bits of milliseconds, then random bits; sorts by the time it was made."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value &= ~(0xF << 76 | 0x3 << 62)
    return UUID(int=value | 0x7 << 76 | 0x2 << 62)


def intent_hash(*, deployment_id: str, environment: str, account: str, intent_id: str) -> str:
    """26 characters of lower-case base32 that the same intent gives on any machine, for ever."""
    text = "\n".join((deployment_id, environment, account, intent_id))
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return base64.b32encode(digest).decode().rstrip("=").lower()


def client_order_id(hashed_intent: str, attempt: int) -> str:
    """What the exchange is sent: `bo-` + hash + `-` + attempt; at most 36 characters of `[a-z0-9-]`."""
    return f"{OUR_PREFIX}{hashed_intent}-{attempt}"


def split_client_order_id(text: str) -> tuple[str, int] | None:
    """The intent's hash and the attempt, or None where the id is not one of ours in form."""
    prefix, _, rest = text.partition("-")
    hashed, _, attempt = rest.rpartition("-")
    if f"{prefix}-" != OUR_PREFIX or len(hashed) != 26 or not attempt.isascii() or not attempt.isdigit():
        return None
    return hashed, int(attempt)
