"""Compute the hash of a journal entry. Pure, so that an auditor can compute it with any tool.

The hash is the SHA-256 of the entry's fields as JSON: keys sorted, no spaces, UTF-8, times in ISO
8601 with microseconds and UTC. `previous_hash` is one of the fields, which makes the chain.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any

GENESIS = "0" * 64
FIELDS = (
    *("id", "at", "source", "person", "address", "session", "verb", "account"),
    *("subject", "touched", "reason", "before", "after", "previous_hash"),
)


def digest(entry: Any, **instead: Any) -> str:
    """Return the hash of an entry, or of the entry with other values `instead`."""
    values = {name: instead.get(name, getattr(entry, name)) for name in FIELDS}
    values["at"] = time_text(values["at"])
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode()).hexdigest()


def time_text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def plain_json(value: Any) -> Any:
    """Return the value as JSON that the database gives back unchanged.

    A number with a fraction becomes text, because PostgreSQL may write it in another way.
    """
    if isinstance(value, Mapping):
        return {clean(str(name)): plain_json(item) for name, item in value.items()}
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes):
        return [plain_json(item) for item in value]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    return clean(str(value))


def clean(text: str, longest: int | None = None) -> str:
    """Return text that PostgreSQL can store: an act must not fail for a stray character."""
    text = text.replace("\0", "").encode("utf-8", "replace").decode()
    return text if longest is None else text[:longest]
