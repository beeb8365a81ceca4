"""Declare that the exchange was reset: its numbers begin again. Needs only the database."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from exchanges.models import TradingState
from orders import services
from orders.intents import InvalidIntent
from orders.management.helpers import one_line_errors, shell_actor


class Command(BaseCommand):
    help = (
        "Begin a new epoch after a reset of the exchange: every order that was open is declared"
        " lost, and numbers of before mean nothing. The account needs no new row. A halted account"
        " stays halted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--account", required=True, help="name of the exchange account")
        parser.add_argument("--reason", required=True, help="reason, stored with the epoch")

    def handle(self, *args: Any, **options: Any) -> None:
        with one_line_errors():
            try:
                account = services.begin_epoch(
                    account=options["account"], begun_by=shell_actor(), reason=options["reason"]
                )
            except InvalidIntent as error:
                raise CommandError(str(error)) from None
            self.stdout.write(f"{account.name}: epoch {account.epoch} has begun.")
            if account.trading_state == TradingState.HALTED:
                self.stdout.write("The account is halted. resume_trading lets it trade again.")
