"""Cancel one order by its intent. Needs the database and the exchange, but no broker."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from exchanges.types import plain
from orders import services
from orders.intents import InvalidIntent
from orders.management.helpers import (
    one_line_errors,
    shell_actor,
    use_reserved_connections,
)
from orders.models import Order
from orders.states import CLOSED, OPEN, OrderStatus


class Command(BaseCommand):
    help = "Cancel an order by its intent ID. Works with the broker down."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("intent_id", metavar="INTENT_ID")
        parser.add_argument("--account", required=True, help="name of the exchange account")
        parser.add_argument("--reason", required=True, help="reason, stored in the order's history")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["reason"].strip():
            raise CommandError("A reason is required.")
        use_reserved_connections()
        with one_line_errors():
            try:
                order = services.cancel_order(
                    account=options["account"],
                    intent_id=options["intent_id"],
                    requested_by=shell_actor(),
                    reason=options["reason"],
                )
            except InvalidIntent as error:
                raise CommandError(str(error)) from None
            self.stdout.write(
                f"{options['account']} {order.intent_id}: {order.status}, {result_of(order)}"
            )


def result_of(order: Order) -> str:
    """Describe the result of a cancel, from the order as it is afterwards."""
    if order.status in CLOSED:
        if order.cancel_requested_at is None:
            return "closed before anyone asked to cancel it"
        if order.status != OrderStatus.CANCELED:
            return "closed before the cancel arrived"
        return _canceled(order)
    if order.status in OPEN:
        return "the exchange has not confirmed the cancel. The sweep keeps asking."
    return "cancel requested. The order will be canceled once its state is known."


def _canceled(order: Order) -> str:
    if order.reason_code == "WITHDRAWN":
        return "canceled before it was sent"
    if order.reason_code == "ABSENT":
        return "not found at the exchange"
    filled = f" after {plain(order.filled_quantity)} were filled" if order.filled_quantity else ""
    return f"confirmed by the exchange{filled}"
