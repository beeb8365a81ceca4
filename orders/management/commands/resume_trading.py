"""Lifts a halt from the shell. Needs the database alone."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from exchanges import services
from exchanges.models import ExchangeAccount, TradingHalt, TradingState
from orders.management.shell import account_named, one_line_errors, shell_actor


class Command(BaseCommand):
    help = "Lift the halt of one account, or that of all trading; accounts that were halted by themselves stay so."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--account", help="default: the halt of all trading")
        parser.add_argument("--reason", required=True, help="why it may go on")
        parser.add_argument(
            "--despite-unsafe-key-as", metavar="SUPERUSER", help="who answers for a live account whose key is not safe"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["reason"].strip():
            raise CommandError("reason: say why")
        with one_line_errors():
            account = account_named(options["account"]) if options["account"] else None
            superuser = options["despite_unsafe_key_as"]
            actor = _superuser(superuser) if superuser else shell_actor()
            try:
                services.resume_trading(
                    account=account, reason=options["reason"], actor=actor, despite_unsafe_key=bool(superuser)
                )
            except services.UnsafeAccount as unsafe:
                raise CommandError(str(unsafe)) from None
            self.stdout.write(f"Resumed: {account or 'all trading'}.")
            for line in _still_halted(account):
                self.stdout.write(line)


def _superuser(name: str) -> str:
    found = get_user_model().objects.filter(username=name, is_superuser=True, is_active=True)
    if not found.exists():
        raise CommandError(f"{name!r} is not an active superuser")
    return f"{name} ({shell_actor()})"


def _still_halted(account: ExchangeAccount | None) -> list[str]:
    """What keeps the resumed accounts from trading nevertheless."""
    everything = TradingHalt.objects.filter(pk=TradingHalt.ROW, is_halted=True).first()
    lines = [f"All trading is still halted: {everything.reason}"] if everything else []
    if account is None:
        rows = ExchangeAccount.objects.filter(is_enabled=True, trading_state=TradingState.HALTED)
        lines += [f"{row.name} is still halted by itself: {row.trading_state_reason}" for row in rows]
    return lines
