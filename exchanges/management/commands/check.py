"""Django's `check`, which looks at the accounts of the database too."""

from __future__ import annotations

from typing import Any

from django.core.management.commands import check
from django.db import DatabaseError, connections


class Command(check.Command):
    """Django leaves the database out unless it is named; what is wrong with an account shows only there."""

    def handle(self, *app_labels: Any, **options: Any) -> None:
        if options["databases"] is None and self._database_answers():
            options["databases"] = ["default"]
        super().handle(*app_labels, **options)

    def _database_answers(self) -> bool:
        try:
            connections["default"].ensure_connection()
        except DatabaseError as error:
            self.stderr.write(f"The database does not answer, its accounts are not looked at ({type(error).__name__}).")
            return False
        return True
