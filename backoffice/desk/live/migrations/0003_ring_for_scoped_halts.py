"""Ring the open pages when a symbol or a strategy is halted or resumed."""

from __future__ import annotations

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("live", "0002_fills_by_time"),
        ("exchanges", "0020_scoped_halt"),
    ]

    operations = [
        migrations.RunSQL(
            "CREATE TRIGGER desk_ring AFTER INSERT OR UPDATE OR DELETE ON exchanges_scopedhalt"
            " FOR EACH STATEMENT EXECUTE FUNCTION desk_ring('accounts')",
            "DROP TRIGGER desk_ring ON exchanges_scopedhalt",
        )
    ]
