"""Halt trading from the shell. Needs only the database. `--cancel-open` needs the exchange, too."""

from __future__ import annotations

import sys
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from exchanges import clock, trading_state
from orders import stopping
from orders.management.commands.cancel_order import result_of
from orders.management.helpers import (
    WITHOUT_DATABASE,
    one_line_errors,
    scope_of,
    scope_text,
    shell_actor,
    use_reserved_connections,
)
from orders.stopping import Proof, Scope

PATIENCE_SECONDS = 30.0
PAUSE_SECONDS = 1.0


class Command(BaseCommand):
    help = (
        "Halt trading of one account, or of all accounts including future ones, as a whole or"
        " of one symbol or strategy: no new order is sent. With --cancel-open, cancel every"
        " order that is not closed. Exit status 1 if some are still open after 30 s."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--account", help="default: all trading")
        parser.add_argument("--symbol", default="", help="only this symbol, such as BTCUSDT")
        parser.add_argument("--strategy", default="", help="only the orders of this strategy")
        parser.add_argument(
            "--reason", required=True, help="reason, shown to everyone who sees the halt"
        )
        parser.add_argument(
            "--only-reduce",
            action="store_true",
            help="reduce only: buy nothing, still sell for money. Needs --account",
        )
        parser.add_argument(
            "--cancel-open",
            action="store_true",
            help="cancel all orders that are not closed, and wait",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["reason"].strip():
            raise CommandError("A reason is required.")
        use_reserved_connections()
        with one_line_errors(WITHOUT_DATABASE):
            scope = scope_of(options)
            if options["only_reduce"]:
                self._reduce(scope, options["reason"])
            else:
                stopping.halt(scope, reason=options["reason"], actor=shell_actor())
                self.stdout.write(f"Halted: {scope_text(scope)}.")
            if options["cancel_open"]:
                self._cancel_open(scope, options["reason"])

    def _reduce(self, scope: Scope, reason: str) -> None:
        account = scope.account
        if account is None or scope.symbol or scope.strategy:
            raise CommandError("--only-reduce needs --account, and no --symbol or --strategy.")
        if not trading_state.reduce_trading(account=account, reason=reason, actor=shell_actor()):
            raise CommandError(f"{account} is still halted. Resume it first.")
        self.stdout.write(f"Reduce only: {account}.")

    def _cancel_open(self, scope: Scope, reason: str) -> None:
        """Cancel and compare with the exchange until it shows no open order or time is up."""
        give_up_at = clock.monotonic() + PATIENCE_SECONDS
        asked: set[UUID] = set()
        while True:
            asked |= {order.pk for order in scope.not_closed()}
            proof = stopping.press_on(
                scope, reason=reason, actor=shell_actor(), give_up_at=give_up_at
            )
            if proof.is_complete or clock.monotonic() > give_up_at:
                break
            clock.sleep(PAUSE_SECONDS)
        self._report(proof, asked)

    def _report(self, proof: Proof, asked: set[UUID]) -> None:
        closed = len(asked - {order.pk for order in proof.left})
        self.stdout.write(f"{closed} canceled or closed, {len(proof.left)} still open.")
        for order in proof.left:
            self.stderr.write(
                f"{order.account.name} {order.intent_id}: {order.status}, {result_of(order)}"
            )
        for name, trouble in proof.troubles.items():
            self.stderr.write(f"{name}: not known what is open at the exchange: {trouble}")
        if not proof.is_complete:
            sys.exit(1)
