"""Make the naive project's table in the database of `DATABASE_URL`."""

from __future__ import annotations

import os

import django


def main() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.naive.settings"
    django.setup()
    from django.db import connection

    from tests.benchmarks.naive.models import NaiveOrder

    with connection.schema_editor() as editor:
        editor.create_model(NaiveOrder)


if __name__ == "__main__":
    main()
