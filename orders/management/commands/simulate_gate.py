"""Preview the gate's answer to an order, from our stored data. Sends and stores nothing."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from orders.gate.preview import simulate_gate
from orders.intents import InvalidIntent
from orders.management.helpers import one_line_errors

_ARGUMENTS = (
    "symbol",
    "side",
    "order_type",
    "quantity",
    "quote_quantity",
    "price",
    "stop_price",
    "time_in_force",
    "strategy",
)


class Command(BaseCommand):
    help = (
        "Show how the gate would answer an order, without sending it. Exit status 1 if it would"
        " not pass."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--account", required=True, help="name of the exchange account")
        for name in _ARGUMENTS:
            required = name in ("symbol", "side", "order_type")
            parser.add_argument(
                f"--{name.replace('_', '-')}", required=required, help="as in orders.submit_order"
            )

    def handle(self, *args: Any, **options: Any) -> None:
        given = {
            name: options[name] for name in ("account", *_ARGUMENTS) if options[name] is not None
        }
        with one_line_errors():
            try:
                answer = simulate_gate(given)
            except InvalidIntent as error:
                raise CommandError(str(error)) from None
        self.stdout.write(f"{answer.code}: {answer.text}")
        if not answer.passes:
            sys.exit(1)
