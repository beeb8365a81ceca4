"""Release a lease whose holder is dead or stuck. Needs only the database."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from exchanges.db import leases
from orders.management.helpers import one_line_errors, shell_actor


class Command(BaseCommand):
    help = (
        "Release a lease, so that the next worker may do its work. Without a name: list the leases"
        " that are held. A holder that is still at work notices it and stops."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?", help="such as sync:main")
        parser.add_argument("--reason", default="", help="reason for taking the lease away")
        parser.add_argument(
            "--steal-for",
            metavar="SECONDS",
            type=float,
            help="hold it for so many seconds, so that no worker does the work meanwhile",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        with one_line_errors():
            if options["name"] is None:
                self._list()
            else:
                self._take_away(options["name"], options["reason"], options["steal_for"])

    def _list(self) -> None:
        rows = list(leases.held_leases())
        for row in rows:
            self.stdout.write(f"{row.name}: {row.holder} until {row.expires_at:%H:%M:%S} UTC")
        if not rows:
            self.stdout.write("No lease is held.")

    def _take_away(self, name: str, reason: str, seconds: float | None) -> None:
        if not reason.strip():
            raise CommandError("A reason is required.")
        actor = shell_actor()
        if seconds is None:
            is_done = leases.release(name, reason=reason, actor=actor)
        else:
            is_done = leases.steal(name, seconds=seconds, reason=reason, actor=actor)
        if not is_done:
            raise CommandError(f"no lease is held under the name {name!r}")
        self.stdout.write(f"Released: {name}." if seconds is None else f"Held: {name}.")
