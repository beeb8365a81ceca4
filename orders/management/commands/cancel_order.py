"""Cancels one order by its intent. Needs the database and the exchange, but no broker."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from exchanges.types import plain
from orders import services
from orders.intents import InvalidIntent
from orders.management.shell import one_line_errors, shell_actor
from orders.models import Order
from orders.states import CLOSED, OPEN, OrderStatus


class Command(BaseCommand):
    help = "Cancel an order by its intent id. Works with the broker down."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("intent_id", metavar="INTENT_ID")
        parser.add_argument("--account", required=True, help="name of its exchange account")
        parser.add_argument("--reason", required=True, help="why, for the order's history")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["reason"].strip():
            raise CommandError("reason: say why")
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
            self.stdout.write(f"{options['account']} {order.intent_id}: {order.status}, {result_of(order)}")


def result_of(order: Order) -> str:
    """What a cancel has come to, in words, from the order as it is after it."""
    if order.status in CLOSED:
        if order.cancel_requested_at is None:
            return "closed before anybody asked to cancel it"
        if order.status != OrderStatus.CANCELED:
            return "closed before the cancel arrived"
        return _canceled(order)
    if order.status in OPEN:
        return "the exchange has not confirmed the cancel: the sweep goes on asking"
    return "the wish is recorded: canceled as soon as it is known whether it was placed"


def _canceled(order: Order) -> str:
    if order.reason_code == "WITHDRAWN":
        return "withdrawn: it was never sent"
    if order.reason_code == "ABSENT":
        return "the exchange never had it"
    filled = f" after {plain(order.filled_quantity)} were filled" if order.filled_quantity else ""
    return f"confirmed by the exchange{filled}"
