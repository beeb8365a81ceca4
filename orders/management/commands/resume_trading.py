"""Lifts a halt from the shell. Needs the database alone."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from exchanges import services
from exchanges.models import ExchangeAccount, TradingHalt, TradingState
from orders.management.shell import account_named, one_line_errors, shell_actor


class Command(BaseCommand):
    help = "Lift the halt of one account, or that of all trading; accounts that were halted by themselves stay so."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--account", help="default: the halt of all trading")
        parser.add_argument("--reason", required=True, help="why it may go on")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["reason"].strip():
            raise CommandError("reason: say why")
        with one_line_errors():
            account = account_named(options["account"]) if options["account"] else None
            services.resume_trading(account=account, reason=options["reason"], actor=shell_actor())
            self.stdout.write(f"Resumed: {account or 'all trading'}.")
            for line in _still_halted(account):
                self.stdout.write(line)


def _still_halted(account: ExchangeAccount | None) -> list[str]:
    """What keeps the resumed accounts from trading nevertheless."""
    everything = TradingHalt.objects.filter(pk=TradingHalt.ROW, is_halted=True).first()
    lines = [f"All trading is still halted: {everything.reason}"] if everything else []
    if account is None:
        rows = ExchangeAccount.objects.filter(is_enabled=True, trading_state=TradingState.HALTED)
        lines += [f"{row.name} is still halted by itself: {row.trading_state_reason}" for row in rows]
    return lines
