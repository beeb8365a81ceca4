"""The gate joins the halt row: it exists from the start."""

from __future__ import annotations

from typing import Any

from django.db import migrations


def create_row(apps: Any, schema_editor: Any) -> None:
    apps.get_model("exchanges", "TradingHalt").objects.get_or_create(id=1)


class Migration(migrations.Migration):
    dependencies = [("exchanges", "0001_initial")]
    operations = [migrations.RunPython(create_row, migrations.RunPython.noop)]
