"""Check that the journal is unchanged. Needs only the database."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from backoffice.people.journal.anchors import Anchor, read_anchors
from backoffice.people.journal.verifying import Result, verify
from orders.management.helpers import one_line_errors


class Command(BaseCommand):
    help = (
        "Check the chain of the journal: every entry, the links between them, the end, and the"
        " anchors. Exit status 1 if something was changed. The first line names the first bad"
        " entry."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the result as JSON")
        parser.add_argument(
            "--anchors",
            action="append",
            metavar="FILE",
            default=[],
            help="a file of anchors, or a log of JSON lines. Default: JOURNAL_ANCHOR_FILE",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        anchors = list(_anchors(options["anchors"]))
        with one_line_errors():
            result = verify(anchors)
        if options["json"]:
            self.stdout.write(json.dumps(asdict(result)))
        else:
            self._print(result)
        if result.findings:
            sys.exit(1)

    def _print(self, result: Result) -> None:
        for finding in result.findings:
            self.stdout.write(str(finding))
        checked = f"{result.entries} entries and {result.anchors} anchors checked"
        verdict = f"{len(result.findings)} findings" if result.findings else "nothing was changed"
        self.stdout.write(f"{checked}: {verdict}.")
        if not result.anchors:
            self.stdout.write("Without anchors, a chain that was rebuilt as a whole is not seen.")


def _anchors(files: list[str]) -> list[Anchor]:
    own = [settings.JOURNAL_ANCHOR_FILE] if settings.JOURNAL_ANCHOR_FILE else []
    found: list[Anchor] = []
    for file in files or own:
        try:
            found += read_anchors(Path(file))
        except OSError as error:
            raise CommandError(f"--anchors: cannot read {file}: {error.strerror}") from None
    return found
