"""Follow the private WebSocket of every enabled account, or of one."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from exchanges.checks import refuse_danger
from exchanges.models import ExchangeAccount
from orders.stand_in import neglected_accounts, stand_in
from orders.stream.listener import Duties, listen_forever


class Command(BaseCommand):
    help = "Follow the user data stream of every enabled account until SIGTERM."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--account", help="only this account")

    def handle(self, *args: Any, **options: Any) -> None:
        refuse_danger()
        name = options["account"]
        if name is not None and not ExchangeAccount.objects.filter(name=name).exists():
            raise CommandError(f"there is no account named {name!r}")
        listen_forever(name, Duties(neglected_accounts, stand_in))
