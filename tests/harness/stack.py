"""The folder, PostgreSQL and Redis-compatible server of one test process (one per xdist worker)."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from django.conf import settings
from django.db import connections

from backoffice.databases import database_settings
from tests.harness.migrated import DATABASE, MigratedPostgres
from tests.harness.redis import TestRedis


class Stack:
    """Fixed addresses from the start. The servers start with the first test that needs them."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="backoffice-tests-"))
        self.directory.chmod(
            0o711
        )  # PostgreSQL may run as another user, who must reach its own folder below.
        self.redis = TestRedis(self.directory / "redis")
        self.postgres = MigratedPostgres(self.directory / "postgres")

    def point_django_here(self) -> None:
        """Correct the settings before the first connection. pytest-django loads them too early."""
        from backoffice.celery import app

        database = settings.DATABASES["default"]
        database.clear()
        database.update(database_settings(self.postgres.url(DATABASE)))
        connections.configure_settings(settings.DATABASES)
        assert connections["default"].connection is None, (
            "a connection was opened before the suite chose its database"
        )
        del connections["default"]
        settings.REDIS_URL = settings.CELERY_BROKER_URL = settings.CELERY_RESULT_BACKEND = (
            self.redis.url
        )
        app.conf.update(broker_url=self.redis.url, result_backend=self.redis.url)

    def close(self) -> None:
        connections.close_all()
        self.postgres.stop()
        self.redis.close()
        shutil.rmtree(self.directory, ignore_errors=True)
