"""The exchange simulator in the foreground."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from exchanges.simulator import cli


class Command(BaseCommand):
    help = (
        "Run the exchange simulator alone, until Ctrl-C or SIGTERM."
        " It needs no database and no broker."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        cli.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        if status := cli.serve(Namespace(**options)):
            sys.exit(status)
