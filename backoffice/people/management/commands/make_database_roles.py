"""Make the database's roles and give each its rights. Run it as the owner, after `migrate`."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction
from psycopg import sql

from backoffice.people.database_roles import APPLICATION, READER, WEB, rights, tables
from orders.management.helpers import one_line_errors


class Command(BaseCommand):
    help = (
        "Make the roles backoffice_application, backoffice_web and backoffice_reader, each with its"
        " password from DATABASE_APPLICATION_PASSWORD, DATABASE_WEB_PASSWORD and"
        " DATABASE_READER_PASSWORD, and give each exactly its rights. A role without a password is"
        " left out. Run it again after each migrate."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        passwords = {
            APPLICATION: settings.DATABASE_APPLICATION_PASSWORD,
            WEB: settings.DATABASE_WEB_PASSWORD,
            READER: settings.DATABASE_READER_PASSWORD,
        }
        wanted = {role: password for role, password in passwords.items() if password}
        if not wanted:
            raise CommandError("none of the DATABASE_…_PASSWORD variables is set")
        with one_line_errors(), transaction.atomic():
            for role, password in wanted.items():
                make_role(role, password)
                give_rights(role)
                self.stdout.write(f"Role: {role}")


def make_role(role: str, password: str) -> None:
    """Create the role if it is new, and set its password."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", [role])
        verb = "ALTER" if cursor.fetchone() is not None else "CREATE"
        statement = sql.SQL("{verb} ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE").format(
            verb=sql.SQL(verb), role=sql.Identifier(role)
        )
        given = sql.SQL(" PASSWORD {password}").format(password=sql.Literal(password))
        cursor.execute((statement + given).as_string(None))


def give_rights(role: str) -> None:
    known = set(connection.introspection.table_names())
    with connection.cursor() as cursor:
        for statement in rights(role, [table for table in tables() if table in known]):
            cursor.execute(statement)
