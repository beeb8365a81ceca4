"""Share code between commands: the actor, accounts by name, and errors in one line."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import CommandError
from django.db import Error, connection

from exchanges.acts import Origin, Source, acting
from exchanges.models import ExchangeAccount
from orders.stopping import Scope


def shell_actor() -> str:
    """Return the actor for events: `shell:` and the operating system's user.

    Not by `getpass`, which believes the variable LOGNAME.
    """
    try:
        return f"shell:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:  # a container's user may have no name
        return f"shell:{os.getuid()}"


def account_named(name: str) -> ExchangeAccount:
    """Return the account. Raises `CommandError` with the known names."""
    account = ExchangeAccount.objects.filter(name=name).first()
    if account is None:
        known = ", ".join(ExchangeAccount.objects.values_list("name", flat=True)) or "none"
        raise CommandError(f"there is no account {name!r}; known: {known}")
    return account


def use_reserved_connections() -> None:
    """Let this process take a connection that is reserved for halts."""
    connection.settings_dict["OPTIONS"]["reserved"] = 0


def scope_of(options: dict[str, Any]) -> Scope:
    """Return the part of trading that `--account`, `--symbol` and `--strategy` name."""
    account = account_named(options["account"]) if options["account"] else None
    symbol = options["symbol"].replace("/", "").strip().upper()
    return Scope(account, symbol, options["strategy"].strip())


def scope_text(scope: Scope) -> str:
    """Return the name of the part of trading that a command halted or resumed."""
    parts = [scope.strategy and f"strategy {scope.strategy}", scope.symbol]
    parts.append(scope.account.name if scope.account else "")
    return ", ".join(filter(None, parts)) or "all trading"


#: The way to stop trading while a halt can't be recorded.
WITHOUT_DATABASE = (
    "it is not known whether this was recorded. To stop trading without the database, stop the"
    " workers and the listener, or disable the API key at the exchange"
)


@contextmanager
def one_line_errors(advice: str = "") -> Iterator[None]:
    """Report a database that doesn't answer in one line instead of a traceback.

    `advice` follows the error. The acts of this block are those of the shell's user.
    """
    try:
        with acting(lambda: Origin(Source.SHELL, shell_actor())):
            yield
    except Error as error:
        reason = " ".join(str(error).split())
        text = f"the database does not answer: {reason}"
        raise CommandError(f"{text}; {advice}" if advice else text) from None
