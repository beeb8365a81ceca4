"""The rights of the database's roles: the limits of a stolen process, no matter what it runs.

The owner migrates, and nothing else signs in as the owner. Workers and the listener use the
application's role, the web site a role of its own, and reports a role that only reads. No role but
the owner's can change the journal, events and fills, disable a trigger or make a table.
"""

from __future__ import annotations

from collections.abc import Iterator

from django.apps import apps

# Nobody changes their rows. Events and fills may move to the order that they belong to.
APPEND_ONLY: dict[str, tuple[str, ...]] = {
    "people_journalentry": (),
    "orders_orderevent": ("order_id",),
    "orders_fill": ("order_id", "exchange_order_id"),
}
# Who may sign in, and who may do what, is decided on the web site alone.
_PEOPLE = ("auth_", "people_", "otp_", "django_otp", "django_admin", "django_session")
# Second factors and sessions open the web site, so only its own role reads them.
_SECRET = ("otp_", "django_otp", "people_personsession", "django_session")
_WRITTEN_BY_ALL = {"people_journalentry", "people_journalhead"}
# A command may ask for a change. Only the web site lets it take effect.
_DRAFTS = "people_changedraft"
_RULES = {"orders_risklimit", "orders_risklimitchange", "orders_reviewrule"}
# A halt ends sessions that stand still in its way, and must see since when they do.
_FOR_HALTS = ("pg_signal_backend", "pg_read_all_stats")

APPLICATION = "backoffice_application"
WEB = "backoffice_web"
READER = "backoffice_reader"
ROLES = (APPLICATION, WEB, READER)


def tables() -> list[str]:
    """Return every table of ours and of the packages."""
    return sorted(
        {
            model._meta.db_table  # noqa: SLF001
            for model in apps.get_models(include_auto_created=True)
            if model._meta.managed  # noqa: SLF001
        }
        | {"django_migrations"}
    )


def rights(role: str, known: list[str]) -> Iterator[str]:
    """Yield the statements that give a role exactly its rights."""
    yield f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}"
    yield f"GRANT USAGE ON SCHEMA public TO {role}"
    for table in known:
        if verbs := _verbs(role, table):
            yield f"GRANT {verbs} ON {table} TO {role}"
        for column in APPEND_ONLY.get(table, ()) if role != READER else ():
            yield f"GRANT UPDATE ({column}) ON {table} TO {role}"
    if role != READER:
        # The doorbell of the live pages is a sequence that triggers read and set.
        yield f"GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO {role}"
        for group in _FOR_HALTS:
            yield f"GRANT {group} TO {role}"


def _verbs(role: str, table: str) -> str:
    about_people = table.startswith(_PEOPLE) and table not in _WRITTEN_BY_ALL
    if role == READER:
        return "" if about_people else "SELECT"
    if table in APPEND_ONLY:
        return "SELECT, INSERT"
    if table == "people_journalhead":
        return "SELECT, INSERT, UPDATE"
    if table == "django_migrations":
        return "SELECT"
    if role == APPLICATION and table.startswith(_SECRET):
        return ""
    if role == APPLICATION and table == _DRAFTS:
        return "SELECT, INSERT"
    if role == APPLICATION and (about_people or table in _RULES):
        return "SELECT"
    return "SELECT, INSERT, UPDATE, DELETE"
