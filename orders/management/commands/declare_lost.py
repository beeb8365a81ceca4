"""Close an order that the exchange will never report. Needs only the database."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from orders import services
from orders.intents import InvalidIntent
from orders.management.helpers import one_line_errors, shell_actor


class Command(BaseCommand):
    help = (
        "Declare an order lost: it is closed and its money is free. If the exchange shows it after"
        " all, the order takes the exchange's state and a break is opened."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("intent_id", metavar="INTENT_ID")
        parser.add_argument("--account", required=True, help="name of the exchange account")
        parser.add_argument("--reason", required=True, help="reason, stored in the order's history")

    def handle(self, *args: Any, **options: Any) -> None:
        with one_line_errors():
            try:
                order = services.declare_lost(
                    account=options["account"],
                    intent_id=options["intent_id"],
                    declared_by=shell_actor(),
                    reason=options["reason"],
                )
            except InvalidIntent as error:
                raise CommandError(str(error)) from None
            self.stdout.write(f"{options['account']} {order.intent_id}: {order.status}")
