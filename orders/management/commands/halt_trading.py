"""The kill switch from the shell. Needs the database alone; `--cancel-open` needs the exchange, too, but no broker."""

from __future__ import annotations

import sys
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from exchanges import clock, services
from exchanges.errors import GatewayError
from exchanges.models import ExchangeAccount
from orders.catchup import sync_open_orders
from orders.intents import InvalidIntent
from orders.management.commands.cancel_order import result_of
from orders.management.shell import account_named, one_line_errors, shell_actor
from orders.models import Order
from orders.services import cancel_order
from orders.states import CLOSED, OrderStatus

PATIENCE_SECONDS = 30.0
PAUSE_SECONDS = 1.0


class Command(BaseCommand):
    help = (
        "Halt trading of one account, or of all that exist and will be made: nothing new is sent. With --cancel-open"
        " every order that is not closed is canceled; exit status 1 if some are left after 30 s."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--account", help="default: all trading")
        parser.add_argument("--reason", required=True, help="why, for everybody who meets the halt")
        parser.add_argument(
            "--only-reduce", action="store_true", help="buy nothing, but sell for money; of one account"
        )
        parser.add_argument("--cancel-open", action="store_true", help="cancel what is not closed, and wait for it")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["reason"].strip():
            raise CommandError("reason: say why")
        with one_line_errors():
            account = account_named(options["account"]) if options["account"] else None
            if options["only_reduce"]:
                self._reduce(account, options["reason"])
            else:
                services.halt_trading(account=account, reason=options["reason"], actor=shell_actor())
                self.stdout.write(f"Halted: {account or 'all trading'}.")
            if options["cancel_open"]:
                self._cancel_open(account, options["reason"])

    def _reduce(self, account: ExchangeAccount | None, reason: str) -> None:
        if account is None:
            raise CommandError("--only-reduce: say which --account")
        if not services.reduce_trading(account=account, reason=reason, actor=shell_actor()):
            raise CommandError(f"{account} is halted, and stays so: resume it first")
        self.stdout.write(f"Only reduces: {account}.")

    def _cancel_open(self, account: ExchangeAccount | None, reason: str) -> None:
        """Cancel, compare with the exchange, and again, until it shows nothing open or time is up."""
        give_up_at = clock.monotonic() + PATIENCE_SECONDS
        asked: set[UUID] = set()
        while True:
            for order in not_closed(account):
                if clock.monotonic() < give_up_at:
                    asked.add(order.pk)
                    self._cancel(order, reason)
            troubles = _compare([account] if account else _concerned())
            left = not_closed(account)
            if (not left and not troubles) or clock.monotonic() > give_up_at:
                break
            clock.sleep(PAUSE_SECONDS)
        self.stdout.write(f"{len(asked - {order.pk for order in left})} canceled or closed, {len(left)} still open.")
        for order in left:
            self.stderr.write(f"{order.account.name} {order.intent_id}: {order.status}, {result_of(order)}")
        for name, trouble in troubles.items():
            self.stderr.write(f"{name}: not known what is open at the exchange: {trouble}")
        if left or troubles:
            sys.exit(1)

    def _cancel(self, order: Order, reason: str) -> None:
        try:
            cancel_order(
                account=order.account.name, intent_id=order.intent_id, requested_by=shell_actor(), reason=reason
            )
        except InvalidIntent as error:  # adopted under another id in this moment: met again in the next round
            self.stderr.write(f"{order.account.name} {order.intent_id}: {error}")


def not_closed(account: ExchangeAccount | None) -> list[Order]:
    """Orders of one account or of all that may still trade, the oldest first."""
    rows = Order.objects.filter(status__in=[*(set(OrderStatus) - CLOSED)]).select_related("account")
    return list((rows if account is None else rows.filter(account=account)).order_by("created_at"))


def _concerned() -> list[ExchangeAccount]:
    """Accounts that trade, or did: a disabled one without open orders need not even have a key."""
    rows = ExchangeAccount.objects.filter(is_enabled=True)
    others = {order.account for order in not_closed(None)}
    return [*rows, *(others - set(rows))]


def _compare(accounts: list[ExchangeAccount]) -> dict[str, str]:
    """Have our book say what the exchange says; account name -> why that could not be done."""
    troubles = {}
    for account in accounts:
        try:
            sync_open_orders(account, wait=True)
        except GatewayError as error:
            troubles[account.name] = str(error)
    return troubles
