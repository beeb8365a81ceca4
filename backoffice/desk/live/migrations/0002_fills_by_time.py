"""Find the fills of the last hour or day. Rows arrive almost in this order, so a BRIN index does."""

from __future__ import annotations

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("live", "0001_doorbell")]

    operations = [
        migrations.RunSQL(
            "CREATE INDEX desk_fill_by_time ON orders_fill USING brin (traded_at)"
            " WITH (pages_per_range = 16, autosummarize = on)",
            "DROP INDEX desk_fill_by_time",
        )
    ]
