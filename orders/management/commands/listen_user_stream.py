"""Follow the private WebSocket of every enabled account, or of one."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from exchanges.collector import collect_seldom
from exchanges.models import ExchangeAccount
from orders.listener import listen_forever


class Command(BaseCommand):
    help = "Follow the user data stream of every enabled account until SIGTERM."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--account", help="only this account")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["account"]
        if name is not None and not ExchangeAccount.objects.filter(name=name).exists():
            raise CommandError(f"there is no account named {name!r}")
        collect_seldom()
        listen_forever(name)
