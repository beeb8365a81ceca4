"""Resume trading from the shell, or make a draft of it. Needs only the database."""

from __future__ import annotations

import sys
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser

from backoffice.people import resuming
from backoffice.people.models import ChangeDraft
from exchanges import trading_state
from exchanges.checks import refuse_danger
from exchanges.models import ExchangeAccount, ScopedHalt, TradingHalt, TradingState
from orders.management.helpers import one_line_errors, scope_of, scope_text, shell_actor
from orders.stopping import Scope


class Command(BaseCommand):
    help = (
        "Lift the halt of one account, of a symbol or strategy, or the global halt. Accounts halted"
        " on their own stay halted. Where a rule asks for a second person, make a draft instead,"
        " with exit status 1."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--account", help="default: the global halt")
        parser.add_argument("--symbol", default="", help="the halt of this symbol")
        parser.add_argument("--strategy", default="", help="the halt of this strategy")
        parser.add_argument("--reason", required=True, help="reason for resuming")
        parser.add_argument(
            "--despite-unsafe-key-as",
            metavar="SUPERUSER",
            help="superuser who takes responsibility for a live account whose key is not safe",
        )
        parser.add_argument(
            "--as",
            dest="login",
            default="",
            help="your login, where a rule asks for a second person: you can't be that person."
            " Default: the user of the operating system, if it is a login",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        refuse_danger()
        if not options["reason"].strip():
            raise CommandError("A reason is required.")
        with one_line_errors():
            scope = scope_of(options)
            if scope.symbol or scope.strategy:
                self._resume_scope(scope, options)
            else:
                self._resume(scope.account, options)

    def _resume(self, account: ExchangeAccount | None, options: dict[str, Any]) -> None:
        superuser = options["despite_unsafe_key_as"]
        actor = _superuser(superuser) if superuser else shell_actor()
        rule = resuming.rule_to_resume(account, despite_unsafe_key=bool(superuser))
        try:
            draft = resuming.resume(
                account=account,
                reason=options["reason"],
                actor=actor,
                maker=superuser or (_login(options["login"]) if rule else ""),
                despite_unsafe_key=bool(superuser),
            )
        except (trading_state.UnsafeAccount, trading_state.NewerHalt) as refusal:
            raise CommandError(str(refusal)) from None
        if draft is not None:
            self._say(draft)
        self.stdout.write(f"Resumed: {account or 'all trading'}.")
        for line in _still_halted(account):
            self.stdout.write(line)

    def _resume_scope(self, scope: Scope, options: dict[str, Any]) -> None:
        row = ScopedHalt.objects.filter(
            account=scope.account, symbol=scope.symbol, strategy=scope.strategy
        ).first()
        if row is None:
            raise CommandError(f"{scope_text(scope)} has no halt of its own.")
        maker = _login(options["login"]) if resuming.rule_to_lift(row) else ""
        answer = resuming.resume_halt(
            row, reason=options["reason"], actor=shell_actor(), maker=maker
        )
        if isinstance(answer, ChangeDraft):
            self._say(answer)
        if not answer:
            raise CommandError(f"{scope_text(scope)} has no halt of its own.")
        self.stdout.write(f"Resumed: {scope_text(scope)}.")

    def _say(self, draft: ChangeDraft) -> None:
        """Report the waiting draft, and exit with an error, because nothing is resumed yet."""
        self.stdout.write(
            f"A rule asks for a second person. Draft {draft.pk} waits until"
            f" {draft.expires_at:%Y-%m-%d %H:%M} UTC for somebody other than {draft.maker} to"
            " publish it in the admin, under Drafts."
        )
        sys.exit(1)


def _login(name: str) -> str:
    """Return the login of the person who asks, so that people can't check their own drafts."""
    name = name or shell_actor().removeprefix("shell:")
    if not get_user_model().objects.filter(username=name, is_active=True).exists():
        raise CommandError(
            f"A rule asks for a second person, and {name!r} is no login. Name yours with --as."
        )
    return name


def _superuser(name: str) -> str:
    found = get_user_model().objects.filter(username=name, is_superuser=True, is_active=True)
    if not found.exists():
        raise CommandError(f"{name!r} is not an active superuser")
    return f"{name} ({shell_actor()})"


def _still_halted(account: ExchangeAccount | None) -> list[str]:
    """Return a line for each other halt that still keeps the accounts from trading."""
    everything = TradingHalt.objects.filter(pk=TradingHalt.ROW, is_halted=True).first()
    lines = [f"All trading is still halted: {everything.reason}"] if everything else []
    if account is None:
        rows = ExchangeAccount.objects.filter(is_enabled=True, trading_state=TradingState.HALTED)
        lines += [
            f"{row.name} is still halted on its own: {row.trading_state_reason}" for row in rows
        ]
    return lines
