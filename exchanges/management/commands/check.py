"""Django's `check`, which looks at the accounts of the database too."""

from __future__ import annotations

from typing import Any

from django.core.management.commands import check
from django.db import DatabaseError, connections


class Command(check.Command):
    """Check the accounts in the database too, which Django leaves out unless it is named."""

    def handle(self, *app_labels: Any, **options: Any) -> None:
        if options["databases"] is None and self._database_answers():
            options["databases"] = ["default"]
        super().handle(*app_labels, **options)

    def _database_answers(self) -> bool:
        try:
            connections["default"].ensure_connection()
        except DatabaseError as error:
            self.stderr.write(
                f"The database does not answer ({type(error).__name__}). Accounts are not checked."
            )
            return False
        return True
