"""Take the database back in time: lose rows, or put an older copy in place."""

from __future__ import annotations

from django.apps import apps
from django.core.management.color import no_style
from django.db import connection, transaction
from django.db.models import Model

from orders.models import ExchangeOrder, Fill, Order, OrderEvent, ReconciliationBreak
from tests.steps import as_a_restore

Backup = list[Model]


def take_backup() -> Backup:
    """Return every row of ours as it is now."""
    return [row for model in our_models() for row in model._default_manager.all()]


def restore_backup(backup: Backup, *, disconnect: bool) -> None:
    """Put the older copy in place, with or without cutting the connections of other processes."""
    if disconnect:
        disconnect_others()
    with transaction.atomic(), as_a_restore():
        tables = [model._meta.db_table for model in our_models()]
        with connection.constraint_checks_disabled():
            for statement in connection.ops.sql_flush(no_style(), tables):
                with connection.cursor() as cursor:
                    cursor.execute(statement)
            for model in our_models():
                model._default_manager.bulk_create([row for row in backup if type(row) is model])


def lose(intent_id: str) -> None:
    """Delete everything that we know of one intent."""
    with as_a_restore():
        for model in (OrderEvent, Fill, ExchangeOrder, ReconciliationBreak):
            model._default_manager.filter(order__intent_id=intent_id).delete()
        Order.objects.filter(intent_id=intent_id).delete()


def disconnect_others() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def our_models() -> list[type[Model]]:
    """Return the models of both apps, and those of other apps that refer to them."""
    models = [
        model for app in ("exchanges", "orders") for model in apps.get_app_config(app).get_models()
    ]
    for model in models:  # grows meanwhile, and so finds what refers to the added ones, too
        for field in model._meta.get_fields(include_hidden=True):
            other = field.related_model if field.auto_created else None
            if other is not None and other not in models:
                models.append(other)
    return models
