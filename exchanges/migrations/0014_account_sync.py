"""Move the stamps of an account into a row of their own, and date its trading state."""

from __future__ import annotations

from typing import ClassVar

import django.db.models.deletion
from django.db import migrations, models

COPY = """
INSERT INTO exchanges_accountsync (account_id, last_synced_at, balances_synced_at)
SELECT id, last_synced_at, balances_synced_at FROM exchanges_exchangeaccount
    ON CONFLICT DO NOTHING
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("exchanges", "0013_account_epoch")]

    operations: ClassVar = [
        migrations.CreateModel(
            name="AccountSync",
            fields=[
                (
                    "account",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="sync",
                        serialize=False,
                        to="exchanges.exchangeaccount",
                        verbose_name="account",
                    ),
                ),
                (
                    "last_synced_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="When the last complete comparison of open orders started.",
                        null=True,
                        verbose_name="last synced at",
                    ),
                ),
                (
                    "balances_synced_at",
                    models.DateTimeField(
                        blank=True,
                        help_text="When the last complete balances were requested.",
                        null=True,
                        verbose_name="balances synced at",
                    ),
                ),
            ],
            options={
                "verbose_name": "account's sync",
                "verbose_name_plural": "accounts' syncs",
            },
        ),
        migrations.RunSQL(COPY, migrations.RunSQL.noop),
        migrations.AddField(
            model_name="exchangeaccount",
            name="trading_state_changed_at",
            field=models.DateTimeField(
                blank=True, editable=False, null=True, verbose_name="trading state changed at"
            ),
        ),
        # The columns stay in the table for workers of the last release that still run.
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.RemoveField(model_name="exchangeaccount", name="last_synced_at"),
                migrations.RemoveField(model_name="exchangeaccount", name="balances_synced_at"),
            ]
        ),
    ]
