"""What the commands share: who runs them, which accounts they are about, and errors in one line."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import CommandError
from django.db import DatabaseError

from exchanges.models import ExchangeAccount


def shell_actor() -> str:
    """Who to name in events: `shell:` and the operating system's user."""
    try:
        return f"shell:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user need not have a name
        return f"shell:{os.getuid()}"


def account_named(name: str) -> ExchangeAccount:
    account = ExchangeAccount.objects.filter(name=name).first()
    if account is None:
        known = ", ".join(ExchangeAccount.objects.values_list("name", flat=True)) or "none"
        raise CommandError(f"there is no account {name!r}; known: {known}")
    return account


@contextmanager
def one_line_errors() -> Iterator[None]:
    """A database that does not answer is told in one line, not by a traceback."""
    try:
        yield
    except DatabaseError as error:
        reason = " ".join(str(error).split())
        raise CommandError(f"the database does not answer: {reason}") from None
