"""Spell two fields of a position as American English does. Their columns keep their names."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations

import exchanges.fields


class Migration(migrations.Migration):
    dependencies: ClassVar = [("orders", "0030_temporary_limits")]

    operations: ClassVar = [
        migrations.AlterField(
            model_name="position",
            name="realised",
            field=exchanges.fields.ExactDecimalField(
                db_column="realised", default=0, verbose_name="realized result"
            ),
        ),
        migrations.RenameField("position", "realised", "realized"),
        migrations.AlterField(
            model_name="position",
            name="day_realised",
            field=exchanges.fields.ExactDecimalField(db_column="day_realised", default=0),
        ),
        migrations.RenameField("position", "day_realised", "day_realized"),
    ]
