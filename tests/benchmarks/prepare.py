"""Make the tables and the accounts of a benchmark in the database of `DATABASE_URL`."""

from __future__ import annotations

import os
import sys

import django
from django.core.management import call_command


def main(*accounts: str) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
    django.setup()
    from exchanges.models import Environment, ExchangeAccount

    call_command("migrate", verbosity=0)
    for account in accounts:
        ExchangeAccount.objects.create(name=account, environment=Environment.SIMULATOR)


if __name__ == "__main__":
    main(*sys.argv[1:])
