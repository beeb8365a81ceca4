"""Compare accounts with the exchange, repair what evidence decides, and print open breaks."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.core.serializers.json import DjangoJSONEncoder

from exchanges.errors import GatewayError
from exchanges.models import ExchangeAccount
from orders.management.helpers import account_named, one_line_errors
from orders.models import ReconciliationBreak
from orders.reconciliation.account import reconcile_account


class Command(BaseCommand):
    help = (
        "Compare one account, or every enabled one, with the exchange, repair the differences, and"
        " print the open breaks. Exit status 1 if an account could not be compared."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--account", help="default: every enabled account")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        with one_line_errors():
            if options["account"]:
                accounts = [account_named(options["account"])]
            else:
                accounts = list(ExchangeAccount.objects.filter(is_enabled=True))
            found = [compare(account) for account in accounts]
        if options["json"]:
            self.stdout.write(json.dumps({"accounts": found}, cls=DjangoJSONEncoder, indent=2))
        else:
            self._print(found)
        if any(row["error"] for row in found):
            sys.exit(1)

    def _print(self, found: list[dict[str, Any]]) -> None:
        if not found:
            self.stdout.write("No account is enabled.")
        for row in found:
            self.stdout.write(f"{row['account']}: {row['error'] or _done(row['counts'])}")
            self.stdout.write(f"  {_open_breaks(len(row['breaks']))}")
            for item in row["breaks"]:
                intent = f" of intent {item['intent_id']}" if item["intent_id"] else ""
                details = json.dumps(item["details"], sort_keys=True)
                break_ = f"{item['kind']} {item['subject']}{intent} {details}"
                self.stdout.write(f"  {item['opened_at']:%Y-%m-%d %H:%M:%S} {break_}")


def compare(account: ExchangeAccount) -> dict[str, Any]:
    """Compare one account. Return its counts or error, and its open breaks."""
    counts, error = dict[str, int](), ""
    try:
        counts = reconcile_account(account)
    except GatewayError as problem:
        error = f"{type(problem).__name__}: {problem}"
    return {
        "account": account.name,
        "error": error,
        "counts": counts,
        "breaks": open_breaks(account),
    }


def open_breaks(account: ExchangeAccount) -> list[dict[str, Any]]:
    """Return the account's open breaks, oldest first."""
    rows = ReconciliationBreak.objects.filter(
        account=account, resolved_at__isnull=True
    ).select_related("order")
    return [
        {
            "kind": row.kind,
            "subject": row.subject,
            "order_id": row.order_id,
            "intent_id": row.order.intent_id if row.order else None,
            "opened_at": row.opened_at,
            "details": row.details,
        }
        for row in rows.order_by("opened_at")
    ]


def _done(counts: dict[str, int]) -> str:
    if counts.get("skipped"):
        return "another process is comparing this account right now"
    return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items())


def _open_breaks(count: int) -> str:
    return {0: "no open break", 1: "1 open break:"}.get(count, f"{count} open breaks:")
